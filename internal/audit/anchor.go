package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// An Anchor keeps checkpoints where whoever can change the database cannot change them.
type Anchor interface {
	// Name is the anchor's, in logs and metrics.
	Name() string
	// Keep keeps a checkpoint; nil says that the anchor has it, as far as it tells.
	Keep(ctx context.Context, c Checkpoint) error
}

// How an anchor is fed.
const (
	keepWithin   = 10 * time.Second
	keepQueue    = 256 // checkpoints that wait; beyond, the oldest give way: a later one says all that they say
	retryFirst   = time.Second
	retryAtMost  = 30 * time.Second
	lastAttempt  = 3 * time.Second
	anchorFailed = "anchor does not take checkpoints"
)

// anchorage feeds one anchor, in order, and tries again what failed.
type anchorage struct {
	anchor Anchor
	log    *slog.Logger

	mu      sync.Mutex // guards all below
	waiting []Checkpoint
	closed  bool
	figures AnchorStats
	wake    chan struct{} // holds a value when waiting or closed has changed
}

// AnchorStats are the figures of one anchor.
type AnchorStats struct {
	Name    string
	Size    uint64 // of the last checkpoint that it has
	Failed  uint64 // tries
	Failing bool
}

func newAnchorage(a Anchor, log *slog.Logger) *anchorage {
	return &anchorage{anchor: a, log: log, figures: AnchorStats{Name: a.Name()}, wake: make(chan struct{}, 1)}
}

func (a *anchorage) stats() AnchorStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.figures
}

// take puts a checkpoint in the queue. It never waits.
func (a *anchorage) take(c Checkpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, c)
	if len(a.waiting) > keepQueue {
		a.waiting = a.waiting[1:]
	}
	a.nudge()
}

// close lets run end: after a last try with the newest checkpoint.
func (a *anchorage) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.nudge()
}

func (a *anchorage) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// next gives the oldest checkpoint that waits; the newest, and the end, once closed.
func (a *anchorage) next() (c Checkpoint, some, last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		return c, false, a.closed
	}
	if a.closed {
		return a.waiting[len(a.waiting)-1], true, true
	}
	return a.waiting[0], true, false
}

// kept takes a checkpoint out of the queue, with those before it.
func (a *anchorage) kept(c Checkpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) != 0 && a.waiting[0].Size <= c.Size {
		a.waiting = a.waiting[1:]
	}
	if a.figures.Failing {
		a.log.Info("anchor takes checkpoints again", "anchor", a.anchor.Name())
	}
	a.figures.Size, a.figures.Failing = c.Size, false
}

func (a *anchorage) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.figures.Failed++
	if !a.figures.Failing {
		a.log.Warn(anchorFailed, "anchor", a.anchor.Name(), "error", err)
	}
	a.figures.Failing = true
}

// run feeds the anchor until close.
func (a *anchorage) run() {
	wait := time.Duration(0)
	for {
		c, some, last := a.next()
		within := keepWithin
		if last {
			within = lastAttempt
		}
		if some && a.try(c, within) {
			wait = 0
			if !last {
				continue
			}
		} else if some {
			wait = min(max(2*wait, retryFirst), retryAtMost)
		}
		if last {
			return
		}
		a.pause(wait)
	}
}

func (a *anchorage) try(c Checkpoint, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := a.anchor.Keep(ctx, c); err != nil {
		a.failed(err)
		return false
	}
	a.kept(c)
	return true
}

// pause waits for something to do; after a failure, for at least as long as that asks,
// unless the end comes.
func (a *anchorage) pause(wait time.Duration) {
	if wait == 0 {
		<-a.wake
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-a.wake:
			if _, _, last := a.next(); last {
				return
			}
		}
	}
}
