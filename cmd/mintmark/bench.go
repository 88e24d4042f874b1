package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/hsm"
)

// benchOptions say which token is measured, and for how long.
type benchOptions struct {
	module, label, pinFile string
	seconds                float64
	rounds                 int
	clients                []int
	json                   string
}

func benchCommand() *cobra.Command {
	var o benchOptions
	c := &cobra.Command{
		Use:   "bench --module FILE --token-label LABEL --pin-file FILE",
		Short: "Measure a token: raw in C, and through mintmark's gate",
		Long: "Makes keys of its own in the token, measures signatures and sealed cards in a raw loop\n" +
			"in C and through mintmark's gate with its record, in turn, prints the table, and\n" +
			"destroys the keys, also when it fails or is interrupted. It uses no key that it did not\n" +
			"make, takes no keyring, and destroys by the CKA_IDs that it made. Killed with -9 it\n" +
			"leaves keys whose label begins with " + benchPrefix + "; doctor lists them as not listed.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runBench(c, o) },
	}
	tokenFlags(c, &o.module, &o.label, &o.pinFile)
	c.Flags().Float64Var(&o.seconds, "seconds", 120, "`seconds` for all measurements together")
	c.Flags().IntVar(&o.rounds, "rounds", 3, "how often everything is measured; medians count")
	c.Flags().IntSliceVar(&o.clients, "clients", []int{1, 8, 32}, "`numbers` of clients at once")
	c.Flags().StringVar(&o.json, "json", "", "also write the run to this `file`, for bench/compare")
	c.AddCommand(benchRawCommand(), benchDestroyCommand())
	return c
}

// tokenFlags are the flags that name a token.
func tokenFlags(c *cobra.Command, module, label, pinFile *string) {
	c.Flags().StringVar(module, "module", "", "PKCS#11 `library`")
	c.Flags().StringVar(label, "token-label", "", "`label` of the token")
	c.Flags().StringVar(pinFile, "pin-file", "", "`file` with the user PIN, mode 0400 or 0600")
	for _, name := range []string{"module", "token-label", "pin-file"} {
		_ = c.MarkFlagRequired(name) // the flag is there
	}
}

// benchPrefix begins the labels of the keys that bench makes.
const benchPrefix = "mintmark-bench-"

func runBench(c *cobra.Command, o benchOptions) (err error) {
	ctx := c.Context()
	if o.rounds < 1 || o.seconds <= 0 || len(o.clients) == 0 || slices.Min(o.clients) < 1 {
		return exit(exitUsage, errors.New("--seconds, --rounds and --clients must all be above 0"))
	}
	ring, meter := &hsm.Keyring{Environment: "test"}, meterTo(c.ErrOrStderr())
	defer func() {
		meter.step("destroying the keys")
		defer meter.clear()
		// The keys go whatever happened. Who interrupts does not mean to leave them.
		if left := o.destroy(context.WithoutCancel(ctx), ring); left != nil {
			err = errors.Join(err, exit(exitHSM, fmt.Errorf("keys whose label begins with %s may be left on the token: %w", benchPrefix, left)))
		}
	}()
	meter.step("making keys to measure with")
	if err := o.makeKeys(ctx, ring); err != nil {
		return exit(exitHSM, fmt.Errorf("make keys to measure with: %w", err))
	}
	token, err := hsm.Open(ctx, o.config(ring))
	if err != nil {
		return exit(exitHSM, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		err = errors.Join(err, exit(exitHSM, token.Close(closing)))
	}()
	info, err := token.Info(ctx)
	if err != nil {
		return exit(exitHSM, err)
	}
	g, err := newBenchGate(ctx, token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	subjects, err := o.subjects(ctx, token, g, ring)
	if err != nil {
		return err
	}
	plan := bench.Plan{Clients: o.clients, Rounds: o.rounds}
	plan.Each = time.Duration(o.seconds / float64(o.rounds*plan.Points(subjects)) * float64(time.Second))
	r := bench.Report{
		At: time.Now(), Machine: bench.Machine(), Seconds: plan.Each.Seconds(), Rounds: plan.Rounds,
		What: fmt.Sprintf("mintmark %s, token %s %s (%s), key derivation %s", version, info.Model, info.Firmware, info.Library, token.KDF()),
	}
	r.Rows, err = bench.Run(subjects, plan, func(round int) { meter.step("round %d of %d", round+1, plan.Rounds) })
	meter.clear()
	if err != nil {
		return exit(exitHSM, err)
	}
	return errors.Join(r.WriteMarkdown(c.OutOrStdout()), writeRun(o.json, r))
}

// writeRun writes a run as JSON, if a file is named.
func writeRun(path string, r bench.Report) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteJSON(f), f.Close())
}

// config is the configuration of the token with these keys.
func (o benchOptions) config(ring *hsm.Keyring) hsm.Config {
	return hsm.Config{Name: benchMember, Module: o.module, TokenLabel: o.label, PINFile: o.pinFile, Keyring: ring, Log: slog.New(slog.DiscardHandler)}
}

// benchMember is the name under which the token is opened.
const benchMember = "bench"

// makeKeys makes a key of each purpose that is measured, and lists it in ring as soon as it
// is there, so that what was made before an error is known.
func (o benchOptions) makeKeys(ctx context.Context, ring *hsm.Keyring) error {
	token, err := hsm.Open(ctx, o.config(&hsm.Keyring{Environment: ring.Environment}))
	if err != nil {
		return err
	}
	run := strings.ToLower(newName())
	for _, p := range []hsm.Purpose{hsm.MerchantJWT, hsm.ProximityToken, hsm.TAVSigning, hsm.CardIndex, hsm.CardVault} {
		var k hsm.Key
		if k, _, err = token.Generate(ctx, hsm.NewKey{Name: benchPrefix + run + "-" + string(p), Purpose: p}, time.Now()); err != nil {
			break
		}
		ring.Keys = append(ring.Keys, k)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	return errors.Join(err, token.Close(closing))
}

// destroy destroys the keys of ring, in a process of its own: this one's use of the module
// may be why it has to be done.
func (o benchOptions) destroy(ctx context.Context, ring *hsm.Keyring) error {
	if len(ring.Keys) == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"bench", "destroy"}
	for _, k := range ring.Keys {
		args = append(args, "--id", k.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, append(args, o.token()...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a second Ctrl-C is not for it
	var complaint strings.Builder
	cmd.Stdout, cmd.Stderr = io.Discard, &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// token are the flags that name the token.
func (o benchOptions) token() []string {
	return []string{"--module", o.module, "--token-label", o.label, "--pin-file", o.pinFile}
}
