package record

import (
	"context"
	"errors"
	"time"
)

// The time that the writing of a result has.
const (
	concludeWithin = 2 * time.Second  // at least
	unhurried      = 10 * time.Second // for who waits without a deadline: a disk may stall for seconds
)

// Working gives the context of an operation's work in the token, which ends early enough
// for the result to be written before the request's deadline.
func Working(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, deadline.Add(-min(concludeWithin, time.Until(deadline)/4)))
	}
	return context.WithCancel(ctx)
}

// Conclude has r commit a result, also when the caller has gone: the token's work is done,
// and what was done must be on record. A caller who is there waits until his deadline: a
// disk that stalls for some seconds is no reason to make him do all of it again.
func Conclude(ctx context.Context, r Recorder, t *Ticket, res Result, changes ...Change) (*Receipt, error) {
	until := time.Now().Add(concludeWithin)
	switch deadline, ok := ctx.Deadline(); {
	case !ok && ctx.Err() == nil:
		until = time.Now().Add(unhurried)
	case ok && ctx.Err() == nil && deadline.After(until):
		until = deadline
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	return r.Conclude(ctx, t, res, changes...)
}

// Fail has r commit that an operation ended without output. A change that can no longer be
// made, since another has taken what was claimed, does not keep the result off the record.
// Its error says what could not be recorded; a claim then ends with its lease.
func Fail(ctx context.Context, r Recorder, t *Ticket, res Result, changes ...Change) error {
	_, err := Conclude(ctx, r, t, res, changes...)
	if len(changes) > 0 && Refused(err) {
		_, alone := Conclude(ctx, r, t, res)
		err = errors.Join(err, alone)
	}
	return err
}

// Refused reports whether a Recorder's error is that of a change, which cannot be made and
// will not be: a later try is no use.
func Refused(err error) bool {
	var later interface{ RetryAfter() time.Duration }
	return err != nil && !errors.As(err, &later) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}
