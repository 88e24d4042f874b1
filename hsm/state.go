package hsm

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// MemberState is what a member can do at the moment.
type MemberState string

// The states. A module's trouble is every member's behind it: C_Finalize, the one cure
// PKCS#11 has for a lost device, ends the sessions of all its tokens.
const (
	// Ready: logged in, keys proved, known answers right.
	Ready MemberState = "ready"
	// Draining: in trouble; no new work, calls under way are awaited.
	Draining MemberState = "draining"
	// Reinit: being opened anew, with back-off, until it answers.
	Reinit MemberState = "reinit"
	// Wedged: a call does not come back. PKCS#11 has no way to cancel it and C_Finalize
	// under it ends the process: only a new process helps.
	Wedged MemberState = "wedged"
	// Refused: the token refused the PIN. Nothing logs in again until the PIN file is
	// another one, since most tokens lock after a few attempts.
	Refused MemberState = "refused"
)

// Status is a member's state and since when it is in it.
type Status struct {
	Member string
	State  MemberState
	Since  time.Time
	Cause  string // of a state other than Ready
	// LastSignature is when the member last signed and the signature verified; zero if
	// it never did.
	LastSignature time.Time
}

// String is the status in one line.
func (s Status) String() string {
	line := fmt.Sprintf("%s: %s since %s", s.Member, s.State, s.Since.UTC().Format(time.RFC3339))
	if s.Cause != "" {
		line += " (" + s.Cause + ")"
	}
	return line
}

// DownError is returned for work that a member cannot take because of its state. It is
// known at once: nothing was asked of the token.
type DownError struct{ Status Status }

// Error says which member and since when.
func (e *DownError) Error() string { return "HSM member " + e.Status.String() }

// RetryAfter is how long a caller should wait before it tries again.
func (e *DownError) RetryAfter() time.Duration {
	if e.Status.State == Refused {
		return 30 * time.Second
	}
	return 2 * time.Second
}

// Known marks the error as one that was reported when the state changed: who answers a
// request with it need not log it again.
func (e *DownError) Known() bool { return true }

// notOpenYet is the cause before the first attempt, whose failure is a change worth a line.
const notOpenYet = "not open yet"

// condition is what a member can do at the moment, as those see it who want work done. Every
// member has one, also one whose token is in another process.
type condition struct {
	member   string
	log      *slog.Logger
	observer Observer // nil for nobody
	// announce is told of each change, in place of log and observer, unless it is nil.
	announce func(Status)

	// closed is set when Close begins.
	closed atomic.Bool

	state  sync.Mutex // held while the state changes
	status atomic.Pointer[standing]
	signed atomic.Int64 // when it last signed, Unix milliseconds
}

// standing is a member's state and, in one with it, its health: nobody sees a member that is
// ready and does not work, but for one that is being closed.
type standing struct {
	Status
	health context.Context // ends when the member leaves Ready
	end    context.CancelFunc
}

func stand(s Status) *standing {
	now := &standing{Status: s}
	now.health, now.end = context.WithCancel(context.Background())
	if s.State != Ready {
		now.end()
	}
	return now
}

// describe says whose condition it is. The member has not been opened yet.
func (c *condition) describe(cfg Config) {
	c.member, c.log, c.observer = cfg.Name, cfg.Log.With("member", cfg.Name), cfg.Observer
	c.status.Store(stand(Status{Member: cfg.Name, State: Reinit, Since: time.Now(), Cause: notOpenYet}))
}

// Name is the member's name.
func (c *condition) Name() string { return c.member }

// Ready reports nil if the member can take work, without asking the token; otherwise the
// error is a *DownError.
func (c *condition) Ready() error {
	_, err := c.healthy()
	return err
}

// enter changes the member's state: one log line and one observation a change.
func (c *condition) enter(s MemberState, cause error) {
	c.state.Lock()
	defer c.state.Unlock()
	old := c.status.Load()
	now := Status{Member: c.member, State: s, Since: time.Now()}
	if cause != nil {
		now.Cause = cause.Error()
	}
	if old.State == Wedged {
		return
	}
	if old.State == s && old.Cause != notOpenYet { // the same trouble goes on, for a reason that may be another
		now.Since = old.Since
		c.status.Store(&standing{now, old.health, old.end})
		return
	}
	c.status.Store(stand(now))
	old.end()
	level := slog.LevelError
	if s == Ready {
		level = slog.LevelInfo
	}
	if c.announce != nil {
		c.announce(now)
		return
	}
	c.log.Log(context.Background(), level, "HSM member changes state", "from", string(old.State), "to", string(s), "cause", now.Cause)
	if c.observer != nil {
		c.observer.MemberState(c.member, string(s))
	}
}

// Status gives the member's state.
func (c *condition) Status() Status {
	s := c.status.Load().Status
	if ms := c.signed.Load(); ms != 0 {
		s.LastSignature = time.UnixMilli(ms)
	}
	return s
}

// healthy gives a context that ends when the member leaves Ready, or says that it has.
func (c *condition) healthy() (context.Context, error) {
	if c.closed.Load() {
		return nil, errClosed // rather than queue behind Close
	}
	health := c.status.Load().health
	if health.Err() != nil {
		return nil, c.down()
	}
	return health, nil
}

// down says why no work can be taken.
func (c *condition) down() error {
	if c.closed.Load() {
		return errClosed
	}
	return &DownError{c.Status()}
}

// failed is the error of a unit of work that met a fault: the state it led to, and what
// it met.
func (c *condition) failed(err error) error {
	return &unavailable{err: fmt.Errorf("%w: %w", c.down(), err), after: 2 * time.Second}
}
