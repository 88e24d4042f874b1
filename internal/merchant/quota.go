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

// exhausted remembers which clients have used up their day, so that the token is not asked
// for what could not be released.
type exhausted struct {
	mu  sync.Mutex // guards day and who
	day string
	who map[string]bool
}

func (e *exhausted) has(day, client string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.day == day && e.who[client]
}

func (e *exhausted) add(day, client string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.day != day {
		e.day, e.who = day, map[string]bool{}
	}
	e.who[client] = true
}

// forget lets everybody try again, as after a change of the limits.
func (e *exhausted) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.day, e.who = "", nil
}

// nextDay is the time from now to the next day, UTC.
func nextDay(now time.Time) time.Duration {
	return now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(now)
}
