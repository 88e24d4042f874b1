package record_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/record"
)

// recorder is a Recorder whose Conclude is a function.
type recorder struct {
	record.Recorder
	conclude func(ctx context.Context, res record.Result, changes []record.Change) error
}

func (r recorder) Conclude(ctx context.Context, t *record.Ticket, res record.Result, changes ...record.Change) (*record.Receipt, error) {
	if err := r.conclude(ctx, res, changes); err != nil {
		return nil, err
	}
	return record.IssueReceipt(t, res), nil
}

// A result is written within the request's time: a quarter of it is kept for that, and two
// seconds at most.
func TestWorkLeavesTimeForTheRecord(t *testing.T) {
	for given, kept := range map[time.Duration]time.Duration{
		time.Minute: 2 * time.Second, 15 * time.Second: 2 * time.Second, 8 * time.Second: 2 * time.Second,
		4 * time.Second: time.Second, time.Second: 250 * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), given)
			defer cancel()
			working, done := record.Working(ctx)
			defer done()
			deadline, ok := working.Deadline()
			if left := time.Until(deadline); !ok || left != given-kept {
				t.Errorf("of %v the work gets %v", given, left)
			}
		})
	}
	working, cancel := record.Working(t.Context())
	if _, ok := working.Deadline(); ok || working.Err() != nil {
		t.Error("a deadline out of nothing")
	}
	cancel()
	if working.Err() == nil {
		t.Error("the work goes on")
	}
}

func TestWorkOfACallerWhoIsGoneIsOver(t *testing.T) {
	for _, limit := range []time.Duration{time.Minute, -time.Minute} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		cancel()
		working, done := record.Working(ctx)
		if working.Err() == nil {
			t.Errorf("limit %v: the work goes on", limit)
		}
		done()
	}
}

// What the token did is on record, whether or not the caller waits for it; but nobody waits
// for a database for ever.
func TestResultIsRecordedForACallerWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for limit, want := range map[time.Duration]time.Duration{0: 2 * time.Second, time.Minute: 2 * time.Second} { // 0: no deadline
			ctx, cancel := context.WithCancel(t.Context())
			if limit != 0 {
				ctx, cancel = context.WithTimeout(t.Context(), limit)
			}
			cancel()
			tk := ticket("1", record.SignCard)
			held := hold(tk, "tav", "output")
			slow := recorder{conclude: func(ctx context.Context, _ record.Result, _ []record.Change) error {
				deadline, ok := ctx.Deadline()
				if !ok || time.Until(deadline) != want || ctx.Err() != nil {
					t.Errorf("of %v: the record has until %v, %v", limit, deadline, ctx.Err())
				}
				return nil
			}}
			receipt, err := record.Conclude(ctx, slow, tk, record.Done(held.Digest()))
			if out, released := held.Release(receipt); err != nil || released != nil || string(out) != "output" {
				t.Errorf("of %v: %q, %v, %v", limit, out, err, released)
			}
			hung := recorder{conclude: func(ctx context.Context, _ record.Result, _ []record.Change) error { <-ctx.Done(); return ctx.Err() }}
			began := time.Now()
			if receipt, err := record.Conclude(ctx, hung, tk, record.Done()); receipt != nil || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != want {
				t.Errorf("of %v: %v, %v after %v", limit, receipt, err, time.Since(began))
			}
		}
	})
}

// A disk that stalls longer than the time set aside for the record fails nothing whose
// request still has time; a request that is short of it gets what is set aside.
func TestStallThatEndsBeforeTheDeadlineIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stall := recorder{conclude: func(ctx context.Context, _ record.Result, _ []record.Change) error {
			select {
			case <-time.After(5 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		for limit, want := range map[time.Duration]struct {
			took time.Duration
			err  error
		}{
			0:                {5 * time.Second, nil}, // no deadline
			15 * time.Second: {5 * time.Second, nil},
			4 * time.Second:  {4 * time.Second, context.DeadlineExceeded},
			time.Second:      {2 * time.Second, context.DeadlineExceeded},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			if limit != 0 {
				ctx, cancel = context.WithTimeout(ctx, limit)
			}
			began := time.Now()
			_, err := record.Conclude(ctx, stall, ticket("1", record.SignCard), record.Done())
			if took := time.Since(began); took != want.took || !errors.Is(err, want.err) {
				t.Errorf("of %v: %v after %v, want %v after %v", limit, err, took, want.err, want.took)
			}
			cancel()
		}
	})
}

// change is a Change of no domain.
type change string

func (change) IsChange() {}

var errTaken = errors.New("taken by another")

type awayError struct{}

func (awayError) Error() string             { return "database away" }
func (awayError) RetryAfter() time.Duration { return time.Second }

// How an operation ended is recorded with its changes, and without them where they can no
// longer be made; a database that is away is not asked twice.
func TestFailureIsRecordedAlsoWithoutItsChanges(t *testing.T) {
	for name, test := range map[string]struct {
		changes []record.Change
		errs    []error // of each attempt
		tries   []int   // the number of changes of each attempt
		want    []error
	}{
		"recorded":                       {[]record.Change{change("a"), change("b")}, []error{nil}, []int{2}, nil},
		"nothing to change":              {nil, []error{nil}, []int{0}, nil},
		"a change is refused":            {[]record.Change{change("a")}, []error{errTaken, nil}, []int{1, 0}, []error{errTaken}},
		"a change is refused, then away": {[]record.Change{change("a")}, []error{errTaken, awayError{}}, []int{1, 0}, []error{errTaken, awayError{}}},
		"away":                           {[]record.Change{change("a")}, []error{awayError{}}, []int{1}, []error{awayError{}}},
		"too late":                       {[]record.Change{change("a")}, []error{context.DeadlineExceeded}, []int{1}, []error{context.DeadlineExceeded}},
		"refused without a change":       {nil, []error{errTaken}, []int{0}, []error{errTaken}},
	} {
		t.Run(name, func(t *testing.T) {
			var tries []int
			r := recorder{conclude: func(_ context.Context, res record.Result, changes []record.Change) error {
				if res.Outcome != record.OutcomeFailed || res.Reason != "x" {
					t.Errorf("recorded %+v", res)
				}
				tries = append(tries, len(changes))
				return test.errs[len(tries)-1]
			}}
			err := record.Fail(t.Context(), r, ticket("1", record.SignCard), record.Result{Outcome: record.OutcomeFailed, Reason: "x"}, test.changes...)
			if diff := cmp.Diff(test.tries, tries); diff != "" {
				t.Errorf("changes of each attempt: %s", diff)
			}
			if (err == nil) != (test.want == nil) {
				t.Fatalf("error is %v", err)
			}
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("error %v does not say %v", err, want)
				}
			}
		})
	}
}

func TestOnlyAChangesOwnErrorIsARefusal(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"none":                    {nil, false},
		"a change's own":          {errTaken, true},
		"a change's own, wrapped": {fmt.Errorf("record result: %w", errTaken), true},
		"database away":           {fmt.Errorf("record result: %w", awayError{}), false},
		"both":                    {errors.Join(errTaken, awayError{}), false},
		"too late":                {fmt.Errorf("commit: %w", context.DeadlineExceeded), false},
		"caller gone":             {context.Canceled, false},
	} {
		if got := record.Refused(test.err); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A ticket knows whether its intent is on record yet; either is good for its operation.
func TestDeferredTicketIsATicket(t *testing.T) {
	in := record.Intent{Operation: record.SignMerchantToken, Tenant: "bank-a"}
	later, now := record.IssueDeferredTicket("1", in), record.IssueTicket("1", in)
	if !later.Deferred() || now.Deferred() {
		t.Errorf("deferred: %v, %v", later.Deferred(), now.Deferred())
	}
	for _, tk := range []*record.Ticket{later, now} {
		if tk.ID() != "1" || tk.Intent().Tenant != "bank-a" || tk.Use(record.SignMerchantToken, "token") != nil {
			t.Errorf("ticket %+v", tk)
		}
		if err := tk.Use(record.SignMerchantToken, "token"); !errors.Is(err, record.ErrNoTicket) {
			t.Errorf("used twice: %v", err)
		}
	}
	if err := record.IssueDeferredTicket("", in).Use(record.SignMerchantToken, "token"); !errors.Is(err, record.ErrNoTicket) {
		t.Errorf("without an id: %v", err)
	}
}
