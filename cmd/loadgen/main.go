// Command loadgen puts a constant load on a running server, each request freshly signed,
// and says how long the answers took.
//
//	loadgen --dev .mintmark --rate 200 --duration 30s --mix merchant=80,proximity=10,card=10
//	loadgen --target server.json --ca roots.pem --mix pass-issue=1 --rate 100 --json run.json
//
// The load is open: operation n is due at start + n/rate, whatever became of those before
// it, and its time counts from when it was due. A server that stands still for a second is
// seen by all who would have come in that second, and the percentiles show it. Clients that
// ask again only when they were answered (a closed loop, as in package bench) leave out
// exactly the requests that would have waited: coordinated omission. A closed loop finds
// out how much a server can do, an open one how long callers wait at a given load.
//
// Requests are made and signed ahead of their time, so that signing is in nobody's latency.
// The generator says so when it falls behind its own schedule: its figures then hold its own
// waiting, or are those of another load than was asked for.
//
// It is a client like any other: it reads what dev.json says, signs bearer tokens with the
// clients' keys, and shares no code with the server.
//
// Exit status: 0 well; 1 more errors than --max-errors, or no run; 2 usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a fault of who called.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for answers
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "loadgen:", err)
	if errors.As(err, new(usageError)) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailure)
}

// options are the flags.
type options struct {
	dev, target, url, ca string
	mix                  string
	plan                 plan
	maxErrors            int64
	json                 string
}

func newCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "loadgen --dev DIR | --target FILE",
		Short: "Put a constant load on a running server",
		Long: "Sends operations at a constant rate, each request freshly signed, and prints percentiles\n" +
			"of the time from when each was due to the end of its answer. The operations:\n\n" + describeOperations(),
		Args:          func(c *cobra.Command, args []string) error { return asUsage(cobra.NoArgs(c, args)) },
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return asUsage(err) })
	f := c.Flags()
	f.StringVar(&o.dev, "dev", "", "data `directory` of a running mintmark dev")
	f.StringVar(&o.target, "target", "", "`file` in the form of dev.json that says where the server is and whom to be")
	f.StringVar(&o.url, "url", "", "`address` to send to, if not the target's baseUrl")
	f.StringVar(&o.ca, "ca", "", "PEM `file` of the roots that the server's certificate is checked against, if not the system's")
	f.StringVar(&o.mix, "mix", "merchant=80,proximity=10,card=10", "operations and their `weights`")
	f.Float64Var(&o.plan.rate, "rate", 100, "operations a `second`, all together")
	f.DurationVar(&o.plan.duration, "duration", 10*time.Second, "how long operations are begun")
	f.DurationVar(&o.plan.warmup, "warmup", 0, "how long before that they are begun and not counted")
	f.DurationVar(&o.plan.timeout, "timeout", 30*time.Second, "how long an operation may take once it was begun")
	f.IntVar(&o.plan.outstanding, "max-outstanding", 2000, "operations under way at most; those beyond are not sent, and are errors")
	f.Int64Var(&o.maxErrors, "max-errors", 0, "with more errors than this `number` the exit status is 1")
	f.StringVar(&o.json, "json", "", "also write the run to this `file`")
	return c
}

// describeOperations is a line for each operation.
func describeOperations() string {
	var b strings.Builder
	for _, name := range slices.Sorted(operationNames()) {
		fmt.Fprintf(&b, "  %-14s %s\n", name, operations[name].about)
	}
	return b.String()
}

func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// check says what is wrong with the flags.
func (o options) check() error {
	switch {
	case (o.dev == "") == (o.target == ""):
		return errors.New("give one of --dev and --target")
	case o.plan.rate <= 0 || o.plan.duration <= 0 || o.plan.timeout <= 0:
		return errors.New("--rate, --duration and --timeout must be above 0")
	case o.plan.warmup < 0 || o.maxErrors < 0:
		return errors.New("--warmup and --max-errors must not be below 0")
	case o.plan.outstanding < 1:
		return errors.New("--max-outstanding must be above 0")
	case o.plan.due() <= o.plan.early():
		return errors.New("--rate and --duration leave nothing to send")
	}
	return nil
}

func (o options) run(c *cobra.Command) error {
	if err := o.check(); err != nil {
		return asUsage(err)
	}
	shares, err := parseMix(o.mix)
	if err != nil {
		return asUsage(err)
	}
	path := o.target
	if o.dev != "" {
		path = filepath.Join(o.dev, "dev.json")
	}
	target, err := readTarget(path)
	if err != nil {
		return err
	}
	if o.url != "" {
		target.BaseURL = strings.TrimSuffix(o.url, "/")
	}
	client, err := newClient(o.plan.outstanding, o.ca)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	r, err := newTraffic(target, client, o.plan).prepare(c.Context(), shares)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	r.progress = progressTo(c.ErrOrStderr())
	report, err := r.do(c.Context())
	if err != nil {
		return err
	}
	report.Target = target.BaseURL
	return o.tell(c, report)
}

// tell prints the run and says whether it had too many errors.
func (o options) tell(c *cobra.Command, r report) error {
	err := r.writeTable(c.OutOrStdout())
	if o.json != "" {
		err = errors.Join(err, r.writeJSON(o.json))
	}
	if r.Behind {
		fmt.Fprintf(c.ErrOrStderr(), "loadgen: the generator fell behind its own schedule (p99 %.1f ms late, %.1f/s begun of %.1f/s): the times above hold its waiting too\n",
			r.Lag.P99, r.SentPerSecond, r.Rate)
	}
	if n := r.Total.failures(); n > o.maxErrors {
		err = errors.Join(err, fmt.Errorf("%d errors, %d are allowed", n, o.maxErrors))
	}
	return err
}

// progressTo writes progress to a terminal, and nothing to anything else.
func progressTo(w io.Writer) func(format string, a ...any) {
	f, ok := w.(*os.File)
	if !ok {
		return func(string, ...any) {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func(string, ...any) {}
	}
	return func(format string, a ...any) { fmt.Fprintf(w, format, a...) }
}
