package main

import (
	"context"
	"sync/atomic"

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

// use takes the clients of a plan. Those before it end their fetching; requests that they
// are about to decide are decided by them.
func (c *callers) use(p *plan) {
	p.own.gate.Store(c.gate)
	if old := c.current.Swap(p.clients); old != nil {
		old.close()
	}
}

func (c *callers) close() { c.current.Load().close() }

// Authenticate is access.Verifier's.
func (c *callers) Authenticate(ctx context.Context, p access.Proof) (access.Caller, error) {
	return c.current.Load().verifier.Authenticate(ctx, p)
}

// Admit is access.Verifier's.
func (c *callers) Admit(who access.Caller) error { return c.current.Load().verifier.Admit(who) }
