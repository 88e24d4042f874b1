package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// Expire is the change that empties the bodies of the first entries; those before From
// are empty. Their digests and hashes stay, so that the tree can still be verified and
// nothing looks lost.
type Expire struct{ From, Before uint64 }

// IsChange marks Expire as a record.Change.
func (Expire) IsChange() {}

// retention is the body of the entry that records an Expire.
type retention struct {
	Event  string `json:"event"`  // "retention"
	Before uint64 `json:"before"` // the first entry that has a body
}

const eventRetention = "retention"

// Ages finds entries by their age.
type Ages interface {
	// FirstSince gives the number of the first entry that is not older than a time, and
	// the number of the first that has a body.
	FirstSince(ctx context.Context, at time.Time) (first, live uint64, err error)
}

// maxExpired is how many bodies are emptied in one transaction, which others wait for.
const maxExpired = 2000

// ExpireOlder empties the bodies of entries that are older than a time, and puts on
// record that it did.
func (l *Log) ExpireOlder(ctx context.Context, ages Ages, than time.Time) error {
	first, live, err := ages.FirstSince(ctx, than)
	if err != nil || first <= live {
		return err
	}
	for live < first {
		before := min(first, live+maxExpired)
		changes := []record.Change{Expire{From: live, Before: before}}
		if err := l.append(ctx, KindLifecycle, "", "", retention{eventRetention, before}, changes); err != nil {
			return fmt.Errorf("record retention: %w", err)
		}
		live = before
	}
	return nil
}
