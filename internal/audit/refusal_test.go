package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

// summary is what a refusal's entry says.
type summary struct {
	Operation, Tenant, Iss, Sub, RequestID, Reason, Since string
	Times                                                 int
}

func summaries(t testing.TB, s *store.Store) []summary {
	t.Helper()
	var all []summary
	for _, e := range entries(t, s) {
		var one summary
		if err := json.Unmarshal(e.Body, &one); err != nil || e.Kind != audit.KindRefusal {
			t.Fatalf("%s entry %s: %v", e.Kind, e.Body, err)
		}
		all = append(all, one)
	}
	return all
}

// A flood of refusals fills neither the log nor is it lost: the first of a kind and
// minute stand whole, the rest as one number; another kind is not hidden by it.
func TestFloodOfRefusalsIsCounted(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(ctx, filepath.Join(t.TempDir(), "mintmark.db"), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	at := now
	log := audit.New(s, func() time.Time { return at })
	refuse := func(in record.Intent, reason string) {
		t.Helper()
		if err := log.Refuse(ctx, in, reason); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		refuse(full, "expired")
	}
	refuse(full, "forbidden")
	refuse(bare, "expired")
	if err := log.Summarise(ctx); err != nil {
		t.Fatal(err)
	}
	whole := summaries(t, s)
	if len(whole) != 12 {
		t.Fatalf("%d entries within the window, want 10 + 2", len(whole))
	}
	for _, e := range whole {
		if e.Times != 0 || (e.Tenant == full.Tenant && e.Operation == string(full.Operation) && e.RequestID == "") {
			t.Errorf("entry %+v is not whole", e)
		}
	}

	at = at.Add(time.Minute)
	if err := log.Summarise(ctx); err != nil {
		t.Fatal(err)
	}
	want := summary{Operation: string(full.Operation), Tenant: full.Tenant, Iss: full.Issuer, Reason: "expired", Times: 990, Since: now.UTC().Format(time.RFC3339)}
	if diff := cmp.Diff([]summary{want}, summaries(t, s)[12:]); diff != "" {
		t.Errorf("the window's end (-want +got):\n%s", diff)
	}

	// A new window begins with whole entries, and the end of the service waits for none.
	for range 11 {
		refuse(full, "expired")
	}
	if err := log.SummariseAll(ctx); err != nil {
		t.Fatal(err)
	}
	after := summaries(t, s)[13:]
	if len(after) != 11 || after[10].Times != 1 {
		t.Errorf("the second window is %+v", after)
	}
	if err := log.SummariseAll(ctx); err != nil || len(entries(t, s)) != 24 {
		t.Errorf("nothing was left to say: %v, %d entries", err, len(entries(t, s)))
	}
}

// switchable is a store that can be out of order.
type switchable struct {
	audit.Store
	err error
}

func (s *switchable) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	if s.err != nil {
		return s.err
	}
	return s.Store.Commit(ctx, batch, number)
}

// What could not be recorded is told with the next summary that can.
func TestRefusalsOutliveADatabaseThatIsAway(t *testing.T) {
	ctx := context.Background()
	_, s := newLog(t)
	broken := &switchable{Store: s, err: errors.New("disk full")}
	log := audit.New(broken, func() time.Time { return now })
	for range 15 {
		_ = log.Refuse(ctx, full, "expired")
	}
	if err := log.SummariseAll(ctx); !errors.Is(err, broken.err) {
		t.Fatalf("error %v", err)
	}
	if err := log.SummariseAll(ctx); !errors.Is(err, broken.err) {
		t.Fatalf("error %v", err)
	}
	broken.err = nil
	if err := log.SummariseAll(ctx); err != nil {
		t.Fatal(err)
	}
	if got := summaries(t, s); len(got) != 1 || got[0].Times != 15 {
		t.Errorf("recorded are %+v, want 15 at once", got)
	}
}

// An operation that consumes nothing is one entry, which holds intent and result, and
// there is none before it has ended.
func TestDeferredIntentIsCommittedWithItsResult(t *testing.T) {
	ctx := context.Background()
	log, s := newLog(t)
	ticket, err := log.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	if got := entries(t, s); len(got) != 0 {
		t.Fatalf("entries before the result: %+v", got)
	}
	held := record.Hold(ticket, "token", "x", []byte("x"))
	receipt, err := log.Conclude(ctx, ticket, record.Done(held.Digest()))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := held.Release(receipt); out != "x" || err != nil {
		t.Errorf("released %q, %v", out, err)
	}
	all := entries(t, s)
	if len(all) != 1 {
		t.Fatalf("%d entries", len(all))
	}
	want := audit.Entry{
		At: kept, Kind: audit.KindOperation, Ticket: ticket.ID(), Tenant: "bank",
		Body: []byte(`{"intent":{` + fullJSON + `},"result":{"outcome":"done","outputs":[{"name":"token","sha256":"` + held.Digest().SHA256 + `"}]}}`),
	}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}
