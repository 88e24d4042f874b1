package access_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

// wallClock is a clock that a test moves.
type wallClock struct{ after atomic.Int64 }

func (c *wallClock) now() time.Time           { return noon.Add(time.Duration(c.after.Load())) }
func (c *wallClock) advance(by time.Duration) { c.after.Add(int64(by)) }

func TestCallsAreCountedAgainstTheRateOfTheClient(t *testing.T) {
	limited, free := bank(), desk()
	limited.Rate = access.Rate{PerSecond: 2, Burst: 3}
	var clock wallClock
	v, err := access.NewVerifier([]access.Client{limited, free}, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	one, other := access.Caller{Issuer: limited.Issuer, Subject: "a"}, access.Caller{Issuer: limited.Issuer, Subject: "b"}
	unlimited := access.Caller{Issuer: free.Issuer}
	for _, step := range []struct {
		advance time.Duration
		caller  access.Caller
		after   time.Duration // 0: admitted
	}{
		{0, one, 0}, {0, other, 0}, {0, one, 0}, // the burst
		{0, one, 500 * time.Millisecond},
		{0, other, 500 * time.Millisecond},
		{200 * time.Millisecond, one, 300 * time.Millisecond},
		{0, unlimited, 0},
		{300 * time.Millisecond, one, 0},
		{0, one, 500 * time.Millisecond},
		{time.Hour, one, 0}, {0, one, 0}, {0, one, 0}, // no more than the burst is saved up
		{0, one, 500 * time.Millisecond},
	} {
		clock.advance(step.advance)
		err := v.Admit(step.caller)
		var rate *access.RateError
		if step.after == 0 {
			if err != nil {
				t.Fatalf("at %v: %v", clock.now(), err)
			}
			continue
		}
		if !errors.As(err, &rate) || (rate.RetryAfter()-step.after).Abs() > time.Microsecond {
			t.Fatalf("at %v: %v, want %v", clock.now(), err, step.after)
		}
	}
	for range 1000 {
		if err := v.Admit(unlimited); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Admit(access.Caller{}); access.ReasonOf(err) != access.ReasonUnknownIssuer {
		t.Errorf("nobody: %v", err)
	}
}

// Who waits as long as he was told is admitted.
func TestRetryAfterIsEnough(t *testing.T) {
	for _, rate := range []access.Rate{{PerSecond: 3, Burst: 1}, {PerSecond: 0.1, Burst: 2}, {PerSecond: 1e5, Burst: 1}} {
		c := bank()
		c.Rate = rate
		var clock wallClock
		v, err := access.NewVerifier([]access.Client{c}, clock.now)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			err := v.Admit(access.Caller{Issuer: issuer})
			var late *access.RateError
			if errors.As(err, &late) {
				if late.RetryAfter() <= 0 {
					t.Fatalf("%+v: retry after %v", rate, late.RetryAfter())
				}
				clock.advance(late.RetryAfter() + time.Nanosecond)
				err = v.Admit(access.Caller{Issuer: issuer})
			}
			if err != nil {
				t.Fatalf("%+v: %v", rate, err)
			}
		}
	}
}

func TestOfManyCallsAtOnceTheBurstIsAdmitted(t *testing.T) {
	c := bank()
	c.Rate = access.Rate{PerSecond: 1, Burst: 7}
	v := verifierOf(t, c)
	var admitted atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if v.Admit(access.Caller{Issuer: issuer}) == nil {
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 7 {
		t.Errorf("%d were admitted", admitted.Load())
	}
}
