package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var path string
	var roles []string
	c := &cobra.Command{
		Use: "serve --config FILE", Short: "Run the service", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := loadPlanFor(path, roles, nil)
			if err != nil {
				return err
			}
			if err := p.checkCheckpointKey(); err != nil {
				return err
			}
			ctx := c.Context()
			return serve(ctx, p, func(*service) error { return nil }, func(addresses) error { return supervise(ctx) })
		},
	}
	configFlag(c, &path)
	c.Flags().StringSliceVar(&roles, "roles", nil, "`roles` to serve, in place of the configuration's: issuer, merchant, passes")
	return c
}

// configFlag is the flag that names the configuration file.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "mintmark.yaml", "configuration `file`")
}

// errWedged says that a module hangs for good. Its calls cannot be cancelled and the
// module cannot be finalized under them: only a new process helps.
var errWedged = errors.New("the PKCS#11 module hangs; the supervisor must start this process anew")

// serve opens and runs a service. prepare is called before it listens, ready after.
func serve(ctx context.Context, p *plan, prepare func(*service) error, ready func(addresses) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.warnings()
	collectLess()
	if err := harden(); err != nil {
		p.log.Warn("process not hardened", "error", err)
	}
	wedged := make(chan string, len(p.cfg.HSM.Members)) // each at most once
	s, err := open(ctx, p, func(member string) { wedged <- member })
	if err != nil {
		return err
	}
	go s.awaitWedged(ctx, wedged, stop)
	s.sayUnready(ctx)
	err = prepare(s)
	if err == nil {
		err = s.serve(ctx, ready)
	}
	if cause := context.Cause(ctx); errors.Is(cause, errWedged) {
		// No Close: it would wait for the call that does not come back.
		return exit(exitHSM, errors.Join(cause, err, s.store.Close()))
	}
	return errors.Join(err, s.close())
}

// sayUnready says what to do where no member is ready, and again when each has been tried, if
// that is after the start: only then is it known why.
func (s *service) sayUnready(ctx context.Context) {
	said := s.unready("")
	if said == "" {
		return
	}
	go func() {
		select {
		case <-s.hsm.Tried():
			s.unready(said)
		case <-ctx.Done():
		}
	}()
}

// unready gives why no member is ready, and logs it unless it was said; empty if one is.
func (s *service) unready(said string) string {
	down := s.hsm.Ready()
	if down == nil {
		return ""
	}
	if down.Error() != said {
		s.plan.log.Warn("no HSM member is ready; the service waits for one", "error", down, "advice", adviceOn(down))
	}
	return down.Error()
}

// collectLess lets the heap grow further before it is collected: what lives in it is a few
// MiB and the caches, so that the usual doubling would have it collected ten times a second
// under load. GOGC, if set, stays as it is.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// wedgedEvery is how often a service that has lost a member for good looks whether others
// still serve.
const wedgedEvery = 250 * time.Millisecond

// awaitWedged ends the process, through stop, when a member's module hangs for good and no
// other member can take work: a new process may bring it back, and nobody is served less.
func (s *service) awaitWedged(ctx context.Context, wedged <-chan string, stop context.CancelCauseFunc) {
	var member string
	select {
	case member = <-wedged:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(wedgedEvery)
	defer tick.Stop()
	for s.hsm.Ready() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	stop(fmt.Errorf("%w (member %s)", errWedged, member))
}

// supervised tells systemd, where it is the supervisor, that a reload is under way, and that it
// is over (sd_notify(3), RELOADING=1).
func (s *service) supervised(reload func()) {
	s.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	reload()
	s.tell(daemon.SdNotifyReady)
}

// tellStopping tells systemd, where it is the supervisor, that the stop has begun. One that
// reads nothing does not keep the stop waiting.
func (s *service) tellStopping() {
	told := make(chan struct{})
	go func() {
		defer close(told)
		s.tell(daemon.SdNotifyStopping)
	}()
	select {
	case <-told:
	case <-time.After(time.Second):
	}
}

func (s *service) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.plan.log.Warn("supervisor not told", "state", state, "error", err)
	}
}

// supervise tells systemd, where it is the supervisor, that the service is ready and
// then that it lives, at half the interval of WatchdogSec, until the context ends.
func supervise(ctx context.Context) error {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("notify supervisor: %w", err)
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return err
	}
	go func() {
		tick := time.NewTicker(every / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}()
	return nil
}
