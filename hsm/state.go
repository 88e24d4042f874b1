package hsm

import (
	"context"
	"fmt"
	"log/slog"
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

// enter changes the member's state: one log line and one observation a change.
func (t *Token) enter(s MemberState, cause error) {
	t.state.Lock()
	defer t.state.Unlock()
	old := t.status.Load()
	now := Status{Member: t.cfg.Name, State: s, Since: time.Now()}
	if cause != nil {
		now.Cause = cause.Error()
	}
	if old.State == Wedged {
		return
	}
	if old.State == s && old.Cause != notOpenYet { // the same trouble goes on, for a reason that may be another
		now.Since = old.Since
		t.status.Store(&now)
		return
	}
	t.status.Store(&now)
	level := slog.LevelError
	if s == Ready {
		level = slog.LevelInfo
		t.health.Store(newHealth())
	} else {
		t.health.Load().end()
	}
	t.log.Log(context.Background(), level, "HSM member changes state", "from", string(old.State), "to", string(s), "cause", now.Cause)
	if t.cfg.Observer != nil {
		t.cfg.Observer.MemberState(t.cfg.Name, string(s))
	}
}

// Status gives the member's state.
func (t *Token) Status() Status {
	s := *t.status.Load()
	if ms := t.signed.Load(); ms != 0 {
		s.LastSignature = time.UnixMilli(ms)
	}
	return s
}

// healthy gives a context that ends when the member leaves Ready, or says that it has.
func (t *Token) healthy() (context.Context, error) {
	if t.closed.Load() {
		return nil, errClosed // rather than queue behind Close
	}
	h := t.health.Load()
	if h.Err() != nil {
		return nil, t.down()
	}
	return h, nil
}

// down says why no work can be taken.
func (t *Token) down() error {
	if t.closed.Load() {
		return errClosed
	}
	return &DownError{t.Status()}
}
