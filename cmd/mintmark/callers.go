package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/signer"
)

// callers is who may call, which a reload replaces whole under running requests.
type callers struct {
	gate    *signer.Gate
	current atomic.Pointer[clients]
}

var _ httpapi.Callers = (*callers)(nil)

func newCallers(p *plan, gate *signer.Gate) *callers {
	c := &callers{gate: gate}
	c.use(p)
	return c
}

// use takes the clients of a plan. Requests that are being decided are decided by those
// before.
func (c *callers) use(p *plan) {
	p.own.gate.Store(c.gate)
	if old := c.current.Swap(p.clients); old != nil {
		old.close(p.clients)
	}
}

func (c *callers) close() { c.current.Load().close(nil) }

// keySets reports the first key set of a client that could not be fetched when it was last
// tried, with when it last was. The client is served from memory for a day.
func (c *callers) keySets(context.Context) error {
	var errs []error
	for who, set := range c.current.Load().jwks {
		if s := set.Status(); s.Err != nil {
			errs = append(errs, fmt.Errorf("%s, last fetched %s: %w", who.issuer, when(s.Confirmed), s.Err))
		}
	}
	return errors.Join(errs...)
}

func when(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format(time.RFC3339)
}

// Authenticate is access.Verifier's.
func (c *callers) Authenticate(ctx context.Context, p access.Proof) (access.Caller, error) {
	return c.current.Load().verifier.Authenticate(ctx, p)
}

// Admit is access.Verifier's.
func (c *callers) Admit(who access.Caller) error { return c.current.Load().verifier.Admit(who) }
