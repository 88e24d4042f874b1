package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

// now is a time with all that an entry does not keep: a zone and parts of a millisecond.
var now = time.Date(2026, 11, 22, 13, 0, 0, 123_456_789, time.FixedZone("elsewhere", 3600))

// kept is the same time as it stands in an entry.
var kept = time.Date(2026, 11, 22, 12, 0, 0, 123_000_000, time.UTC)

// newLog is a log over a real database, which it gives too.
func newLog(t testing.TB) (*audit.Log, *store.Store) {
	t.Helper()
	s, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "mintmark.db"), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return audit.New(s, func() time.Time { return now }), s
}

func begin(t testing.TB, log *audit.Log, in record.Intent) *record.Ticket {
	t.Helper()
	ticket, err := log.Begin(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func entries(t testing.TB, s *store.Store) []audit.Entry {
	t.Helper()
	all, err := s.Read(context.Background(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Two intents: one with every member, one with those that are never left out.
var (
	full = record.Intent{
		Operation: record.SignCard, Tenant: "bank", Issuer: "https://issuer.example", Subject: "user-1", RequestID: "req-1",
		Refs: map[string]string{"nonceClaim": "00ff", "a": "b"},
	}
	bare = record.Intent{Operation: record.StoreCard, Tenant: "bank"}
)

const (
	fullJSON = `"operation":"push-provisioning.sign-card","tenant":"bank","iss":"https://issuer.example","sub":"user-1","requestId":"req-1","refs":{"a":"b","nonceClaim":"00ff"}`
	bareJSON = `"operation":"cards.store","tenant":"bank"`
)

func TestEntriesAreTheDocumentedJSONAndNothingElse(t *testing.T) {
	ctx := context.Background()
	digest := record.Digest{Name: "tav", SHA256: "e3b0c442"}
	conclude := func(res record.Result) func(testing.TB, *audit.Log) error {
		return func(t testing.TB, log *audit.Log) error {
			_, err := log.Conclude(ctx, begin(t, log, full), res)
			return err
		}
	}
	for name, tc := range map[string]struct {
		write  func(testing.TB, *audit.Log) error
		kind   audit.Kind
		tenant string
		ticket bool
		body   string
	}{
		"intent": {
			func(t testing.TB, log *audit.Log) error { begin(t, log, full); return nil },
			audit.KindIntent, "bank", true, `{` + fullJSON + `}`,
		},
		"intent without the rest": {
			func(t testing.TB, log *audit.Log) error { begin(t, log, bare); return nil },
			audit.KindIntent, "bank", true, `{` + bareJSON + `}`,
		},
		"result done": {
			conclude(record.Result{Outcome: record.OutcomeDone, Outputs: []record.Digest{digest, {Name: "b", SHA256: "00"}}, Refs: map[string]string{"card": "row"}}),
			audit.KindResult, "bank", true,
			`{"outcome":"done","outputs":[{"name":"tav","sha256":"e3b0c442"},{"name":"b","sha256":"00"}],"refs":{"card":"row"}}`,
		},
		"result done without outputs": {
			conclude(record.Done()), audit.KindResult, "bank", true, `{"outcome":"done"}`,
		},
		"result refused": {
			conclude(record.Result{Outcome: record.OutcomeRefused, Reason: "unknown-card"}),
			audit.KindResult, "bank", true, `{"outcome":"refused","reason":"unknown-card"}`,
		},
		"result failed": {
			conclude(record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}),
			audit.KindResult, "bank", true, `{"outcome":"failed","reason":"failed"}`,
		},
		"refusal": {
			func(_ testing.TB, log *audit.Log) error { return log.Refuse(ctx, full, "nonce-used") },
			audit.KindRefusal, "bank", false, `{` + fullJSON + `,"reason":"nonce-used"}`,
		},
		"refusal without the rest": {
			func(_ testing.TB, log *audit.Log) error { return log.Refuse(ctx, bare, "x") },
			audit.KindRefusal, "bank", false, `{` + bareJSON + `,"reason":"x"}`,
		},
		"start": {
			func(_ testing.TB, log *audit.Log) error {
				return log.Note(ctx, audit.Lifecycle{Event: "start", Version: "v1", Environment: "test", ConfigSHA256: "aa", KeyringSHA256: "bb"})
			},
			audit.KindLifecycle, "", false,
			`{"event":"start","version":"v1","environment":"test","configSha256":"aa","keyringSha256":"bb"}`,
		},
		"stop": {
			func(_ testing.TB, log *audit.Log) error {
				return log.Note(ctx, audit.Lifecycle{Event: "stop", Version: "v1", Environment: "test"})
			},
			audit.KindLifecycle, "", false, `{"event":"stop","version":"v1","environment":"test"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, s := newLog(t)
			if err := tc.write(t, log); err != nil {
				t.Fatal(err)
			}
			all := entries(t, s)
			got := all[len(all)-1]
			if _, err := uuid.Parse(got.Ticket); (err == nil) != tc.ticket || (!tc.ticket && got.Ticket != "") {
				t.Errorf("ticket is %q", got.Ticket)
			}
			got.Ticket = ""
			want := audit.Entry{Seq: uint64(len(all) - 1), At: kept, Kind: tc.kind, Tenant: tc.tenant, Body: []byte(tc.body)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\nbody is %s", diff, got.Body)
			}
		})
	}
}

// What a caller chooses stays inside its string: no entry gets a member or a line more.
func TestWhatACallerChoosesStaysInItsPlace(t *testing.T) {
	log, s := newLog(t)
	hostile := "x\",\"outcome\":\"done\"}\n{\"\u2028\x00<script>"
	want := record.Intent{Operation: record.SignCard, Tenant: "bank", Issuer: hostile, Subject: hostile, RequestID: hostile, Refs: map[string]string{hostile: hostile}}
	begin(t, log, want)
	body := entries(t, s)[0].Body
	var got record.Intent
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.ContainsAny(string(body), "\n\r\x00") {
		t.Errorf("body is more than a line: %q", body)
	}
}

// Whatever the store, it is handed times as entries have them.
func TestTimeOfAnEntryIsUTCToTheMillisecond(t *testing.T) {
	_, s := newLog(t)
	seen := &watched{Store: s}
	begin(t, audit.New(seen, func() time.Time { return now }), full)
	if diff := cmp.Diff(kept, seen.last.At); diff != "" || seen.last.At.Location() != time.UTC {
		t.Errorf("%v: %s", seen.last.At, diff)
	}
}

// watched shows what a store is handed.
type watched struct {
	audit.Store
	last audit.Entry
}

func (w *watched) Commit(ctx context.Context, batch []*audit.Append, number func([]*audit.Append) []audit.Row) error {
	w.last = batch[len(batch)-1].Entry
	return w.Store.Commit(ctx, batch, number)
}

func TestTicketsDifferAndSortByTime(t *testing.T) {
	log, s := newLog(t)
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	last := ""
	for i := range 20 {
		ticket := begin(t, log, full)
		if !form.MatchString(ticket.ID()) || ticket.ID() <= last {
			t.Fatalf("ticket %q after %q", ticket.ID(), last)
		}
		last = ticket.ID()
		if diff := cmp.Diff(full, ticket.Intent()); diff != "" {
			t.Error(diff)
		}
		if e := entries(t, s)[i]; e.Ticket != last {
			t.Errorf("entry has ticket %q, want %q", e.Ticket, last)
		}
	}
}

func TestResultStandsUnderItsIntentsTicket(t *testing.T) {
	log, s := newLog(t)
	a, b := begin(t, log, full), begin(t, log, record.Intent{Operation: record.StoreCard, Tenant: "other bank"})
	for _, ticket := range []*record.Ticket{b, a} {
		if _, err := log.Conclude(context.Background(), ticket, record.Done()); err != nil {
			t.Fatal(err)
		}
	}
	all := entries(t, s)
	for i, want := range []*record.Ticket{a, b, b, a} {
		if all[i].Ticket != want.ID() || all[i].Tenant != want.Intent().Tenant {
			t.Errorf("entry %d is of ticket %q, tenant %q; want %q, %q", i, all[i].Ticket, all[i].Tenant, want.ID(), want.Intent().Tenant)
		}
	}
}

func TestReceiptReleasesItsOwnOutputsAlone(t *testing.T) {
	ctx := context.Background()
	log, _ := newLog(t)
	mine, others := begin(t, log, full), begin(t, log, full)
	hold := func(ticket *record.Ticket, name string) record.Held[string] {
		return record.Hold(ticket, name, "output", []byte("output"))
	}
	a, b, foreign := hold(mine, "a"), hold(mine, "b"), hold(others, "a")
	receipt, err := log.Conclude(ctx, mine, record.Done(a.Digest()))
	if err != nil {
		t.Fatal(err)
	}
	failed, err := log.Conclude(ctx, others, record.Result{Outcome: record.OutcomeFailed, Reason: "failed", Outputs: []record.Digest{foreign.Digest()}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		held    record.Held[string]
		receipt *record.Receipt
		ok      bool
	}{
		"named in the result":         {a, receipt, true},
		"not named in the result":     {b, receipt, false},
		"of another ticket":           {foreign, receipt, false},
		"of an operation that failed": {foreign, failed, false},
		"no receipt":                  {a, nil, false},
	} {
		got, err := tc.held.Release(tc.receipt)
		if (err == nil) != tc.ok || (got != "") != tc.ok {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if !tc.ok && !errors.Is(err, record.ErrNoReceipt) {
			t.Errorf("%s: %v is not ErrNoReceipt", name, err)
		}
	}
}

// A change that cannot be made fails the step with the domain's own error: neither
// ticket nor receipt, and no entry.
func TestChangeThatFailsGivesNothingAndComesThrough(t *testing.T) {
	ctx := context.Background()
	log, s := newLog(t)
	claim := func() *provisioning.NonceClaim {
		return &provisioning.NonceClaim{Tenant: "bank", ID: [32]byte{1}, Now: now, Until: now.Add(time.Minute)}
	}
	won := claim()
	ticket, err := log.Begin(ctx, full, won)
	if err != nil {
		t.Fatal(err)
	}
	if loser, err := log.Begin(ctx, full, claim()); loser != nil || !errors.Is(err, provisioning.ErrNonceUsed) {
		t.Errorf("second claim: ticket %v, error %v", loser, err)
	}
	fenced := *won
	fenced.Fence++
	held := record.Hold(ticket, "a", "output", []byte("output"))
	receipt, err := log.Conclude(ctx, ticket, record.Done(held.Digest()), provisioning.NonceEnd{Claim: fenced, Used: true})
	if receipt != nil || !errors.Is(err, provisioning.ErrNonceUsed) {
		t.Errorf("end under another fence: receipt %v, error %v", receipt, err)
	}
	if out, err := held.Release(receipt); out != "" || err == nil {
		t.Errorf("released %q, %v", out, err)
	}
	if all := entries(t, s); len(all) != 1 {
		t.Errorf("%d entries, want the one intent", len(all))
	}
}

func TestLogThatCannotBeWrittenGivesNothing(t *testing.T) {
	ctx := context.Background()
	log, s := newLog(t)
	ticket := begin(t, log, full)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, beginErr := log.Begin(ctx, full)
	receipt, concludeErr := log.Conclude(ctx, ticket, record.Done())
	if receipt != nil {
		t.Error("a receipt without a record")
	}
	for doing, err := range map[string]error{
		"intent": beginErr, "result": concludeErr,
		"refusal": log.Refuse(ctx, full, "x"), "start": log.Note(ctx, audit.Lifecycle{Event: "start"}),
	} {
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) {
			t.Errorf("%s: %v has no RetryAfter", doing, err)
			continue
		}
		// The first finds that nothing can be written, the others that nobody knows what is there.
		want := "record " + doing + ": database: read the log failed"
		if doing == "intent" {
			want = "record intent: database: append to the log failed"
		}
		if err.Error() != want {
			t.Errorf("%s: text %q, want %q", doing, err, want)
		}
	}
}
