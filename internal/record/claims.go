package record

import "context"

// Claims are what a request uses up by being made, whatever it asks for: the jti of a bearer
// token that is good for one use. Most requests have none.
type Claims []Claim

// Begin gives the ticket of an operation that consumes nothing else: with claims, the intent is
// on record first.
func (c Claims) Begin(ctx context.Context, r Recorder, in Intent) (*Ticket, error) {
	if len(c) == 0 {
		return r.Open(in)
	}
	return r.Begin(ctx, in, c.Take()...)
}

// Take gives the changes that take the claims, after own.
func (c Claims) Take(own ...Change) []Change {
	for _, claim := range c {
		own = append(own, claim)
	}
	return own
}

// End gives the changes that end them, after own.
func (c Claims) End(used bool, own ...Change) []Change {
	for _, claim := range c {
		own = append(own, claim.End(used))
	}
	return own
}
