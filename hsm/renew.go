package hsm

import (
	"context"
	"errors"
	"time"
)

// reopen begins an epoch on a member that has none. The caller holds the machine's op.
func (t *Token) reopen() error {
	defer t.triedOnce.Do(func() { close(t.tried) })
	if t.closed.Load() || t.status.Load().State == Ready {
		return nil
	}
	e, err := t.begin()
	if err == nil {
		err = t.mod.machine.cause() // trouble meanwhile, with a member beside this one
		if err != nil {
			e.retire()
		}
	}
	switch {
	case err == nil:
		t.install(e)
	case errors.Is(err, ErrLoginRefused):
		t.enter(Refused, err)
	default:
		t.enter(Reinit, err)
	}
	return err
}

// install makes e the current epoch and the member ready.
func (t *Token) install(e *epoch) {
	t.remember(e.keys)
	t.gate.Lock()
	t.current.Store(e)
	t.gate.Unlock()
	t.report(e)
	t.enter(Ready, nil)
}

// A module that uses session numbers again may lose the new epoch's sessions when the
// old one's are closed, and then the next. After renewals that follow each other like
// this, finalizing ends it.
const (
	renewalsAtMost = 5
	renewalsWithin = time.Second
)

var errNoEnd = errors.New("sessions are lost again and again")

// refresh opens a new epoch in place of old, which lost its sessions, its login or its
// handles. Of any number of callers one does it; the others wait and find it done. Its
// error means that the member is in trouble.
func (t *Token) refresh(ctx context.Context, old *epoch) error {
	return t.settle(t.renew(ctx, old, true))
}

// settle gives the outcome of a renewal its meaning.
func (t *Token) settle(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrBusy), errors.Is(err, ErrClosed), errors.As(err, new(*DownError)): // known
		return err
	case errors.Is(err, errLoginBusy):
		return &unavailable{err: err, after: time.Second}
	default:
		t.Restart(err)
		return t.failed(err)
	}
}

// renew opens a new epoch in place of old, unless somebody has. lost says that it is because
// old lost something, which must not happen again and again.
func (t *Token) renew(ctx context.Context, old *epoch, lost bool) error {
	limit := time.NewTimer(t.cfg.CallTimeout)
	defer limit.Stop()
	select {
	case t.mod.machine.op <- struct{}{}:
	case <-t.status.Load().health.Done():
		return t.down()
	case <-limit.C:
		return &unavailable{err: ErrBusy, after: time.Second}
	case <-ctx.Done():
		return &unavailable{err: ErrBusy, after: time.Second}
	}
	defer func() { <-t.mod.machine.op }()
	if t.closed.Load() {
		return errClosed
	}
	if t.current.Load() != old {
		return nil
	}
	stuck := time.AfterFunc(t.cfg.beginTimeout(t.wanted.Load()), func() { t.Restart(errStuck) })
	defer stuck.Stop()
	// No work is under way from here on. The old epoch's own sessions are closed before
	// new ones are opened; crypto11's must be after, or it would finalize the module.
	t.gate.Lock()
	defer t.gate.Unlock()
	if lost && t.renewedTooOften(time.Now()) {
		return errNoEnd
	}
	old.ro.close()
	e, err := t.begin()
	if err != nil {
		return err
	}
	t.remember(e.keys)
	t.current.Store(e)
	old.retire()
	t.report(e)
	return nil
}

// renewedTooOften remembers a renewal, and reports whether they follow each other without
// end. The caller holds the machine's op.
func (t *Token) renewedTooOften(now time.Time) bool {
	t.renewals = append(t.renewals, now)
	if len(t.renewals) <= renewalsAtMost {
		return false
	}
	t.renewals = t.renewals[1:]
	return now.Sub(t.renewals[0]) < renewalsWithin
}

// beginTimeout bounds the making of an epoch, which is many calls, and more with more
// keys.
func (c Config) beginTimeout(ring *Keyring) time.Duration {
	return 3*c.CallTimeout + loginWithin + time.Duration(len(ring.Keys))*100*time.Millisecond
}

var errStuck = errors.New("a call has not come back in time")

// watch quarantines the module if the returned timer is not stopped in time, and lets
// the waiting caller go.
func (t *Token) watch(stuck chan<- struct{}) *time.Timer {
	return time.AfterFunc(t.cfg.CallTimeout, func() {
		t.Restart(errStuck)
		select {
		case stuck <- struct{}{}:
		default: // it has been let go
		}
	})
}
