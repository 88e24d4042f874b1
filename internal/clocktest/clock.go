// Package clocktest is a clock for tests, which is set by hand: to look at a minute's lease no
// test waits a minute.
package clocktest

import (
	"sync"
	"time"
)

// Clock says what it was set to. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

// New makes a clock that stands at a time.
func New(now time.Time) *Clock { return &Clock{now: now} }

// Now is what the clock says.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add puts the clock forward, or back.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
