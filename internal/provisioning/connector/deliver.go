package connector

import (
	"context"
	"sync"
	"time"

	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// The measures of delivery.
const (
	batch  = 32 // notices leased at once: what may arrive twice after a crash
	atOnce = 8
	// noting is how long the end of notices may take to write, also when we are to stop.
	noting = 10 * time.Second
)

// Deliver empties the outbox until the context ends, beside other processes on the same
// database. It begins with what the process before it on its log may have left leased.
func (c *Connector) Deliver(ctx context.Context) {
	begun := false
	for {
		var more bool
		var err error
		if !begun {
			err = c.cfg.Outbox.FreeNotices(ctx, c.cfg.Now())
			begun = err == nil
		}
		if begun {
			more, err = c.Round(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("delivery of notices is interrupted", "error", err)
		}
		if more && err == nil {
			continue
		}
		t := time.NewTimer(c.cfg.Retry.Look)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// Round leases a batch of notices that are due, delivers it and notes what came of it. More
// says that others may be due. What a crash leaves leased is delivered again when the lease
// is over.
func (c *Connector) Round(ctx context.Context) (more bool, err error) {
	now := c.cfg.Now()
	leased, err := c.cfg.Outbox.LeaseNotices(ctx, now, now.Add(c.cfg.Retry.Lease), batch)
	if err != nil || len(leased) == 0 {
		return false, err
	}
	ends := make([]provisioning.NoticeEnd, len(leased))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, n := range leased {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			ends[i] = c.deliver(ctx, n)
		})
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noting)
	defer cancel()
	return len(leased) == batch, c.cfg.Outbox.EndNotices(ctx, ends)
}

// deliver tells one notice and says what becomes of it: only an answer of the receiver's own
// ends it. Each try is a request of its own under the same key, so that none is too old.
func (c *Connector) deliver(ctx context.Context, n provisioning.LeasedNotice) provisioning.NoticeEnd {
	end := provisioning.NoticeEnd{ID: n.ID, Fence: n.Fence}
	if ctx.Err() != nil {
		end.RetryAt, end.NotTried = c.cfg.Now(), true
		return end
	}
	outcome, err := c.tell(ctx, n)
	switch outcome {
	case Accepted:
		return end
	case Refused:
		c.cfg.Log.Warn("notice refused by its receiver", "notice", n.ID, "kind", string(n.Kind), "tenant", n.Tenant)
		return end
	}
	if ctx.Err() != nil { // its answer was not waited for
		end.RetryAt, end.NotTried = c.cfg.Now(), true
		return end
	}
	c.cfg.Log.Warn("notice not delivered yet", "notice", n.ID, "kind", string(n.Kind), "attempts", n.Attempts+1, "error", err)
	end.RetryAt = c.cfg.Now().Add(outbound.Backoff(c.cfg.Retry.First, n.Attempts, c.cfg.Retry.Longest))
	return end
}

func (c *Connector) tell(ctx context.Context, n provisioning.LeasedNotice) (outcome string, err error) {
	intent := record.Intent{Operation: record.CallNetwork, Tenant: n.Tenant, Refs: map[string]string{"kind": string(n.Kind), "key": n.ID}}
	signed, err := c.sign(ctx, intent, func(t *record.Ticket) (request, error) {
		body, err := c.cfg.Gate.OpenNotice(ctx, t, n.Tenant, n.ID, n.Body)
		return request{kind: string(n.Kind), tenant: n.Tenant, key: n.ID, body: body}, err
	})
	if err != nil {
		return "", err
	}
	got, err := c.post(ctx, signed)
	return got.Outcome, err
}
