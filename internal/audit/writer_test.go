package audit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/store"
)

// held is a store that a test holds up: each commit waits to be let through, with an
// error of the test's choice.
type held struct {
	audit.Store
	began chan int // the number of appends in the transaction
	let   chan error
	after bool // the error comes after the commit: its outcome is not known
}

func hold(s audit.Store) *held {
	return &held{Store: s, began: make(chan int), let: make(chan error)}
}

func (h *held) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	h.began <- len(batch)
	err := <-h.let
	if err != nil && !h.after {
		return err
	}
	return errors.Join(err, h.Store.Commit(ctx, batch, number))
}

func line(i int) audit.Entry {
	return audit.Entry{At: kept, Kind: audit.KindIntent, Ticket: "t", Tenant: "bank", Body: fmt.Appendf(nil, `{"n":%d}`, i)}
}

// What queues up while one transaction is committed goes into the next, whole.
func TestWhatQueuesUpIsCommittedTogether(t *testing.T) {
	_, s := newLog(t)
	h := hold(s)
	w := audit.NewWriter(h, time.Now)
	var all sync.WaitGroup
	add := func(i int) {
		all.Go(func() {
			if _, err := w.Append(context.Background(), line(i), nil); err != nil {
				t.Error(err)
			}
		})
	}
	add(0)
	if n := <-h.began; n != 1 {
		t.Fatalf("the first transaction has %d entries", n)
	}
	for i := range 40 {
		add(i + 1)
	}
	for audit.Queued(w) < 40 {
		time.Sleep(time.Millisecond)
	}
	h.let <- nil
	if n := <-h.began; n != 40 {
		t.Errorf("the second transaction has %d entries, want 40", n)
	}
	h.let <- nil
	all.Wait()
	requireWhole(t, s, 41)
}

// requireWhole requires that the log's entries, numbers and hashes are those of a tree
// made anew, and that the store's head is its head.
func requireWhole(t testing.TB, s *store.Store, n int) {
	t.Helper()
	rows, err := s.Rows(context.Background(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != n {
		t.Errorf("%d entries, want %d", len(rows), n)
	}
	tree := audit.NewTree(0, nil)
	for _, r := range rows {
		if diff := cmp.Diff(audit.NewRow(r.Entry, tree), r); diff != "" {
			t.Fatalf("entry %d: %s", r.Seq, diff)
		}
	}
	if head, err := s.Head(context.Background()); err != nil || !head.Equal(tree) {
		t.Errorf("head %v, %v", head, err)
	}
}

// A caller who is gone takes its entry back as long as nothing has begun.
func TestEntryOfACallerWhoIsGoneIsTakenBack(t *testing.T) {
	_, s := newLog(t)
	h := hold(s)
	w := audit.NewWriter(h, time.Now)
	first, second := make(chan error), make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, err := w.Append(context.Background(), line(0), nil); first <- err }()
	<-h.began
	go func() { _, err := w.Append(ctx, line(1), nil); second <- err }()
	for audit.Queued(w) < 1 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	var later interface{ RetryAfter() time.Duration }
	if err := <-second; !errors.As(err, &later) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	h.let <- nil
	if err := <-first; err != nil {
		t.Error(err)
	}
	requireWhole(t, s, 1)
}

// Once its transaction has begun, an entry of a caller who hangs up is known to whoever has to
// end what it began; a deadline is kept all the same.
func TestOutcomeOfWhatHasBegun(t *testing.T) {
	_, s := newLog(t)
	h := hold(s)
	w := audit.NewWriter(h, time.Now)
	got := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, err := w.Append(ctx, line(0), nil); got <- err }()
	<-h.began
	cancel()
	h.let <- nil
	if err := <-got; err != nil {
		t.Errorf("who hung up: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	go func() { _, err := w.Append(overdue{ctx}, line(1), nil); got <- err }()
	<-h.began
	cancel()
	var later interface{ RetryAfter() time.Duration }
	if err := <-got; !errors.As(err, &later) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whose time is over: %v", err)
	}
	h.let <- nil
	for audit.Busy(w) {
		time.Sleep(time.Millisecond)
	}
	requireWhole(t, s, 2) // the second stands, unknown to its caller
}

// overdue is a context that ends because its deadline is over, when the test cancels it.
type overdue struct{ context.Context }

func (o overdue) Err() error {
	if o.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// An error after the commit leaves the outcome unknown: the next look finds out, and the
// log goes on from there.
func TestUnknownOutcomeIsFoundOut(t *testing.T) {
	for name, after := range map[string]bool{"not committed": false, "committed": true} {
		t.Run(name, func(t *testing.T) {
			_, s := newLog(t)
			h := hold(s)
			h.after = after
			w := audit.NewWriter(h, time.Now)
			lost := errors.New("connection lost")
			want := 0
			for i, fault := range []error{nil, lost, nil, lost, lost, nil} {
				got := make(chan error)
				go func() { _, err := w.Append(context.Background(), line(i), nil); got <- err }()
				<-h.began
				h.let <- fault
				if err := <-got; !errors.Is(err, fault) {
					t.Errorf("append %d: %v, want %v", i, err, fault)
				}
				if fault == nil || after {
					want++
				}
				requireWhole(t, s, want)
			}
		})
	}
}

// A database that is not what was written to it is written to no more, until it is.
func TestDatabaseThatWasChangedIsNotWrittenTo(t *testing.T) {
	_, s := newLog(t)
	_, other := newLog(t)
	swap := &swapped{Store: s}
	w := audit.NewWriter(swap, time.Now)
	appendLine := func() error { _, err := w.Append(context.Background(), line(0), nil); return err }
	for range 3 {
		if err := appendLine(); err != nil {
			t.Fatal(err)
		}
	}
	swap.Store, swap.err = other, errors.New("connection lost")
	if err := appendLine(); !errors.Is(err, swap.err) {
		t.Fatal(err)
	}
	swap.err = nil
	for range 2 {
		if err := appendLine(); !errors.Is(err, audit.ErrChanged) {
			t.Errorf("error %v, want ErrChanged", err)
		}
	}
	requireWhole(t, other, 0)
	swap.Store = s
	if err := appendLine(); err != nil {
		t.Error(err)
	}
	requireWhole(t, s, 4)
}

// Who was refused in a transaction that failed is told of the failure: what refused him
// may have been in it.
func TestRefusalWithinAFailedTransactionIsItsFailure(t *testing.T) {
	_, s := newLog(t)
	lost := errors.New("connection lost")
	w := audit.NewWriter(refusing{s, lost}, time.Now)
	if _, err := w.Append(context.Background(), line(0), nil); !errors.Is(err, lost) {
		t.Errorf("error %v, want %v", err, lost)
	}
}

// refusing refuses each append of a transaction that then fails.
type refusing struct {
	audit.Store
	err error
}

func (r refusing) Commit(_ context.Context, batch []*audit.Append, _ func([]*audit.Append) []audit.Row) error {
	for _, a := range batch {
		a.Refuse(errors.New("used"))
	}
	return r.err
}

type swapped struct {
	audit.Store
	err error
}

func (s *swapped) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	if s.err != nil {
		number(batch)
		return s.err
	}
	return s.Store.Commit(ctx, batch, number)
}

// A queue that is full answers at once and says when to come back.
func TestFullQueueAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(nothing{})
		w := audit.NewWriter(h, time.Now)
		answers := make(chan error, 6000)
		for i := range 6000 {
			go func() { _, err := w.Append(context.Background(), line(i), nil); answers <- err }()
		}
		<-h.began
		synctest.Wait()
		full := len(answers)
		if full == 0 {
			t.Error("nobody was told that the queue is full")
		}
		for range full {
			var later interface{ RetryAfter() time.Duration }
			if err := <-answers; !errors.As(err, &later) {
				t.Errorf("error %v", err)
			}
		}
		committed := 0
		for committed < 6000-full {
			h.let <- nil
			synctest.Wait()
			for range len(answers) {
				if err := <-answers; err != nil {
					t.Error(err)
				}
				committed++
			}
			if committed < 6000-full {
				<-h.began
			}
		}
	})
}

// nothing is a store that keeps nothing.
type nothing struct{ audit.Store }

func (nothing) Head(context.Context) (*audit.Tree, error) { return audit.NewTree(0, nil), nil }
func (nothing) Commit(_ context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	number(batch)
	return nil
}
