package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/internal/audit"
)

func auditCommand() *cobra.Command {
	return group("audit", "Verify, export and search the audit log",
		auditVerifyCommand(), auditExportCommand(), auditProveCommand(), auditSearchCommand(), auditTailCommand(), auditReportCommand())
}

// logFlags say which log is read.
type logFlags struct{ config string }

const sourceHelp = "SOURCE is a SQLite database, an export, or the URL of a running server's admin listener;\n" +
	"without it the database of --config is read. All of them may be in use meanwhile."

func (f *logFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "configuration `file`, for the database and the pinned checkpoint keys")
	c.Long = c.Short + ".\n\n" + sourceHelp + "\n" + c.Long
}

// auditVerify are the flags of verify.
type auditVerify struct {
	logFlags
	keys    []string
	anchors []string
	origin  string
}

func auditVerifyCommand() *cobra.Command {
	var f auditVerify
	c := &cobra.Command{
		Use: "verify [SOURCE]", Short: "Verify the whole log against its checkpoints and anchors", Args: cobra.MaximumNArgs(1),
		Long: "\nEvery entry, every checkpoint's signature, results against intents and, in a database,\n" +
			"the business rows against the entries. A database that was rolled back with all its\n" +
			"checkpoints is shown by an anchor alone: give the last one that was kept elsewhere.",
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args) },
	}
	f.register(c)
	c.Flags().StringArrayVar(&f.keys, "key", nil, "public checkpoint key or certificate, PEM `file`; may be repeated; default: the keyring's pins")
	c.Flags().StringArrayVar(&f.anchors, "anchor", nil, "`file` with what an anchor kept: lines of a file anchor or of syslog, or one checkpoint; may be repeated")
	c.Flags().StringVar(&f.origin, "origin", "", "the log's `name` as in its checkpoints; default: the configuration's, or what the checkpoints say")
	return c
}

func (f *auditVerify) run(c *cobra.Command, args []string) error {
	log, err := f.open(c.Context(), args)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	meter := meterTo(c.ErrOrStderr())
	v := audit.Verification{
		Source: log.Source, Origin: f.origin, Rows: log.rows, Progress: meter.of, MaxUnsigned: 2 * defaultUnsignedAge,
	}
	if _, export := log.Source.(*audit.File); !export { // an export stays as old as it is
		v.Now = time.Now()
	}
	if err := f.trust(&v); err != nil {
		return err
	}
	if v.Anchored, err = readAnchors(f.anchors); err != nil {
		return err
	}
	report, err := audit.Verify(c.Context(), v)
	meter.clear()
	if err != nil {
		return exit(exitStorage, fmt.Errorf("read the log: %w", err))
	}
	return printReport(c.OutOrStdout(), report, len(f.anchors) != 0)
}

// defaultUnsignedAge is the configuration's, for a log that comes without one.
const defaultUnsignedAge = time.Minute

// trust takes the keys of the flags, and the keyring's if there are none.
func (f *auditVerify) trust(v *audit.Verification) error {
	for _, path := range f.keys {
		spki, err := readSPKI(path)
		if err != nil {
			return exit(exitUsage, fmt.Errorf("--key: %w", err))
		}
		v.Keys = append(v.Keys, spki)
	}
	if f.config != "" {
		if err := trustKeyring(f.config, v, len(f.keys) == 0); err != nil {
			return err
		}
	}
	if len(v.Keys) == 0 && len(v.Pins) == 0 {
		return exit(exitUsage, errors.New("which key signs checkpoints? Give --key, or --config with a keyring that has one"))
	}
	return nil
}

// readAnchors reads all checkpoints of each file.
func readAnchors(paths []string) (map[string][]audit.Checkpoint, error) {
	all := map[string][]audit.Checkpoint{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, exit(exitUsage, fmt.Errorf("--anchor: %w", err))
		}
		kept, err := audit.Anchored(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, exit(exitUsage, fmt.Errorf("--anchor %s: %w", path, err))
		}
		if len(kept) == 0 {
			return nil, exit(exitUsage, fmt.Errorf("--anchor %s: no checkpoint is in it", path))
		}
		all[path] = kept
	}
	return all, nil
}

// mostShown is how many faults and open intents are printed.
const mostShown = 20

func printReport(out io.Writer, r audit.Report, anchored bool) error {
	fmt.Fprintf(out, "log          %s\nentries      %d (%d expired)\nroot         %s\ncheckpoints  %d verified, %d of them from anchors, covering %d entries\n",
		r.Origin, r.Entries, r.Expired, r.Root, r.Checkpoints, r.Anchored, r.Covered)
	if r.Covered < r.Entries {
		fmt.Fprintf(out, "unsigned     entries %d to %d are under no checkpoint\n", r.Covered, r.Entries-1)
	}
	if n := len(r.Open); n != 0 {
		fmt.Fprintf(out, "open         %d intents without a result: under way, or ended by a crash; nothing of them was released\n", n)
		for _, row := range r.Open[:min(n, mostShown)] {
			fmt.Fprintf(out, "             entry %d, %s, ticket %s\n", row.Seq, row.At.Format(time.RFC3339), row.Ticket)
		}
	}
	if r.Unprovable != 0 {
		fmt.Fprintf(out, "unprovable   %d rows from the time of expired entries\n", r.Unprovable)
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(out, "verdict      the log is whole")
		if !anchored {
			fmt.Fprintln(out, "             (no --anchor was given: a database that was rolled back as a whole would look the same)")
		}
		return nil
	}
	for _, f := range r.Faults[:min(len(r.Faults), mostShown)] {
		fmt.Fprintf(out, "FAULT        %s\n", f)
	}
	return fmt.Errorf("the log is NOT whole: %d faults, the first at entry %d", len(r.Faults), r.Faults[0].Seq)
}

func auditExportCommand() *cobra.Command {
	var f logFlags
	c := &cobra.Command{
		Use: "export [SOURCE]", Short: "Write entries and checkpoints as JSON Lines", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			log, err := f.open(c.Context(), args)
			if err != nil {
				return err
			}
			out, meter := c.OutOrStdout(), meterTo(c.ErrOrStderr())
			if meterTo(out).to == nil { // or the lines themselves show how far it is
				out = &lineCounter{Writer: out, meter: meter}
			}
			err = audit.Export(c.Context(), log.Source, out)
			meter.clear()
			return errors.Join(exit(exitStorage, err), log.Close())
		},
	}
	f.register(c)
	return c
}

func auditProveCommand() *cobra.Command {
	var f logFlags
	c := &cobra.Command{
		Use: "prove ENTRY [SOURCE]", Short: "Print the proof that an entry is in the log", Args: cobra.RangeArgs(1, 2),
		Long: "\nThe form is c2sp.org/tlog-proof: inclusion proof and checkpoint, with the leaf's data as\n" +
			"extra data (docs/audit.md).",
		RunE: func(c *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 62)
			if err != nil {
				return exit(exitUsage, errors.New("ENTRY must be a sequence number"))
			}
			log, err := f.open(c.Context(), args[1:])
			if err != nil {
				return err
			}
			defer func() { _ = log.Close() }()
			proof, err := audit.Prove(c.Context(), log.Source, seq)
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), proof)
			return err
		},
	}
	f.register(c)
	return c
}

// auditSearch is what entries are looked for by.
type auditSearch struct {
	logFlags
	tenant, kind, operation, ticket, ref string
	since, until                         string
	json                                 bool
}

func auditSearchCommand() *cobra.Command {
	var f auditSearch
	c := &cobra.Command{
		Use: "search [SOURCE]", Short: "Print the entries that all given conditions hold for", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			match, err := f.filter()
			if err != nil {
				return exit(exitUsage, err)
			}
			log, err := f.open(c.Context(), args)
			if err != nil {
				return err
			}
			defer func() { _ = log.Close() }()
			out := bufio.NewWriter(c.OutOrStdout())
			err = audit.Each(c.Context(), log.Source, 0, func(r audit.Row) error {
				if !match.Matches(r) {
					return nil
				}
				return printRow(out, r, f.json)
			})
			return errors.Join(exit(exitStorage, err), out.Flush())
		},
	}
	f.register(c)
	flags := c.Flags()
	flags.StringVar(&f.tenant, "tenant", "", "the `tenant`")
	flags.StringVar(&f.kind, "kind", "", "intent, result, operation, refusal or lifecycle")
	flags.StringVar(&f.operation, "operation", "", "the `operation`, such as push-provisioning.sign-card; its result is found with it")
	flags.StringVar(&f.ticket, "ticket", "", "the `ticket` of an operation")
	flags.StringVar(&f.ref, "ref", "", "a `value` among the entry's identifiers: a nonce claim, a card's row, a request id, a digest of an output")
	flags.StringVar(&f.since, "since", "", "RFC 3339 `time`")
	flags.StringVar(&f.until, "until", "", "RFC 3339 `time`")
	flags.BoolVar(&f.json, "json", false, "as in an export")
	return c
}

func (f *auditSearch) filter() (*audit.Filter, error) {
	m := &audit.Filter{Tenant: f.tenant, Kind: audit.Kind(f.kind), Operation: f.operation, Ticket: f.ticket, Ref: f.ref}
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"since", f.since, &m.Since}, {"until", f.until, &m.Until}} {
		if t.text == "" {
			continue
		}
		var err error
		if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
			return nil, fmt.Errorf("--%s must be a time such as 2026-11-22T12:00:00Z", t.name)
		}
	}
	return m, nil
}

func printRow(out io.Writer, r audit.Row, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := fmt.Fprintln(out, r)
	return err
}

func auditTailCommand() *cobra.Command {
	var f logFlags
	var n int
	var follow bool
	c := &cobra.Command{
		Use: "tail [SOURCE]", Short: "Print the last entries", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			log, err := f.open(c.Context(), args)
			if err != nil {
				return err
			}
			defer func() { _ = log.Close() }()
			return exit(exitStorage, tail(c.Context(), log.Source, c.OutOrStdout(), n, follow))
		},
	}
	f.register(c)
	c.Flags().IntVarP(&n, "lines", "n", 10, "how many")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with entries as they come")
	return c
}

// followEvery is how often a log is looked at for new entries.
const followEvery = 500 * time.Millisecond

func tail(ctx context.Context, s audit.Source, out io.Writer, n int, follow bool) error {
	size, err := s.Size(ctx)
	if err != nil {
		return err
	}
	next := size - min(size, uint64(max(n, 0)))
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		err := audit.Each(ctx, s, next, func(r audit.Row) error {
			next = r.Seq + 1
			return printRow(out, r, false)
		})
		if err != nil || !follow {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
