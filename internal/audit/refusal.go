package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// Refusals come from outside and cost the sender nothing: if each had its entry, whoever
// can reach the service could fill the log. In a window of a minute the first few of one
// kind have their own entries, whole; the others are counted, and the count is an entry
// at the window's end. A crash loses the counts of at most one window.
const (
	tallyWindow = time.Minute
	tallyWhole  = 10 // of a kind and window that have their own entries
)

// tallyKey is a kind of refusal. All of it comes from the configuration or from fixed
// lists, so that the number of kinds is bounded.
type tallyKey struct {
	operation record.Operation
	tenant    string
	issuer    string
	reason    string
}

// tallied are the refusals of one kind in its window.
type tallied struct {
	since   time.Time // of the window
	seen    int
	counted int // of these, without an entry of their own
}

type tally struct {
	mu     sync.Mutex // guards counts
	counts map[tallyKey]*tallied
}

// whole reports whether one more refusal has its own entry, and counts it.
func (t *tally) whole(k tallyKey, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[k]
	if c == nil {
		c = &tallied{since: now}
		t.counts[k] = c
	}
	c.seen++
	if c.seen > tallyWhole {
		c.counted++
		return false
	}
	return true
}

// take gives what was counted in windows that ended before the time and forgets it.
func (t *tally) take(before time.Time) map[tallyKey]tallied {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := map[tallyKey]tallied{}
	for k, c := range t.counts {
		if c.since.After(before) {
			continue
		}
		if c.counted > 0 {
			ended[k] = *c
		}
		delete(t.counts, k)
	}
	return ended
}

// putBack counts again what could not be recorded.
func (t *tally) putBack(k tallyKey, c tallied) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.counts[k]
	if now == nil {
		t.counts[k] = &c
		return
	}
	if c.since.Before(now.since) {
		now.since = c.since
	}
	now.seen += c.seen
	now.counted += c.counted
}

// refusal is the body of a refusal entry. One that stands for several has their number
// and the time of the first, and no subject and request id.
type refusal struct {
	record.Intent
	Reason string `json:"reason"`
	Times  int    `json:"times,omitempty"`
	Since  string `json:"since,omitempty"` // RFC 3339
}

// Refuse commits that a request was refused, or counts it for Summarise to commit.
func (l *Log) Refuse(ctx context.Context, in record.Intent, reason string) error {
	k := tallyKey{in.Operation, in.Tenant, in.Issuer, reason}
	if !l.refusals.whole(k, l.now()) {
		return nil
	}
	if err := l.append(ctx, KindRefusal, "", in.Tenant, refusal{Intent: in, Reason: reason}, nil); err != nil {
		l.refusals.putBack(k, tallied{since: l.now(), counted: 1})
		return fmt.Errorf("record refusal: %w", err)
	}
	return nil
}

// Summarise commits the counts of refusals whose window has ended. What cannot be
// committed is kept for the next time.
func (l *Log) Summarise(ctx context.Context) error {
	return l.summarise(ctx, l.now().Add(-tallyWindow))
}

// SummariseAll commits all counts: at the end.
func (l *Log) SummariseAll(ctx context.Context) error { return l.summarise(ctx, l.now()) }

func (l *Log) summarise(ctx context.Context, before time.Time) error {
	var failed []error
	for k, c := range l.refusals.take(before) {
		body := refusal{
			Intent: record.Intent{Operation: k.operation, Tenant: k.tenant, Issuer: k.issuer},
			Reason: k.reason, Times: c.counted, Since: c.since.UTC().Format(time.RFC3339),
		}
		if err := l.append(ctx, KindRefusal, "", k.tenant, body, nil); err != nil {
			l.refusals.putBack(k, c)
			failed = append(failed, fmt.Errorf("record refusals: %w", err))
		}
	}
	return errors.Join(failed...)
}
