package audit

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Limits bound what of the log may be without a checkpoint. Beyond them nothing new is
// begun; beyond twice them nothing leaves either. Zero is no limit.
type Limits struct {
	Entries uint64        // entries without a checkpoint
	Age     time.Duration // of the oldest of them
	Free    uint64        // bytes that must be free where the database is
}

// guard says whether operations may begin and outputs may leave. Appending goes on
// whatever it says, since the record of what happens is wanted then most; but not to a
// database that does not hold what was written to it.
type guard struct {
	limits atomic.Pointer[Limits]
	full   atomic.Bool // the database's disk is; set by the checkpointer
}

// begin is nil if an operation may begin.
func (g *guard) begin(s State, now time.Time) error {
	if g.full.Load() {
		return known("the disk of the database is nearly full")
	}
	return g.within(s, now, 1)
}

// release is nil if outputs may leave.
func (g *guard) release(s State, now time.Time) error { return g.within(s, now, 2) }

func (g *guard) within(s State, now time.Time, times uint64) error {
	if s.Disputed != nil {
		return errDisputed
	}
	l := g.limits.Load()
	if l == nil || s.Tree == nil {
		return nil
	}
	if unsigned := s.Unsigned(); l.Entries != 0 && unsigned > l.Entries*times {
		return known(fmt.Sprintf("%d entries have no checkpoint", unsigned))
	}
	if l.Age != 0 && !s.Since.IsZero() && now.Sub(s.Since) > l.Age*time.Duration(times) {
		return known(fmt.Sprintf("entries have no checkpoint since %v", s.Since.UTC().Format(time.RFC3339)))
	}
	return nil
}

// held is an error that was logged when its cause appeared.
type held struct{ unavailable }

func known(what string) error { return &held{unavailable{what, nil, 5 * time.Second}} }

// errDisputed is ErrChanged, of which the checkpointer has told.
var errDisputed error = &held{unavailable{"the database does not hold what was written to it", ErrChanged, 5 * time.Second}}

// Known reports that this need not be logged for each request.
func (h *held) Known() bool { return true }
