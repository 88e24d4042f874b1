package record

import "context"

// A Recorder makes records durable. Package internal/audit has the one
// implementation; the domains take it as this interface.
//
// A nil error means the entry and all changes are committed, in one transaction, and
// survive a crash. An error means that none of them is, with one exception: when the
// context ends during the commit the outcome is unknown, and the caller must treat
// it as not committed (a claim then ends with its lease). Errors of a change come back
// unwrapped enough for errors.Is; those with a method RetryAfter say that a later try
// may succeed. A Recorder never retries by itself.
type Recorder interface {
	// Begin commits an intent together with its claims.
	Begin(ctx context.Context, in Intent, changes ...Change) (*Ticket, error)
	// Open gives the ticket of an operation that consumes nothing single-use. Nothing is
	// durable yet: Conclude commits the intent with the result.
	Open(in Intent) (*Ticket, error)
	// Conclude commits the result of t's operation.
	Conclude(ctx context.Context, t *Ticket, res Result, changes ...Change) (*Receipt, error)
	// Refuse commits that a request was refused before anything was begun for it. Many
	// alike in a short time are counted and committed as one.
	Refuse(ctx context.Context, in Intent, reason string) error
}
