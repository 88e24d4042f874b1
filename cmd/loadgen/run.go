package main

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mintmark/mintmark/bench"
)

// plan is how much load there is.
type plan struct {
	rate        float64       // operations a second
	duration    time.Duration // for which operations are begun and counted
	warmup      time.Duration // before it: begun, and not counted
	timeout     time.Duration // of one operation, from when it was begun
	outstanding int           // operations under way at most
}

// early is how many operations belong to the warm-up, due how many there are with them.
func (p plan) early() int { return int(p.rate * p.warmup.Seconds()) }
func (p plan) due() int   { return int(p.rate * (p.warmup + p.duration).Seconds()) }

// at is when an operation is due.
func (p plan) at(start time.Time, i int) time.Time {
	return start.Add(time.Duration(float64(i) / p.rate * float64(time.Second)))
}

// ahead is how many operations are made ahead of their time: a second's, within bounds.
func (p plan) ahead() int { return min(max(int(p.rate), 1), 4096, p.due()) }

// shot is one operation, ready to be sent.
type shot struct {
	kind     int // its place in the mix
	requests []request
}

// run is one load.
type run struct {
	plan
	client *http.Client
	base   string
	shares []share
	makers []maker // by place in the mix
	// progress is told how it goes.
	progress func(format string, a ...any)

	underWay atomic.Int64
	kinds    []tally // by place in the mix
	lag      hist    // how long after it was due an operation was begun
}

func newRun(p plan, client *http.Client, base string, shares []share) *run {
	return &run{
		plan: p, client: client, base: base, shares: shares, makers: make([]maker, len(shares)),
		progress: func(string, ...any) {}, kinds: make([]tally, len(shares)),
	}
}

// errNothing is returned for a run that was ended in its warm-up.
var errNothing = errors.New("ended before anything was counted")

// do puts the load on the server and gives what came of it. If ctx ends, it begins nothing
// more, waits for what is under way, and reports that.
func (r *run) do(ctx context.Context) (report, error) {
	machine := bench.Machine() // as busy as it is without this load
	making, ready, shots := r.make(ctx)
	select {
	case <-ready:
	case <-ctx.Done():
	}
	began := time.Now()
	stop := r.watch(began)
	var flying sync.WaitGroup
	sent, begun := 0, time.Duration(0)
	for ; sent < r.due(); sent++ {
		s, due, ok := r.await(ctx, shots, began, sent)
		if !ok {
			break
		}
		begun = time.Since(began)
		counted := sent >= r.early()
		if counted {
			r.lag.add(time.Since(due))
		}
		if r.underWay.Add(1) > int64(r.outstanding) {
			r.underWay.Add(-1)
			if counted {
				r.kinds[s.kind].fail(faultNotSent, time.Since(due))
			}
			continue
		}
		flying.Go(func() {
			defer r.underWay.Add(-1)
			r.fire(s, due, counted)
		})
	}
	flying.Wait()
	stop()
	if err := making.Wait(); err != nil {
		return report{}, err
	}
	if sent <= r.early() {
		return report{}, errNothing
	}
	out := r.report(began, sent-r.early(), begun)
	out.Machine = machine
	return out, nil
}

// make makes operations ahead of their time, until all are made, one cannot be, or ctx ends.
// ready is closed when as many are there as are kept, or when no more will come.
func (r *run) make(ctx context.Context) (making *errgroup.Group, ready chan struct{}, shots chan shot) {
	making, ctx = errgroup.WithContext(ctx)
	ready, shots = make(chan struct{}), make(chan shot, r.ahead())
	turns := newRota(r.shares)
	full := sync.OnceFunc(func() { close(ready) })
	var begun, made atomic.Int64
	var left sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		left.Add(1)
		making.Go(func() error {
			defer left.Done()
			for n := begun.Add(1); n <= int64(r.due()); n = begun.Add(1) {
				kind := turns.next()
				requests, err := r.makers[kind](uint64(n))
				if err != nil {
					return err
				}
				select {
				case shots <- shot{kind, requests}:
				case <-ctx.Done():
					return nil
				}
				if made.Add(1) == int64(r.ahead()) {
					full()
				}
			}
			return nil
		})
	}
	go func() {
		left.Wait()
		close(shots)
		full()
	}()
	return making, ready, shots
}

// await gives an operation at the moment it is due, or later if none is made by then.
func (r *run) await(ctx context.Context, shots <-chan shot, began time.Time, i int) (s shot, due time.Time, ok bool) {
	due = r.at(began, i)
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return s, due, false
	}
	s, ok = <-shots
	return s, due, ok
}

// fire sends an operation. Its time begins when it was due, not when it was sent.
func (r *run) fire(s shot, due time.Time, counted bool) {
	// Its own deadline: an interrupted run waits for what it began.
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	fault := ""
	for _, q := range s.requests {
		var err error
		if fault, err = q.send(ctx, r.client, r.base); err != nil {
			fault = faultNotSent
		}
		if fault != "" {
			break
		}
	}
	took := time.Since(due)
	switch {
	case !counted:
	case fault != "":
		r.kinds[s.kind].fail(fault, took)
	default:
		r.kinds[s.kind].done(took)
	}
}

// watch tells of the progress each second until it is stopped.
func (r *run) watch(began time.Time) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				all := r.total()
				r.progress("\r%4.0f s: %d done, %d errors, p99 %.1f ms, %d under way ", time.Since(began).Seconds(),
					all.OK, all.failures(), all.Latency.P99, r.underWay.Load())
			case <-end:
				r.progress("\n")
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}
