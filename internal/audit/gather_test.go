package audit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// crowd is a log with operations under way, of which a test says when they end.
type crowd struct {
	*testing.T
	*held
	log     *audit.Log
	tickets []*record.Ticket
	ended   sync.WaitGroup
}

func newCrowd(t *testing.T, operations int) *crowd {
	c := &crowd{T: t, held: hold(nothing{})}
	c.log = audit.New(c.held, time.Now)
	c.open(operations)
	return c
}

// open has more operations begin.
func (c *crowd) open(n int) {
	for range n {
		ticket, err := c.log.Open(full)
		if err != nil {
			c.Fatal(err)
		}
		c.tickets = append(c.tickets, ticket)
	}
}

// end has some of the operations put their results on record.
func (c *crowd) end(n int) {
	for _, ticket := range c.tickets[:n] {
		c.ended.Go(func() {
			if _, err := c.log.Conclude(context.Background(), ticket, record.Done()); err != nil {
				c.Error(err)
			}
		})
	}
	c.tickets = c.tickets[n:]
	synctest.Wait()
}

// A commit waits for the operations under way while there are several, until half of them have
// come, and for two milliseconds at most.
func TestCommitWaitsForCompanyAndNotForLong(t *testing.T) {
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		underway, first int
		then            int // after a millisecond
		waits           time.Duration
		together        int
	}{
		"a lone caller":           {1, 1, 0, 0, 1},
		"a few":                   {4, 1, 0, 0, 1},
		"nobody comes":            {5, 1, 0, 2 * ms, 1},
		"half of them come":       {7, 1, 3, ms, 4},
		"less than half comes":    {7, 1, 2, 2 * ms, 3},
		"all of a few come":       {4, 4, 0, 0, 1},
		"nobody comes to several": {9, 4, 0, 2 * ms, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, start := newCrowd(t, tc.underway), time.Now()
				c.end(1)
				c.end(tc.first - 1)
				if tc.then != 0 {
					time.Sleep(ms)
					c.end(tc.then)
				}
				if n, waited := <-c.began, time.Since(start); n != tc.together || waited != tc.waits {
					t.Errorf("%d were committed after %v, want %d after %v", n, waited, tc.together, tc.waits)
				}
				c.let <- nil
				for left := tc.first + tc.then - tc.together; left > 0; {
					left -= <-c.began
					c.let <- nil
				}
				c.ended.Wait()
				synctest.Wait()
				if audit.Gathering(c.log) {
					t.Error("somebody still waits")
				}
			})
		})
	}
}

// A commit that is full waits for nobody.
func TestFullCommitWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 1)
		c.end(1)
		first := <-c.began
		c.open(600)
		c.end(300)
		start := time.Now()
		c.let <- nil
		if n, waited := <-c.began, time.Since(start); first != 1 || n != 256 || waited != 0 {
			t.Errorf("%d, and then %d were committed after %v, want 256 at once", first, n, waited)
		}
		c.let <- nil
		<-c.began
		c.let <- nil
		c.ended.Wait()
	})
}

// Operations that work on something slow are not waited for each time: after one commit that
// waited in vain 64 do not wait.
func TestCommitDoesNotWaitInVainEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 10)
		for i := range 2 * 65 {
			start := time.Now()
			c.ended.Go(func() {
				if err := c.log.Note(context.Background(), audit.Lifecycle{Event: "reload"}); err != nil {
					t.Error(err)
				}
			})
			<-c.began
			if waited := time.Since(start); (waited != 0) != (i%65 == 0) {
				t.Errorf("commit %d waited %v", i, waited)
			}
			c.let <- nil
			c.ended.Wait()
			synctest.Wait()
		}
	})
}

// However they come, give up and end, no caller is left waiting and none is counted for ever.
func TestNoCallerIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := audit.New(slow{}, time.Now)
		var all sync.WaitGroup
		for i := range 64 {
			chance := rand.New(rand.NewPCG(7, uint64(i)))
			pause := func() { time.Sleep(time.Duration(chance.IntN(3000)) * time.Microsecond) }
			all.Go(func() {
				for range 100 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(chance.IntN(9000))*time.Microsecond)
					ticket, err := log.Begin(ctx, full)
					if err == nil {
						pause()
						_, err = log.Conclude(ctx, ticket, record.Done())
					}
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					cancel()
					pause()
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second) // a commit may still wait for those who gave up, and be made
		synctest.Wait()
		if n := audit.Underway(log); n != 0 || audit.Gathering(log) {
			t.Errorf("%d operations are still counted as under way", n)
		}
	})
}

// slow is a store that keeps nothing, in some time.
type slow struct{ nothing }

func (s slow) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	time.Sleep(700 * time.Microsecond)
	return s.nothing.Commit(ctx, batch, number)
}

// An operation is under way from its ticket to its first result, however either ends.
func TestOperationIsCountedUntilItEnds(t *testing.T) {
	ctx := context.Background()
	lost := errors.New("connection lost")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	taken := provisioning.NonceEnd{Used: true}
	for name, end := range map[string]func(l *audit.Log, t *record.Ticket, s *swapped) error{
		"done": func(l *audit.Log, t *record.Ticket, _ *swapped) error {
			_, err := l.Conclude(ctx, t, record.Done())
			return err
		},
		"failed": func(l *audit.Log, t *record.Ticket, _ *swapped) error {
			return record.Fail(ctx, l, t, record.Result{Outcome: record.OutcomeFailed})
		},
		"refused, and then failed": func(l *audit.Log, t *record.Ticket, _ *swapped) error {
			return record.Fail(ctx, l, t, record.Result{Outcome: record.OutcomeFailed}, taken)
		},
		"not recorded": func(l *audit.Log, t *record.Ticket, s *swapped) error {
			s.err = lost
			_, err := l.Conclude(ctx, t, record.Done())
			return err
		},
		"caller gone": func(l *audit.Log, t *record.Ticket, _ *swapped) error {
			_, err := l.Conclude(gone, t, record.Done())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, real := newLog(t)
			s := &swapped{Store: real}
			log := audit.New(s, time.Now)
			opened, err := log.Open(full)
			if err != nil {
				t.Fatal(err)
			}
			begun := begin(t, log, full)
			if _, err := log.Begin(ctx, full, taken); err == nil {
				t.Error("begun with a claim that cannot be made")
			}
			same := audit.Underway(log)
			_, _ = end(log, opened, s), end(log, begun, s)
			if n := audit.Underway(log); same != 2 || n != 0 {
				t.Errorf("%d under way, and %d when they had ended", same, n)
			}
		})
	}
}
