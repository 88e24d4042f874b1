package keys_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/keys"
)

// away is a member that does not answer.
type away struct{}

func (away) Name() string { return "away" }
func (away) Inventory(context.Context) (hsm.Inventory, error) {
	return hsm.Inventory{}, errors.New("no answer")
}

func TestReportHasEveryMemberAndEveryKey(t *testing.T) {
	token := hsmtest.New(t, func([]hsm.NewKey) []hsm.NewKey {
		return []hsm.NewKey{{Name: "vault", Purpose: hsm.CardVault}, {Name: "log", Purpose: hsm.AuditCheckpoint}}
	})
	if _, err := token.HMAC(context.Background(), "vault", nil); err == nil {
		t.Fatal("an AES key computes HMACs")
	}
	ring := &hsm.Keyring{Environment: "test"}
	for _, k := range token.Keys() {
		k.Created, k.Until = "2026-01-01", "2027-01-01"
		ring.Keys = append(ring.Keys, k.Key)
	}
	now := time.Date(2026, 12, 22, 12, 0, 0, 0, time.UTC)
	r := keys.Read(context.Background(), ring, []keys.Token{token, away{}}, now)
	if len(r.Members) != 2 || r.Members[0].Token == nil || r.Members[1].Error != "no answer" || len(r.Keys) != 2 || len(r.Unlisted) != 0 {
		t.Fatalf("report is %+v", r)
	}
	for _, k := range r.Keys {
		if k.AgeDays != 355 || k.CryptoperiodDaysLeft != 9 || k.CryptoperiodEnd != "2027-01-01" || len(k.Members) != 1 {
			t.Errorf("%s: %+v", k.Name, k)
		}
		on := k.Members[0]
		if on.Problem != "" || len(on.Deviations) != 0 || !strings.HasPrefix(on.URI, "pkcs11:token=") || !strings.Contains(on.URI, ";object="+k.Name+";") {
			t.Errorf("%s: %+v", k.Name, on)
		}
	}
	if b, err := json.Marshal(r); err != nil || !strings.Contains(string(b), `"NEVER_EXTRACTABLE":true`) {
		t.Errorf("as JSON: %s, %v", b, err)
	}
}

// What keeps a key from being used is said, and a role that the process does not have is no
// fault of the key.
func TestConditionOfAKeyOnAMember(t *testing.T) {
	for want, m := range map[string]keys.KeyMember{
		"answers to its pin":                             {},
		"answers to its pin, but LOCAL=false, SIGN=true": {Deviations: []string{"LOCAL=false", "SIGN=true"}},
		string(hsm.KeyNotBound):                          {Problem: string(hsm.KeyNotBound)},
	} {
		if m.Condition() != want || m.NotBound() != (want == string(hsm.KeyNotBound)) {
			t.Errorf("%+v: %q, not bound: %v", m, m.Condition(), m.NotBound())
		}
	}
}

// Each stage is told of once, a retired key never, and a renewed end anew.
func TestEndsAreToldAt90And30And7DaysAndWhenPast(t *testing.T) {
	ring := &hsm.Keyring{Keys: []hsm.Key{
		{Name: "vault", Purpose: hsm.CardVault, State: hsm.Active, Created: "2026-01-01", Until: "2027-01-01"},
		{Name: "old", Purpose: hsm.CardVault, State: hsm.Retired, Created: "2020-01-01"},
	}}
	var log bytes.Buffer
	w := keys.Watcher{Ring: func() *hsm.Keyring { return ring }, Log: slog.New(slog.NewTextHandler(&log, nil))}
	end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		daysLeft int
		line     string
	}{
		{91, ""}, {90, "level=WARN"}, {89, ""}, {30, "level=WARN"}, {29, ""}, {7, "level=ERROR"}, {3, ""}, {0, ""}, {-1, "is over"}, {-2, ""},
	} {
		log.Reset()
		w.Look(end.Add(-time.Duration(step.daysLeft) * 24 * time.Hour))
		if got := log.String(); (got == "") != (step.line == "") || !strings.Contains(got, step.line) {
			t.Errorf("with %d days left it says %q", step.daysLeft, got)
		} else if got != "" && !strings.Contains(got, fmt.Sprintf("daysLeft=%d", step.daysLeft)) {
			t.Errorf("with %d days left it says %q", step.daysLeft, got)
		}
	}
	ring.Keys[0].Until = "2027-01-05"
	w.Look(end.Add(-time.Hour))
	if !strings.Contains(log.String(), "key=vault") {
		t.Error("another end is not told of")
	}
}
