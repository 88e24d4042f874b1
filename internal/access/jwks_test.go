package access_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// These tests run in bubbles of testing/synctest: their time is not the world's, a
// Sleep takes none, and a goroutine that is left behind fails the test.

func TestKeySetIsFetchedWhenItIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry(), curveEntry()), MaxAge: time.Hour}}
		s := opened(t, o)
		fetched(t, o, 0)
		for range 3 {
			has(t, s, kid)
			has(t, s, "curve")
		}
		lacks(t, s, "") // it is one of two
		fetched(t, o, 1)
		if st := s.Status(); st.Keys != 2 || st.PassedOver != 0 || st.Err != nil || !st.Confirmed.Equal(time.Now()) {
			t.Errorf("status %+v", st)
		}
	})
}

// It is fetched again after its max-age, but not before a minute and not after an hour.
func TestKeySetIsRefreshed(t *testing.T) {
	for maxAge, due := range map[time.Duration]time.Duration{
		0: time.Minute, time.Second: time.Minute, 5 * time.Minute: 5 * time.Minute, time.Hour: time.Hour, 30 * 24 * time.Hour: time.Hour, -time.Hour: time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{answer: access.Fetched{Body: set(entry()), MaxAge: maxAge}}
			s := opened(t, o)
			has(t, s, kid)
			time.Sleep(due - time.Nanosecond)
			has(t, s, kid)
			fetched(t, o, 1)
			time.Sleep(time.Nanosecond)
			has(t, s, kid)
			fetched(t, o, 2)
			time.Sleep(due)
			has(t, s, kid)
			fetched(t, o, 3)
		})
	}
}

// Who calls while a due set is fetched does not wait for it: these calls come back
// although the answer is held until they have.
func TestOldKeysServeWhileNewOnesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry("kid", `"old"`))}}
		s := opened(t, o)
		has(t, s, "old")
		hold := make(chan struct{})
		o.set(func(o *origin) { o.hold, o.answer.Body = hold, set(entry("kid", `"new"`)) })
		time.Sleep(time.Minute)
		begun := time.Now()
		for range 5 {
			has(t, s, "old")
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		fetched(t, o, 2)
		close(hold)
		synctest.Wait()
		has(t, s, "new")
		fetched(t, o, 2)
		lacks(t, s, "old")
	})
}

func TestUnchangedKeySetIsConfirmedByItsETag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry()), ETag: `"1"`, MaxAge: 5 * time.Minute}}
		s := opened(t, o)
		for range 4 {
			has(t, s, kid)
			time.Sleep(5 * time.Minute)
		}
		o.set(func(o *origin) { o.answer = access.Fetched{Body: set(curveEntry()), ETag: `"2"`} })
		has(t, s, kid)
		synctest.Wait()
		has(t, s, "curve")
		time.Sleep(time.Minute)
		has(t, s, "curve")
		synctest.Wait()
		if want := []string{"", `"1"`, `"1"`, `"1"`, `"1"`, `"2"`}; !slices.Equal(o.asked, want) {
			t.Errorf("asked with %q, want %q", o.asked, want)
		}
		if age := time.Since(s.Status().Confirmed); age != 0 {
			t.Errorf("confirmed %v ago", age)
		}
	})
}

// A new key works as soon as the owner publishes it, at the price of one request each
// half minute, however many made-up kids there are.
func TestUnknownKidIsAskedForOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry()), MaxAge: time.Hour}}
		s := opened(t, o)
		has(t, s, kid)
		o.set(func(o *origin) { o.answer.Body = set(entry(), entry("kid", `"next"`)) })
		for i := range 300 { // half a minute
			lacks(t, s, fmt.Sprint("made-up-", i))
			time.Sleep(100*time.Millisecond - 1)
		}
		fetched(t, o, 1)
		time.Sleep(time.Second)
		has(t, s, "next")
		fetched(t, o, 2)
		for i := range 100 {
			lacks(t, s, fmt.Sprint("made-up-", i))
		}
		fetched(t, o, 2)
	})
}

func TestManyAskForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		o := &origin{answer: access.Fetched{Body: set(entry())}, hold: hold}
		s := opened(t, o)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if _, err := s.Key(t.Context(), []string{kid, "made-up"}[i%2]); errors.Is(err, access.ErrUnknownKey) != (i%2 == 1) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		fetched(t, o, 1)
	})
}

// A key set that cannot be had keeps its keys for a day, and is asked for gently.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry()), MaxAge: time.Hour}}
		s := opened(t, o)
		has(t, s, kid)
		begun := time.Now()
		o.set(func(o *origin) { o.err = errors.New("connection refused") })
		for time.Since(begun) < 24*time.Hour {
			has(t, s, kid)
			time.Sleep(10 * time.Second)
		}
		// An hour without, then one request every 30 s.
		if n := o.requests(); n < 2000 || n > 1+23*120+1 {
			t.Errorf("%d requests in 24 h", n)
		}
		if st := s.Status(); st.Err == nil || !strings.Contains(st.Err.Error(), "connection refused") || st.Keys != 1 {
			t.Errorf("status %+v", st)
		}
		if after := unavailable(t, s); after <= 0 || after > 30*time.Second {
			t.Errorf("retry after %v", after)
		}
		before := o.requests()
		for range 10 {
			unavailable(t, s)
		}
		if o.requests() > before {
			t.Error("each call is a request")
		}
		o.set(func(o *origin) { o.err = nil })
		time.Sleep(unavailable(t, s))
		has(t, s, kid)
		if st := s.Status(); st.Err != nil {
			t.Errorf("status %+v", st)
		}
	})
}

func TestKeySetThatNeverWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{err: errors.New("no such host")}
		s := opened(t, o)
		if after := unavailable(t, s); after != 30*time.Second {
			t.Errorf("retry after %v", after)
		}
		time.Sleep(29 * time.Second)
		if after := unavailable(t, s); after != time.Second {
			t.Errorf("retry after %v", after)
		}
		fetched(t, o, 1)
		o.set(func(o *origin) { o.err, o.answer.Body = nil, set(entry()) })
		time.Sleep(time.Second)
		has(t, s, kid)
	})
}

// After a pause a withdrawn key is not taken once more while the set is fetched; but
// when the set cannot be had, the pause makes nobody wait twice.
func TestLongPauseIsFollowedByAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry(), curveEntry())}}
		s := opened(t, o)
		has(t, s, kid)
		o.set(func(o *origin) { o.answer.Body = set(curveEntry()) })
		time.Sleep(2 * time.Hour)
		lacks(t, s, kid)
		fetched(t, o, 2)

		o.set(func(o *origin) { o.err = errors.New("timeout") })
		time.Sleep(2 * time.Hour)
		has(t, s, "curve")
		fetched(t, o, 3)
		hold := make(chan struct{})
		o.set(func(o *origin) { o.hold = hold })
		time.Sleep(time.Hour)
		begun := time.Now()
		has(t, s, "curve") // the answer is held
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		fetched(t, o, 4)
		close(hold)
	})
}

func TestCallerThatGoesAwayDoesNotEndTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		o := &origin{answer: access.Fetched{Body: set(entry())}, hold: hold}
		s := opened(t, o)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Key(ctx, kid)
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error is %v", err)
		}
		close(hold)
		has(t, s, kid)
		fetched(t, o, 1)
	})
}

func TestFetchEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{hold: make(chan struct{})} // never answers
		s := opened(t, o)
		begun := time.Now()
		unavailable(t, s)
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// One that does not end is not joined by a second.
func TestOneFetchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		o := &origin{answer: access.Fetched{Body: set(entry())}, hold: hold, deaf: true}
		s := opened(t, o)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = s.Key(ctx, kid) })
			time.Sleep(time.Minute)
		}
		fetched(t, o, 1)
		cancel()
		wg.Wait()
		close(hold)
		has(t, s, kid)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{answer: access.Fetched{Body: set(entry())}}
		s := opened(t, o)
		has(t, s, kid)
		o.set(func(o *origin) { o.hold = make(chan struct{}) })
		time.Sleep(time.Minute)
		has(t, s, kid)
		fetched(t, o, 2)
		begun := time.Now()
		s.Close() // ends the one under way, which nobody answers
		s.Close()
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Hour)
		has(t, s, kid)
		lacks(t, s, "other")
		fetched(t, o, 2)
		time.Sleep(24 * time.Hour)
		unavailable(t, s)

		never := opened(t, &origin{})
		never.Close()
		unavailable(t, never)
	})
}
