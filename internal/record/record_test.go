package record_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mintmark/mintmark/internal/record"
)

func ticket(id string, op record.Operation) *record.Ticket {
	return record.IssueTicket(id, record.Intent{Operation: op, Tenant: "bank-a"})
}

func hold(t *record.Ticket, name, value string) record.Held[[]byte] {
	return record.Hold(t, name, []byte(value), []byte(value))
}

func TestTicketAllowsItsOperationOnceForEachOutput(t *testing.T) {
	type use struct {
		op   record.Operation
		name string
		ok   bool
	}
	for _, tc := range []struct {
		name   string
		ticket *record.Ticket
		uses   []use
	}{
		{"one output", ticket("1", record.SignCard), []use{{record.SignCard, "tav", true}}},
		{"two outputs", ticket("1", record.SignCard), []use{{record.SignCard, "tav", true}, {record.SignCard, "ecc-v2", true}}},
		{"one output twice", ticket("1", record.SignCard), []use{{record.SignCard, "tav", true}, {record.SignCard, "tav", false}}},
		{"twice, with another in between", ticket("1", record.SignCard), []use{
			{record.SignCard, "tav", true}, {record.SignCard, "ecc-v2", true}, {record.SignCard, "tav", false}, {record.SignCard, "ecc-v2", false}}},
		{"another operation", ticket("1", record.StoreCard), []use{{record.SignCard, "tav", false}}},
		{"another operation's refusal uses nothing up", ticket("1", record.SignCard), []use{
			{record.StoreCard, "tav", false}, {record.SignCard, "tav", true}}},
		{"no operation", ticket("1", record.SignCard), []use{{"", "tav", false}}},
		{"no ticket", nil, []use{{record.SignCard, "tav", false}}},
		{"a ticket that nobody issued", &record.Ticket{}, []use{{record.SignCard, "tav", false}, {"", "", false}}},
		{"a ticket for an intent without an entry", ticket("", record.SignCard), []use{{record.SignCard, "tav", false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i, u := range tc.uses {
				err := tc.ticket.Use(u.op, u.name)
				if u.ok && err != nil {
					t.Errorf("use %d: %v", i, err)
				}
				if !u.ok && !errors.Is(err, record.ErrNoTicket) {
					t.Errorf("use %d: error is %v, want ErrNoTicket", i, err)
				}
			}
		})
	}
}

func TestOfManyUsesAtOnceOneWins(t *testing.T) {
	tk := ticket("1", record.SignCard)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if tk.Use(record.SignCard, "tav") == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d callers may make the output, want 1", won.Load())
	}
}

func TestTicketSaysWhatWasRecorded(t *testing.T) {
	in := record.Intent{Operation: record.SignCard, Tenant: "bank-a", Issuer: "app", Subject: "user-1", Refs: map[string]string{"card": "7"}}
	tk := record.IssueTicket("42", in)
	if got := tk.Intent(); tk.ID() != "42" || got.Subject != "user-1" || got.Refs["card"] != "7" || got.Operation != record.SignCard {
		t.Errorf("ticket %s for %+v", tk.ID(), got)
	}
}

func TestDigestIsThatOfTheOutputOnTheWire(t *testing.T) {
	h := record.Hold(ticket("1", record.SignCard), "tav", 7, []byte("the wire"))
	sum := sha256.Sum256([]byte("the wire"))
	if want := (record.Digest{Name: "tav", SHA256: hex.EncodeToString(sum[:])}); h.Digest() != want {
		t.Errorf("digest is %+v, want %+v", h.Digest(), want)
	}
}

func TestOutputLeavesOnlyWithItsOwnReceipt(t *testing.T) {
	mine, other := ticket("1", record.SignCard), ticket("2", record.SignCard)
	held := hold(mine, "tav", "signature")
	second := hold(mine, "ecc-v2", "sealed")
	failed := record.Result{Outcome: record.OutcomeFailed, Reason: "token", Outputs: []record.Digest{held.Digest()}}
	refused := record.Result{Outcome: record.OutcomeRefused, Reason: "chain", Outputs: []record.Digest{held.Digest()}}
	sameNameOtherBytes := hold(mine, "tav", "another signature").Digest()
	sameBytesOtherName := record.Digest{Name: "ecc-v2", SHA256: held.Digest().SHA256}
	for _, tc := range []struct {
		name    string
		receipt *record.Receipt
		ok      bool
	}{
		{"its own", record.IssueReceipt(mine, record.Done(held.Digest())), true},
		{"its own, for two outputs", record.IssueReceipt(mine, record.Done(second.Digest(), held.Digest())), true},
		{"none", nil, false},
		{"one that nobody issued", &record.Receipt{}, false},
		{"another ticket's", record.IssueReceipt(other, record.Done(held.Digest())), false},
		{"of a failure", record.IssueReceipt(mine, failed), false},
		{"of a refusal", record.IssueReceipt(mine, refused), false},
		{"of no outcome", record.IssueReceipt(mine, record.Result{Outputs: []record.Digest{held.Digest()}}), false},
		{"of a result without outputs", record.IssueReceipt(mine, record.Done()), false},
		{"of another output", record.IssueReceipt(mine, record.Done(second.Digest())), false},
		{"of other bytes under its name", record.IssueReceipt(mine, record.Done(sameNameOtherBytes)), false},
		{"of its bytes under another name", record.IssueReceipt(mine, record.Done(sameBytesOtherName)), false},
		{"of a digest without its value", record.IssueReceipt(mine, record.Done(record.Digest{Name: "tav"})), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := held.Release(tc.receipt)
			if tc.ok {
				if err != nil || string(got) != "signature" {
					t.Errorf("released %q, %v", got, err)
				}
				return
			}
			if !errors.Is(err, record.ErrNoReceipt) || got != nil {
				t.Errorf("released %q, %v; want ErrNoReceipt", got, err)
			}
		})
	}
}

func TestHeldThatNobodyFilledReleasesNothing(t *testing.T) {
	var empty record.Held[[]byte]
	for _, r := range []*record.Receipt{nil, {}, record.IssueReceipt(ticket("", ""), record.Done(empty.Digest())), record.IssueReceipt(ticket("1", ""), record.Done(empty.Digest()))} {
		if got, err := empty.Release(r); !errors.Is(err, record.ErrNoReceipt) || got != nil {
			t.Errorf("released %q, %v", got, err)
		}
	}
}

// A Held is locked against printing too: an output in a log has left the process.
func TestNothingThatPrintsShowsAHeldOutput(t *testing.T) {
	const output = "a signature that is not on record"
	type answer struct {
		Public  record.Held[[]byte]
		private record.Held[string]
	}
	text := record.Hold(ticket("1", record.SignCard), "tav", output, []byte(output))
	both := answer{hold(ticket("1", record.SignCard), "tav", output), text}
	pair := record.Hold(ticket("1", record.SignCard), "both", struct{ A, b []byte }{[]byte(output), []byte(output)}, []byte(output))

	numbers := strings.Trim(fmt.Sprint([]byte(output)), "[]")
	forms := []string{
		output, hex.EncodeToString([]byte(output)), strings.ToUpper(hex.EncodeToString([]byte(output))),
		base64.StdEncoding.EncodeToString([]byte(output)), numbers, strings.ReplaceAll(numbers, " ", ","),
		strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(output)), "[]byte"), "{}"), fmt.Sprintf("% x", output), fmt.Sprintf("% X", output),
	}
	requireNone := func(how, out string) {
		t.Helper()
		for _, f := range forms {
			if strings.Contains(out, f) {
				t.Errorf("%s shows it: %s", how, out)
			}
		}
	}
	for _, x := range []any{both, &both, text, &text, pair, &pair, []answer{both}, map[string]answer{"k": both}, []*answer{&both}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "% x"} {
			requireNone(fmt.Sprintf("%s of %T", verb, x), fmt.Sprintf(verb, x))
		}
		b, err := json.Marshal(x)
		requireNone(fmt.Sprintf("JSON of %T", x), fmt.Sprintf("%s %v", b, err))
		var w bytes.Buffer
		slog.New(slog.NewJSONHandler(&w, nil)).Info("message", "k", x)
		slog.New(slog.NewTextHandler(&w, nil)).Info("message", "k", x)
		requireNone(fmt.Sprintf("slog of %T", x), w.String())
	}
	if _, err := text.Release(nil); err == nil {
		t.Error("released without a receipt")
	} else {
		requireNone("the refusal", err.Error())
	}
}
