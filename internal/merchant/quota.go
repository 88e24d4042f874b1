package merchant

import (
	"sync"
	"time"
)

// A QuotaUse counts one token of a client's day: the change that is committed with the
// result. ErrQuota if the day has had its number.
type QuotaUse struct {
	Client string // iss
	Day    string // YYYY-MM-DD, UTC
	Limit  int
}

// IsChange marks QuotaUse as a record.Change.
func (QuotaUse) IsChange() {}

// exhausted remembers how many tokens of their day clients have had for sure, so that the
// token is not asked for what could not be released.
type exhausted struct {
	mu  sync.Mutex // guards day and had
	day string
	had map[string]int // by client; a count only grows within its day
}

// has reports whether the day has had its number for sure.
func (e *exhausted) has(u QuotaUse) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.day == u.Day && e.had[u.Client] >= u.Limit
}

// add notes a use that was refused, since the day has had its number.
func (e *exhausted) add(u QuotaUse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.day != u.Day {
		e.day, e.had = u.Day, map[string]int{}
	}
	e.had[u.Client] = max(e.had[u.Client], u.Limit)
}

// nextDay is the time from now to the next day, UTC.
func nextDay(now time.Time) time.Duration {
	return now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
}
