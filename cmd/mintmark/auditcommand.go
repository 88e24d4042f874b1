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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/internal/audit"
)

func auditCommand() *cobra.Command {
	return group("audit", "Verify, export and search the audit log",
		auditVerifyCommand(), auditExportCommand(), auditProveCommand(), auditSearchCommand(), auditTailCommand(), auditReportCommand())
}

// logFlags say which logs are read.
type logFlags struct{ config, log string }

const sourceHelp = "SOURCE is a SQLite database, an export, or the URL of a running server's admin listener;\n" +
	"without it the database of --config is read. All of them may be in use meanwhile."

func (f *logFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "configuration `file`, for the database and the pinned checkpoint keys")
	c.Long = c.Short + ".\n\n" + sourceHelp + "\n" + c.Long
}

// registerLog adds the flag for commands that can do with one log.
func (f *logFlags) registerLog(c *cobra.Command, without string) {
	c.Flags().StringVar(&f.log, "log", "", "the `log`, by name or number, of a database that has several; default: "+without)
}

// each calls do with each log that the flags name, and with what its lines begin with where
// there are several.
func (f *logFlags) each(ctx context.Context, log *openLog, do func(l audit.LogInfo, s audit.Source, prefix string) error) error {
	logs, all, err := log.called(ctx, f.log)
	if err != nil {
		return err
	}
	for _, l := range all {
		prefix := ""
		if len(all) > 1 {
			prefix = "log " + l.String() + " "
		}
		if err := do(l, logs.LogAt(l.Number), prefix); err != nil {
			return err
		}
	}
	return nil
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
		Use: "verify [SOURCE]", Short: "Verify all logs against their checkpoints and anchors", Args: cobra.MaximumNArgs(1),
		Long: "\nOf every log of the database: every entry, every checkpoint's signature, results against intents and, in a database,\n" +
			"the business rows against the entries. A database that was rolled back with all its\n" +
			"checkpoints is shown by an anchor alone: give the last one that was kept elsewhere.",
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args) },
	}
	f.register(c)
	c.Flags().StringArrayVar(&f.keys, "key", nil, "public checkpoint key or certificate, PEM `file`; may be repeated; default: the keyring's pins")
	c.Flags().StringArrayVar(&f.anchors, "anchor", nil, "`file` with what an anchor kept: lines of a file anchor or of syslog, or one checkpoint; may be repeated")
	c.Flags().StringVar(&f.origin, "origin", "", "log 0's `name` as in its checkpoints; default: the configuration's, or what the checkpoints say")
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
		Origin: f.origin, Rows: log.rows, Progress: meter.of, MaxUnsigned: 2 * defaultUnsignedAge,
	}
	if _, export := log.logs.(*audit.File); !export { // an export stays as old as it is
		v.Now = time.Now()
	}
	if err := f.trust(&v); err != nil {
		return err
	}
	if v.Anchored, err = readAnchors(f.anchors); err != nil {
		return err
	}
	reports, err := audit.VerifyAll(c.Context(), v, log.logs)
	meter.clear()
	if err != nil {
		return exit(exitStorage, fmt.Errorf("read the log: %w", err))
	}
	return printVerdict(c.OutOrStdout(), reports, len(f.anchors) != 0)
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

// printVerdict says what was found, log by log, and then the verdict on all.
func printVerdict(out io.Writer, r audit.Reports, anchored bool) error {
	for _, l := range r.Logs {
		printReport(out, l, len(r.Logs) > 1)
	}
	if r.Unprovable != 0 {
		fmt.Fprintf(out, "unprovable   %d rows from the time of expired entries\n", r.Unprovable)
	}
	what := "log is"
	if len(r.Logs) > 1 {
		what = fmt.Sprintf("%d logs are", len(r.Logs))
	}
	faults := r.Faults()
	if len(faults) == 0 {
		fmt.Fprintf(out, "verdict      the %s whole\n", what)
		if !anchored {
			fmt.Fprintln(out, "             (no --anchor was given: a database that was rolled back as a whole would look the same)")
		}
		return nil
	}
	for _, f := range faults[:min(len(faults), mostShown)] {
		fmt.Fprintf(out, "FAULT        %s\n", f)
	}
	return fmt.Errorf("the %s NOT whole: %d faults, the first: %s", what, len(faults), faults[0])
}

func printReport(out io.Writer, r audit.LogReport, several bool) {
	name := r.Report.Origin
	if several {
		name = strings.TrimSpace(r.LogInfo.String() + "  " + name)
	}
	fmt.Fprintf(out, "log          %s\nentries      %d (%d expired)\nroot         %s\ncheckpoints  %d verified, %d of them from anchors, covering %d entries\n",
		name, r.Entries, r.Expired, r.Root, r.Checkpoints, r.Anchored, r.Covered)
	switch {
	case r.Tail():
		fmt.Fprintf(out, "open tail    entries %d to %d are under no checkpoint: nobody writes this log, and whoever takes it next signs them\n", r.Covered, r.Entries-1)
	case r.Covered < r.Entries:
		fmt.Fprintf(out, "unsigned     entries %d to %d are under no checkpoint\n", r.Covered, r.Entries-1)
	}
	if n := len(r.Open); n != 0 {
		fmt.Fprintf(out, "open         %d intents without a result: under way, or ended by a crash; nothing of them was released\n", n)
		for _, row := range r.Open[:min(n, mostShown)] {
			fmt.Fprintf(out, "             entry %d, %s, ticket %s\n", row.Seq, row.At.Format(time.RFC3339), row.Ticket)
		}
	}
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
			defer func() { _ = log.Close() }()
			logs, _, err := log.called(c.Context(), f.log)
			if err != nil {
				return err
			}
			out, meter := c.OutOrStdout(), meterTo(c.ErrOrStderr())
			if meterTo(out).to == nil { // or the lines themselves show how far it is
				out = &lineCounter{Writer: out, meter: meter}
			}
			err = audit.ExportAll(c.Context(), logs, out)
			meter.clear()
			return exit(exitStorage, err)
		},
	}
	f.register(c)
	f.registerLog(c, "all, each behind a line that says which it is")
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
			logs, all, err := log.called(c.Context(), f.log)
			if err != nil {
				return err
			}
			if len(all) != 1 {
				return exit(exitUsage, fmt.Errorf("the database has several logs: say by --log which one the entry is in (%s)", names(all)))
			}
			proof, err := audit.Prove(c.Context(), logs.LogAt(all[0].Number), seq)
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), proof)
			return err
		},
	}
	f.register(c)
	f.registerLog(c, "the only one")
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
			if _, err := f.filter(); err != nil {
				return exit(exitUsage, err)
			}
			log, err := f.open(c.Context(), args)
			if err != nil {
				return err
			}
			defer func() { _ = log.Close() }()
			out := bufio.NewWriter(c.OutOrStdout())
			err = f.each(c.Context(), log, func(l audit.LogInfo, s audit.Source, prefix string) error {
				return exit(exitStorage, f.search(c.Context(), out, l, s, prefix))
			})
			return errors.Join(err, out.Flush())
		},
	}
	f.register(c)
	f.registerLog(c, "all, one after the other")
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

// search prints what is wanted of one log.
func (f *auditSearch) search(ctx context.Context, out io.Writer, l audit.LogInfo, s audit.Source, prefix string) error {
	match, err := f.filter()
	if err != nil {
		return err
	}
	if f.json && prefix != "" {
		prefix = ""
		if err := json.NewEncoder(out).Encode(l); err != nil {
			return err
		}
	}
	return audit.Each(ctx, s, 0, func(r audit.Row) error {
		if !match.Matches(r) {
			return nil
		}
		return printRow(out, r, prefix, f.json)
	})
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

func printRow(out io.Writer, r audit.Row, prefix string, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := fmt.Fprintf(out, "%s%s\n", prefix, r)
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
			return exit(exitStorage, f.tail(c.Context(), log, c.OutOrStdout(), n, follow))
		},
	}
	f.register(c)
	f.registerLog(c, "all, so many of each")
	c.Flags().IntVarP(&n, "lines", "n", 10, "how many")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with entries as they come")
	return c
}

// followEvery is how often a log is looked at for new entries.
const followEvery = 500 * time.Millisecond

// tail prints the last n entries of each log and, to follow, what comes in any: logs that are
// made meanwhile from their beginning.
func (f *logFlags) tail(ctx context.Context, log *openLog, out io.Writer, n int, follow bool) error {
	next := map[int]uint64{}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		err := f.each(ctx, log, func(l audit.LogInfo, s audit.Source, prefix string) error {
			if first {
				size, err := s.Size(ctx)
				if err != nil {
					return err
				}
				next[l.Number] = size - min(size, uint64(max(n, 0)))
			}
			return audit.Each(ctx, s, next[l.Number], func(r audit.Row) error {
				next[l.Number] = r.Seq + 1
				return printRow(out, r, prefix, false)
			})
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
