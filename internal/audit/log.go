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
// The entries are the leaves of a Merkle tree (RFC 6962). An entry gets the next number,
// and adds its hashes to the tree, in the transaction that commits it and the rows that
// belong to it (Writer). The audit-checkpoint key signs size and root about once a second
// (Checkpointer), anchors keep what it signed elsewhere (Anchor), and Verify holds a log
// against both. docs/audit.md says what that shows, and what it does not.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// Log writes the log. It is safe for concurrent use.
type Log struct {
	writer   *Writer
	guard    guard
	now      func() time.Time
	refusals tally
}

// New gives the log over a store. now is the clock.
func New(store Store, now func() time.Time) *Log {
	return &Log{writer: NewWriter(store, now), now: now, refusals: tally{counts: map[tallyKey]*tallied{}}}
}

var _ record.Recorder = (*Log)(nil)

// Begin commits an intent with its claims and gives the ticket.
func (l *Log) Begin(ctx context.Context, in record.Intent, changes ...record.Change) (*record.Ticket, error) {
	if err := l.guard.begin(l.writer.State(), l.now()); err != nil {
		return nil, fmt.Errorf("record intent: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("record intent: %w", err)
	}
	if err := l.append(ctx, KindIntent, id.String(), in.Tenant, in, changes); err != nil {
		return nil, fmt.Errorf("record intent: %w", err)
	}
	l.writer.underway.Add(1)
	return record.IssueTicket(id.String(), in), nil
}

// Open gives the ticket of an operation that consumes nothing.
func (l *Log) Open(in record.Intent) (*record.Ticket, error) {
	if err := l.guard.begin(l.writer.State(), l.now()); err != nil {
		return nil, fmt.Errorf("open operation: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("open operation: %w", err)
	}
	l.writer.underway.Add(1)
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
	if t.End() {
		l.writer.underway.Add(-1)
	}
	if res.Outcome == record.OutcomeDone {
		// What may not leave is not put on record as having left.
		if err := l.guard.release(l.writer.State(), l.now()); err != nil {
			return nil, fmt.Errorf("record result: %w", err)
		}
	}
	kind, body := KindResult, any(res)
	if t.Deferred() {
		kind, body = KindOperation, operation{t.Intent(), res}
	}
	if records || kind == KindResult || len(changes) > 0 {
		if err := l.append(ctx, kind, t.ID(), t.Intent().Tenant, body, changes); err != nil {
			return nil, fmt.Errorf("record result: %w", err)
		}
	}
	return record.IssueReceipt(t, res), nil
}

// Lifecycle is a start, a reload or a stop, with the digests of what was loaded.
type Lifecycle struct {
	Event         string `json:"event"` // "start", "reload", "reload-refused", "stop", "ceremony-begin" or "ceremony"
	Version       string `json:"version"`
	Environment   string `json:"environment"`
	ConfigSHA256  string `json:"configSha256,omitempty"`  // hex
	KeyringSHA256 string `json:"keyringSha256,omitempty"` // hex
	// PlanSHA256 is that of the file by which a ceremony begins, hex.
	PlanSHA256 string `json:"planSha256,omitempty"`
	// TranscriptSHA256 is that of a ceremony's transcript, hex.
	TranscriptSHA256 string `json:"transcriptSha256,omitempty"`
	// PendingRestart says of a reload that some changes of the file wait for a restart.
	PendingRestart bool `json:"pendingRestart,omitempty"`
}

// Note commits a start, a reload, a stop or a ceremony.
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
	ctx, at := span.Start(ctx, "record.commit")
	defer at.End()
	at.Set(span.Kind, string(kind))
	if _, err = l.writer.Append(ctx, e, changes); err != nil {
		at.Failed()
	}
	return err
}
