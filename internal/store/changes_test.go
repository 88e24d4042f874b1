package store_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
)

var (
	proposer = approval.Person{Tenant: "bank", Issuer: "console-a", Subject: "ada"}
	approver = approval.Person{Tenant: "bank", Issuer: "console-b", Subject: "grace"}
	proposed = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func proposal(id string) approval.Change {
	return approval.Change{
		ID: id, Kind: "configuration", Document: []byte(`{"a":"ü"}`), SHA256: "00ff", Proposer: proposer,
		Proposed: proposed, Expires: proposed.Add(time.Hour), State: approval.Open, Lease: time.UnixMilli(0).UTC(),
	}
}

// claimed claims a change at a time for a minute.
func claimed(id string, at time.Time) *approval.Claim {
	return &approval.Claim{ID: id, SHA256: "00ff", By: approver, Now: at, Until: at.Add(time.Minute)}
}

func TestChangesAreKeptAsTheyWereProposed(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		ctx := context.Background()
		for _, id := range []string{"1", "2", "3"} {
			if err := s.Append(ctx, audit.Entry{At: proposed}, changes(approval.Proposal{Change: proposal(id)})); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Change(ctx, "2")
		if err != nil {
			t.Fatal(err)
		}
		same(t, proposal("2"), got)
		if _, err := s.Change(ctx, "4"); !errors.Is(err, approval.ErrUnknown) {
			t.Errorf("one that is not there: %v", err)
		}
		newest, err := s.Changes(ctx, 2)
		if err != nil || len(newest) != 2 || newest[0].ID != "3" || newest[1].ID != "2" {
			t.Errorf("newest: %+v, %v", newest, err)
		}
	})
}

// Who takes a change, when, and what is left of it: one claim at a time, in time, fenced.
func TestChangeIsClaimedByOneAtATime(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		ctx := context.Background()
		append1 := func(c record.Change) error { return s.Append(ctx, audit.Entry{At: proposed}, changes(c)) }
		requireState := func(want approval.State, by approval.Person) {
			t.Helper()
			if c, err := s.Change(ctx, "1"); err != nil || c.State != want || c.Decider != by {
				t.Errorf("it is %s by %+v, %v", c.State, c.Decider, err)
			}
		}
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, approval.ErrNotOpen) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := append1(approval.Proposal{Change: proposal("1")}); err != nil {
			t.Fatal(err)
		}
		other := claimed("1", proposed)
		other.SHA256 = "00fe"
		refused("another document", append1(other))
		refused("too late", append1(claimed("1", proposed.Add(time.Hour))))
		first := claimed("1", proposed)
		if err := append1(first); err != nil || first.Fence != 1 {
			t.Fatalf("fence %d, %v", first.Fence, err)
		}
		requireState(approval.Applying, approver)
		refused("under the lease", append1(claimed("1", proposed.Add(time.Minute-time.Millisecond))))
		refused("rejected under the lease", append1(approval.Rejection{ID: "1", By: proposer, Now: proposed}))
		if err := append1(first.End(false)); err != nil {
			t.Fatal(err)
		}
		requireState(approval.Open, approval.Person{})
		second, third := claimed("1", proposed), claimed("1", proposed.Add(time.Minute))
		if err := errors.Join(append1(second), append1(third)); err != nil || third.Fence != 3 {
			t.Fatalf("after the lease: fence %d, %v", third.Fence, err)
		}
		refused("ended by the one before", append1(second.End(true)))
		if err := append1(third.End(true)); err != nil {
			t.Fatal(err)
		}
		requireState(approval.Applied, approver)
		refused("taken again", append1(claimed("1", proposed.Add(2*time.Minute))))
		refused("rejected after that", append1(approval.Rejection{ID: "1", By: proposer, Now: proposed}))
	})
}

// Every cell of every table is given, of text, numbers and bytes.
func TestEveryCellIsGiven(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		ctx := context.Background()
		c := proposal("1")
		if err := s.Append(ctx, audit.Entry{At: proposed, Tenant: "somebody"}, changes(approval.Proposal{Change: c})); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"changes.document": string(c.Document), "changes.proposer_sub": "ada", "audit_entries.tenant": "somebody", "stamp.value": environment}
		tables := map[string]bool{}
		err := s.Cells(ctx, func(table, column string, value []byte) error {
			tables[table] = true
			if at := table + "." + column; bytes.Equal(value, []byte(want[at])) {
				delete(want, at)
			}
			return nil
		})
		if err != nil || len(want) != 0 {
			t.Errorf("not given: %v, %v; tables %v", want, err, tables)
		}
		enough := errors.New("enough")
		if err := s.Cells(ctx, func(string, string, []byte) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("it went on: %v", err)
		}
	})
}
