package main

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stub is an HTTP server that serves one request at a time, in the test's own time: nothing
// waits for real, and every figure is exact.
type stub struct {
	// takes says how long the nth request takes, and its status.
	takes func(n int) (time.Duration, int)
	turn  chan struct{}
	n     int // has the turn
	conns chan net.Conn
	stop  sync.Once
}

// ServeHTTP gives up with the caller.
func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.turn <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	defer func() { <-s.turn }()
	s.n++
	d, status := s.takes(s.n)
	select {
	case <-time.After(d):
		w.WriteHeader(status)
	case <-r.Context().Done():
	}
}

// Accept, Close and Addr make it a listener of connections in memory.
func (s *stub) Accept() (net.Conn, error) {
	c, ok := <-s.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (s *stub) Close() error   { s.stop.Do(func() { close(s.conns) }); return nil }
func (s *stub) Addr() net.Addr { return &net.UnixAddr{Name: "stub"} }

// load puts a load on the stub, of operations that mk makes.
func (s *stub) load(p plan, mk maker) (report, error) {
	return s.loadUntil(context.Background(), p, mk)
}

// loadUntil is load until ctx ends.
func (s *stub) loadUntil(ctx context.Context, p plan, mk maker) (report, error) {
	s.turn, s.conns = make(chan struct{}, 1), make(chan net.Conn)
	server := &http.Server{Handler: s}
	ended := make(chan error)
	go func() { ended <- server.Serve(s) }()
	transport := &http.Transport{MaxIdleConnsPerHost: p.outstanding, DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		s.conns <- theirs
		return ours, nil
	}}
	r := newRun(p, clientOver(transport), "http://stub", []share{{"jwks", 1}})
	r.makers[0] = mk
	out, err := r.do(ctx)
	transport.CloseIdleConnections()
	_ = server.Close()
	<-ended
	return out, err
}

// get is an operation that takes no time to make.
func get(uint64) ([]request, error) { return (*traffic)(nil).jwks(0) }

// within allows for the histogram's three digits.
func within(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > want/500+0.01 {
		t.Errorf("%s: %.2f, want %.2f", what, got, want)
	}
}

// A pause of half a second is seen by the fifty requests that were due in it, each for as
// long as it had to wait. A client that waited for its answers would have seen one.
func TestPauseIsSeenByAllWhoWereDueInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{takes: func(n int) (time.Duration, int) {
			if n == 500 {
				return 500 * time.Millisecond, http.StatusOK
			}
			return 0, http.StatusOK
		}}
		r, err := s.load(plan{rate: 100, duration: 10 * time.Second, timeout: time.Minute, outstanding: 1000}, get)
		if err != nil {
			t.Fatal(err)
		}
		got := r.Total.Latency
		within(t, "p50", got.P50, 0)
		within(t, "p90", got.P90, 0)
		within(t, "p99: the eleventh longest of a thousand", got.P99, 400)
		within(t, "max", got.Max, 500)
		if r.Total.OK != 1000 || r.Total.failures() != 0 || r.Behind {
			t.Errorf("%+v", r)
		}
		within(t, "sent a second", r.SentPerSecond, 100)
		within(t, "done a second", r.DonePerSecond, 100)
	})
}

// A server that does half of what is asked gets further behind with each request, and the
// last waits for as long as it took to do all.
func TestLoadBeyondCapacityQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{takes: func(int) (time.Duration, int) { return 20 * time.Millisecond, http.StatusOK }}
		r, err := s.load(plan{rate: 100, duration: 10 * time.Second, timeout: time.Minute, outstanding: 1000}, get)
		if err != nil {
			t.Fatal(err)
		}
		within(t, "p50", r.Total.Latency.P50, 5010)
		within(t, "max", r.Total.Latency.Max, 20_000-9990)
		within(t, "sent a second", r.SentPerSecond, 100)
		within(t, "done a second", r.DonePerSecond, 50)
		if r.Total.OK != 1000 || r.Behind {
			t.Errorf("%+v", r)
		}
	})
}

// What is not done is counted by what it was, and is in the times of no success.
func TestErrorsAreCountedByWhatTheyWere(t *testing.T) {
	constant := func(d time.Duration, status int) func(int) (time.Duration, int) {
		return func(int) (time.Duration, int) { return d, status }
	}
	everyFourth := func(n int) (time.Duration, int) {
		if n%4 == 0 {
			return time.Millisecond, http.StatusServiceUnavailable
		}
		return 0, http.StatusOK
	}
	usual := plan{rate: 100, duration: time.Second, timeout: time.Minute, outstanding: 1000}
	slow := usual
	slow.timeout = 500 * time.Millisecond
	few := usual
	few.outstanding = 5
	for name, c := range map[string]struct {
		takes  func(int) (time.Duration, int)
		plan   plan
		ok     int64
		errors map[string]int64
		failed float64 // the longest
	}{
		"by status":                        {everyFourth, usual, 75, map[string]int64{"503": 25}, 1},
		"a redirect is no answer":          {constant(0, http.StatusFound), usual, 0, map[string]int64{"302": 100}, 0},
		"no answer in time":                {constant(time.Hour, http.StatusOK), slow, 0, map[string]int64{faultTimeout: 100}, 500},
		"more under way than there may be": {constant(40*time.Second, http.StatusOK), few, 1, map[string]int64{faultNotSent: 95, faultTimeout: 4}, 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stub{takes: c.takes}
				r, err := s.load(c.plan, get)
				if err != nil {
					t.Fatal(err)
				}
				if r.Total.OK != c.ok || len(r.Total.Errors) != len(c.errors) || r.Total.failures() != 100-c.ok {
					t.Errorf("%d done, errors %v", r.Total.OK, r.Total.Errors)
				}
				for fault, n := range c.errors {
					if r.Total.Errors[fault] != n {
						t.Errorf("%s: %d, want %d", fault, r.Total.Errors[fault], n)
					}
				}
				within(t, "the longest failure", r.Total.Failed.Max, c.failed)
			})
		})
	}
}

// What the warm-up sends is sent, and is in no figure.
func TestWarmUpIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{takes: func(n int) (time.Duration, int) {
			if n == 1 {
				return 300 * time.Millisecond, http.StatusOK
			}
			return 0, http.StatusOK
		}}
		r, err := s.load(plan{rate: 10, warmup: time.Second, duration: 2 * time.Second, timeout: time.Minute, outstanding: 100}, get)
		if err != nil {
			t.Fatal(err)
		}
		if s.n != 30 || r.Total.OK != 20 || r.Sent != 20 || r.Total.Latency.Max > 0.01 {
			t.Errorf("%d requests, %+v", s.n, r)
		}
		within(t, "sent a second", r.SentPerSecond, 10)
	})
}

// A generator that cannot make its requests in time says so: the wait is its own, and is
// counted all the same.
func TestGeneratorThatFallsBehindSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := make(chan struct{}, 1)
		s := &stub{takes: func(int) (time.Duration, int) { return 0, http.StatusOK }}
		r, err := s.load(plan{rate: 100, duration: 3 * time.Second, timeout: time.Minute, outstanding: 1000}, func(uint64) ([]request, error) {
			busy <- struct{}{}
			defer func() { <-busy }()
			time.Sleep(20 * time.Millisecond)
			return get(0)
		})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Behind || r.Total.OK != 300 || r.Total.Latency.Max < 1000 || r.Lag.Max < 1000 {
			t.Errorf("%+v", r)
		}
	})
}

// An operation that cannot be made ends the run with its error.
func TestOperationThatCannotBeMadeEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the key is gone")
		s := &stub{takes: func(int) (time.Duration, int) { return 0, http.StatusOK }}
		_, err := s.load(plan{rate: 100, duration: time.Second, timeout: time.Minute, outstanding: 10}, func(n uint64) ([]request, error) {
			if n > 50 {
				return nil, broken
			}
			return get(0)
		})
		if !errors.Is(err, broken) {
			t.Errorf("ended with %v", err)
		}
	})
}

// A run that is ended early has the figures of what was sent, and in its warm-up none.
func TestEndedRunSaysWhatWasSent(t *testing.T) {
	for after, want := range map[time.Duration]error{500 * time.Millisecond: errNothing, 2 * time.Second: nil} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			s := &stub{takes: func(int) (time.Duration, int) { return 0, http.StatusOK }}
			r, err := s.loadUntil(ctx, plan{rate: 10, warmup: time.Second, duration: time.Minute, timeout: time.Minute, outstanding: 10}, get)
			if !errors.Is(err, want) {
				t.Fatalf("after %v: %v", after, err)
			}
			if want == nil && (r.Sent < 9 || r.Sent > 11 || r.Total.OK != int64(r.Sent) || r.Behind) {
				t.Errorf("after %v: %+v", after, r)
			}
		})
	}
}
