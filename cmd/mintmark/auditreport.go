package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/report"
	"github.com/mintmark/mintmark/signer"
)

// reportOptions are the flags of audit report.
type reportOptions struct {
	config   string
	form     string
	admin    string
	anchors  []string
	logs     []string
	canaries string
	records  []string

	meter *meter
}

func auditReportCommand() *cobra.Command {
	var o reportOptions
	c := &cobra.Command{
		Use: "report", Short: "Make the signed report for auditors", Args: cobra.NoArgs,
		Long: "Reads the tokens, the audit log, the database, the host and, if it runs, the service;\n" +
			"tries on disposable keys what no key may allow; and prints twelve items (A1 to A12),\n" +
			"each PASS, FAIL or NOT SUPPORTED with its evidence, as one signed note. Ends with status\n" +
			"1 if an item fails. docs/report.md has the items and how to verify a report.",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.form != "json" && o.form != "html" {
				return exit(exitUsage, errors.New("-o must be json or html"))
			}
			return o.run(c)
		},
	}
	configFlag(c, &o.config)
	f := c.Flags()
	f.StringVarP(&o.form, "output", "o", "json", "json or html")
	f.StringVar(&o.admin, "admin", "", "`address` of the running service's admin listener; default: the configuration's")
	f.StringArrayVar(&o.anchors, "anchor", nil, "`file` with what an anchor kept, beside the configured files; may be repeated")
	f.StringArrayVar(&o.logs, "log", nil, "log `file` in which to look for card numbers; may be repeated")
	f.StringVar(&o.canaries, "canaries", "", "`file` of card numbers that went through the service, one a line: they are looked for in every form")
	f.StringArrayVar(&o.records, "record", nil, "transcript `file` of a ceremony (mintmark ceremony run), for how keys came to be; may be repeated")
	c.AddCommand(auditReportVerifyCommand())
	return c
}

func (o *reportOptions) run(c *cobra.Command) error {
	if err := harden(); err != nil {
		return err
	}
	p, err := loadPlan(o.config)
	if err != nil {
		return err
	}
	scanner, err := o.scanner()
	if err != nil {
		return exit(exitUsage, err)
	}
	ctx := c.Context()
	tokens, err := openMembers(ctx, p)
	if err != nil {
		return err
	}
	o.meter = meterTo(c.ErrOrStderr())
	made, text, err := o.make(ctx, p, tokens, scanner)
	o.meter.clear()
	if err := errors.Join(err, tokens.close()); err != nil {
		return err
	}
	if _, err := io.WriteString(c.OutOrStdout(), text); err != nil {
		return err
	}
	if made.Verdict == report.Fail {
		return errors.New("the report has items that FAIL")
	}
	return nil
}

// make makes and signs the report.
func (o *reportOptions) make(ctx context.Context, p *plan, tokens openedMembers, scanner *report.Scanner) (report.Report, string, error) {
	gate, key, spki, err := tokens.signer()
	if err != nil {
		return report.Report{}, "", err
	}
	facts := report.Facts{
		Now: time.Now(), Environment: p.cfg.Environment, Production: p.cfg.Environment == config.Production,
		Origin: p.cfg.Origin(), Key: key, SPKI: spki, Host: hostState(), Build: buildState(), Listeners: listenerFacts(p.cfg),
	}
	o.meter.step("reading the tokens, and trying what they must refuse")
	facts.Members = tokens.facts(ctx)
	facts.Service, facts.ServiceErr = o.service(ctx, p)
	o.meter.step("verifying the audit log")
	facts.Log = o.logFacts(ctx, p)
	o.meter.step("looking for card numbers")
	facts.Scans = o.scans(ctx, p, scanner)
	for _, path := range o.records {
		facts.Records = append(facts.Records, recordFacts(path, p.keyring))
	}
	r := report.Make(facts)
	text, err := r.JSON()
	if o.form == "html" {
		text, err = r.HTML()
	}
	if err != nil {
		return r, "", err
	}
	signed, err := report.Sign(ctx, gate, r, text)
	return r, signed, exit(exitHSM, err)
}

// scanner reads the canaries.
func (o *reportOptions) scanner() (*report.Scanner, error) {
	if o.canaries == "" {
		return report.NewScanner(nil)
	}
	f, err := os.Open(o.canaries)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if n := strings.TrimSpace(lines.Text()); n != "" {
			all = append(all, n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return report.NewScanner(all)
}

// openedMembers are the configured tokens, opened as far as they can be.
type openedMembers []openedMember

type openedMember struct {
	cfg   hsm.Config
	token *hsm.Token
	err   error
}

// openMembers opens every member with the whole keyring.
func openMembers(ctx context.Context, p *plan) (openedMembers, error) {
	configs, err := memberConfigs(p, p.keyring, nil)
	if err != nil {
		return nil, err
	}
	var all openedMembers
	for _, cfg := range configs {
		m := openedMember{cfg: cfg}
		m.token, m.err = hsm.Open(ctx, cfg)
		all = append(all, m)
	}
	return all, nil
}

func (all openedMembers) close() error {
	closing, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	var errs []error
	for _, m := range all {
		if m.err == nil {
			errs = append(errs, exit(exitHSM, m.token.Close(closing)))
		}
	}
	return errors.Join(errs...)
}

// signer gives the gate to the first member that can sign the report, and the key.
func (all openedMembers) signer() (gate *signer.Gate, name string, spki []byte, err error) {
	var why error
	for _, m := range all {
		if m.err != nil {
			why = errors.Join(why, fmt.Errorf("member %s: %w", m.cfg.Name, m.err))
			continue
		}
		key, err := m.token.Active(hsm.AuditReport)
		if err != nil {
			why = errors.Join(why, fmt.Errorf("member %s: %w", m.cfg.Name, err))
			continue
		}
		pub, err := m.token.Public(key.Name)
		if err != nil {
			return nil, "", nil, exit(exitHSM, err)
		}
		spki, err := x509.MarshalPKIXPublicKey(pub)
		return signer.New(m.token), key.Name, spki, err
	}
	return nil, "", nil, exit(exitHSM, fmt.Errorf("nothing can sign the report (mintmark keys generate --purpose %s --name NAME --write): %w", hsm.AuditReport, why))
}

// reportVerify are the flags of audit report verify.
type reportVerify struct {
	config string
	keys   []string
	text   bool
}

func auditReportVerifyCommand() *cobra.Command {
	var f reportVerify
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify a report's signature, offline", Args: cobra.ExactArgs(1),
		Long: "Needs the public audit-report key, or the keyring with its pin. Says who signed what and\n" +
			"when; with --text prints what was signed, and nothing if it was not. The verdict of the\n" +
			"report is printed and is not this command's status.",
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	c.Flags().StringVar(&f.config, "config", "", "configuration `file`, for the log's name and the keyring's pins")
	c.Flags().StringArrayVar(&f.keys, "key", nil, "public audit-report key or certificate, PEM `file`; may be repeated")
	c.Flags().BoolVar(&f.text, "text", false, "print the verified text, JSON or HTML, without the signature")
	return c
}

func (f *reportVerify) run(c *cobra.Command, path string) error {
	trust, err := f.trust()
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return exit(exitUsage, err)
	}
	signed, err := io.ReadAll(io.LimitReader(file, 2*report.MaxText))
	if err := errors.Join(err, file.Close()); err != nil {
		return exit(exitUsage, err)
	}
	v, err := report.Verify(string(signed), trust)
	if err != nil {
		return fmt.Errorf("%s is NOT verified: %w", path, err)
	}
	if f.text {
		_, err := io.WriteString(c.OutOrStdout(), v.Text)
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "report     %s\nmade       %s\nsigned by  spki-sha256:%s\nverdict    %s\nsignature  verified\n",
		v.Name, v.At.UTC().Format(time.RFC3339), v.Pin, v.Verdict)
	return err
}

func (f *reportVerify) trust() (report.Trust, error) {
	var t report.Trust
	for _, path := range f.keys {
		spki, err := readSPKI(path)
		if err != nil {
			return t, exit(exitUsage, fmt.Errorf("--key: %w", err))
		}
		t.Keys = append(t.Keys, spki)
	}
	if f.config != "" {
		cfg, ring, err := loadRing(f.config)
		if err != nil {
			return t, err
		}
		t.Name, t.Pins = cfg.Origin()+"/report", spkiPins(ring, hsm.AuditReport)
	}
	if len(t.Keys) == 0 && len(t.Pins) == 0 {
		return t, exit(exitUsage, errors.New("which key signs reports? Give --key, or --config with a keyring that has one"))
	}
	return t, nil
}
