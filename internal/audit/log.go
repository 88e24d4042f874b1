// Package audit keeps the log: what was intended, how it ended, what was refused, when
// the service started and stopped. It is the one implementation of record.Recorder and
// the one issuer of tickets and receipts.
//
//	log := audit.New(store, time.Now)
//	ticket, err := log.Begin(ctx, intent, claim)   // durable, or an error
//	…
//	receipt, err := log.Conclude(ctx, ticket, result, use)
//
// An entry is JSON of a fixed form, with the members of record.Intent or record.Result
// and nothing else: identifiers and digests, no card data, no token, no PIN, and no
// digest that could be searched back to a PAN.
//
// The log promises order and durability: an entry has the next sequence number at the
// moment it is committed, in the same transaction as the rows that belong to it. It
// does not yet show tampering by whoever can write the database.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
)

// Kind says what an entry records.
type Kind string

// The kinds.
const (
	KindIntent    Kind = "intent"    // an operation is about to be done
	KindResult    Kind = "result"    // an operation ended
	KindOperation Kind = "operation" // an operation that consumes nothing, intent and result at once
	KindRefusal   Kind = "refusal"   // a request was refused before anything was begun
	KindLifecycle Kind = "lifecycle" // the service started, stopped or took up a new configuration
)

// An Entry is one line of the log.
type Entry struct {
	Seq    uint64    // given by the store, from 0, without gaps
	At     time.Time // to the millisecond, UTC
	Kind   Kind
	Ticket string // the operation's ticket: the same for intent and result; empty for refusals and lifecycle
	Tenant string // empty for lifecycle entries
	Body   []byte // JSON
}

// Store keeps entries.
type Store interface {
	// Append commits e under the next sequence number, and all changes, in one durable
	// transaction. It applies the changes in order; the first that cannot be made
	// undoes everything and its own error comes back. It does not retry. Whatever else
	// fails comes back with a method RetryAfter.
	Append(ctx context.Context, e Entry, changes []record.Change) error
	// Read gives entries from sequence number from on, at most limit, in order.
	Read(ctx context.Context, from uint64, limit int) ([]Entry, error)
}

// Log writes the log. It is safe for concurrent use.
type Log struct {
	store    Store
	now      func() time.Time
	refusals tally
}

// New gives the log over a store. now is the clock.
func New(store Store, now func() time.Time) *Log {
	return &Log{store: store, now: now, refusals: tally{counts: map[tallyKey]*tallied{}}}
}

var _ record.Recorder = (*Log)(nil)

// Begin commits an intent with its claims and gives the ticket.
func (l *Log) Begin(ctx context.Context, in record.Intent, changes ...record.Change) (*record.Ticket, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("record intent: %w", err)
	}
	if err := l.append(ctx, KindIntent, id.String(), in.Tenant, in, changes); err != nil {
		return nil, fmt.Errorf("record intent: %w", err)
	}
	return record.IssueTicket(id.String(), in), nil
}

// Open gives the ticket of an operation that consumes nothing.
func (l *Log) Open(in record.Intent) (*record.Ticket, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("open operation: %w", err)
	}
	return record.IssueDeferredTicket(id.String(), in), nil
}

// operation is the body of an operation entry.
type operation struct {
	Intent record.Intent `json:"intent"`
	Result record.Result `json:"result"`
}

// Conclude commits a result, with the intent if that was deferred, and gives the receipt
// that releases its outputs.
func (l *Log) Conclude(ctx context.Context, t *record.Ticket, res record.Result, changes ...record.Change) (*record.Receipt, error) {
	kind, body := KindResult, any(res)
	if t.Deferred() {
		kind, body = KindOperation, operation{t.Intent(), res}
	}
	if err := l.append(ctx, kind, t.ID(), t.Intent().Tenant, body, changes); err != nil {
		return nil, fmt.Errorf("record result: %w", err)
	}
	return record.IssueReceipt(t, res), nil
}

// Lifecycle is a start, a reload or a stop, with the digests of what was loaded.
type Lifecycle struct {
	Event         string `json:"event"` // "start", "reload" or "stop"
	Version       string `json:"version"`
	Environment   string `json:"environment"`
	ConfigSHA256  string `json:"configSha256,omitempty"`  // hex
	KeyringSHA256 string `json:"keyringSha256,omitempty"` // hex
	// PendingRestart says of a reload that some changes of the file wait for a restart.
	PendingRestart bool `json:"pendingRestart,omitempty"`
}

// Note commits a start, a reload or a stop.
func (l *Log) Note(ctx context.Context, e Lifecycle) error {
	if err := l.append(ctx, KindLifecycle, "", "", e, nil); err != nil {
		return fmt.Errorf("record %s: %w", e.Event, err)
	}
	return nil
}

func (l *Log) append(ctx context.Context, kind Kind, ticket, tenant string, body any, changes []record.Change) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	e := Entry{At: l.now().UTC().Truncate(time.Millisecond), Kind: kind, Ticket: ticket, Tenant: tenant, Body: b}
	return l.store.Append(ctx, e, changes)
}
