package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// answer is what a unit of work gave.
type answer[T any] struct {
	value T
	err   error
	calls time.Duration // time spent in the token
	panic any           // what the work panicked with, if it did
}

// run admits one unit of work through a lane, carries it through what can be cured, and
// reports it. The work is done in another goroutine, which keeps the place in the
// lane until the module gives it back: a caller whose time is up leaves without it.
// Whatever fn uses must therefore be its own, not the caller's to overwrite: own is, and
// is overwritten when the work is over, as is an answer that nobody took.
//
// An error that a later try may not meet carries RetryAfter.
func run[T any](ctx context.Context, t *Token, l *lane, op string, fn func(e *epoch) (T, error), own ...[]byte) (T, error) {
	asked := time.Now()
	var none T
	healthy, err := t.healthy()
	if err == nil {
		err = t.admit(ctx, l, healthy)
	}
	if err != nil {
		wipeAll(own)
		t.observe(op, l, time.Since(asked), 0, outcome(err))
		return none, fmt.Errorf("%s: %w", op, err)
	}
	span.Event(ctx, admitted)
	queued := time.Since(asked)
	stuck, left, done := make(chan struct{}, 1), make(chan struct{}), make(chan answer[T])
	l.hands.do(healthy, func() {
		defer l.leave()
		var a answer[T]
		defer func() {
			a.panic = recover() // it is the caller's, who has a place to let it go
			wipeAll(own)
			select {
			case done <- a:
			case <-left:
				if b, ok := any(a.value).([]byte); ok {
					secret.Wipe(b)
				}
			}
		}()
		a = attempt(ctx, t, fn, stuck)
	})
	over, stop := later(healthy, t.cfg.CallTimeout, left)
	defer stop()
	var a answer[T]
	select {
	case a = <-done:
	case <-stuck:
		a.err = t.down()
	case <-t.mod.machine.gone:
		a.err = t.down()
	case <-over: // trouble elsewhere; what is under way had its time
		a.err = t.down()
	case <-ctx.Done():
		a.err = &unavailable{err: errLate, after: time.Second}
	}
	close(left)
	if a.panic != nil {
		panic(a.panic)
	}
	t.observe(op, l, queued, a.calls, outcome(a.err))
	if a.err != nil {
		return none, fmt.Errorf("%s: %w", op, a.err)
	}
	return a.value, nil
}

func wipeAll(buffers [][]byte) {
	for _, b := range buffers {
		secret.Wipe(b)
	}
}

// later gives a channel that is closed d after healthy ends, unless left is before.
func later(healthy context.Context, d time.Duration, left <-chan struct{}) (over chan struct{}, stop func() bool) {
	over = make(chan struct{})
	stop = context.AfterFunc(healthy, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			close(over)
		case <-left:
		}
	})
	return over, stop
}

// errLate is returned to a caller whose time is up while the token works for it.
var errLate = errors.New("no answer from the token before the deadline")

// work is run with a session at hand.
func work[T any](ctx context.Context, t *Token, op string, fn func(u *unit) (T, error), own ...[]byte) (T, error) {
	return run(ctx, t, t.ec, op, func(e *epoch) (T, error) {
		var v T
		err := e.withSession(func(u *unit) (err error) {
			v, err = fn(u)
			return err
		})
		return v, err
	}, own...)
}

// admit waits for a place, as long as the caller has time and the member is healthy.
func (c *condition) admit(ctx context.Context, l *lane, healthy context.Context) error {
	if ctx.Err() != nil || !l.slots.TryAcquire(1) { // there is no place without waiting for it
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(healthy, cancel)()
		if err := l.enter(waiting); err != nil {
			if healthy.Err() != nil {
				return c.down()
			}
			return err
		}
	}
	if c.closed.Load() {
		l.leave()
		return errClosed
	}
	return nil
}

// attempt does the work, once or twice: what a class of error allows is cured first.
// Every unit of work may be repeated whole: a signature, or a whole key agreement with a
// new ephemeral key.
func attempt[T any](ctx context.Context, t *Token, fn func(e *epoch) (T, error), stuck chan<- struct{}) answer[T] {
	a, e := once(t, fn, stuck)
	if a.err == nil || e == nil {
		return a
	}
	if err := t.cure(ctx, e, a.err, stuck); err != nil {
		a.err = err
		return a
	}
	again, _ := once(t, fn, stuck)
	again.calls += a.calls
	if again.err != nil {
		again.err = t.judge(again.err)
	}
	return again
}

// once does the work one time, and says in which epoch; nil if there was none.
func once[T any](t *Token, fn func(e *epoch) (T, error), stuck chan<- struct{}) (answer[T], *epoch) {
	e, err := t.use()
	if err != nil {
		return answer[T]{err: err}, nil
	}
	defer t.done()
	began := time.Now()
	defer t.watch(stuck).Stop()
	var a answer[T]
	a.value, a.err = fn(e)
	a.calls = time.Since(began)
	return a, e
}

// cure does what the class of an error allows before the work is repeated. Its error is
// the work's: it must not be repeated.
func (t *Token) cure(ctx context.Context, e *epoch, err error, stuck chan<- struct{}) error {
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	switch known.Class() {
	case ClassSession, ClassLogin:
		return t.refresh(ctx, e)
	case ClassSuspect:
		// The code alone proves nothing. If a signature of our own fails too, it does.
		probe, _ := once(t, func(e *epoch) (struct{}, error) { return struct{}{}, e.probe() }, stuck)
		switch {
		case probe.err == nil:
			return nil
		case classify(probe.err) == ClassExhausted: // nothing was asked of the token
			return &unavailable{err: err, after: time.Second}
		}
		t.Restart(fmt.Errorf("%w, and a probe failed: %w", err, probe.err))
		return t.failed(err)
	default:
		return t.judge(err)
	}
}

// judge gives the final error of a unit of work its meaning.
func (t *Token) judge(err error) error {
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	switch known.Class() {
	case ClassRequest:
		return err
	case ClassDevice:
		t.Restart(err)
		return t.failed(err)
	default:
		return &unavailable{err: err, after: time.Second}
	}
}

// outcome is a unit of work's label in metrics.
func outcome(err error) string {
	var known *Error
	var down *DownError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &known):
		return known.Class().String()
	case errors.As(err, &down), errors.Is(err, ErrClosed):
		return "down"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, errLate):
		return "late"
	default:
		return ClassRequest.String()
	}
}

func (c *condition) observe(op string, l *lane, queued, inToken time.Duration, outcome string) {
	if c.observer != nil {
		c.observer.TokenCall(op, string(l.name), queued, inToken, outcome)
	}
}
