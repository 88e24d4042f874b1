package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// tell records states of a wallet token: what a network tells, and what an activation makes.
func (s *scene) tell(reference string, statuses ...provisioning.TokenStatus) {
	s.Helper()
	for i, status := range statuses {
		t := provisioning.Token{
			Owner: provisioning.Owner{Tenant: "shop", Issuer: "iss", Subject: "5105105105105100"}, Reference: reference, ExternalCardID: "card-1",
			Status: status, ID: "id-" + reference, Revision: int64(i + 1), Changed: s.clock.Now(),
		}
		if status == provisioning.TokenActive {
			t.Activated = s.clock.Now().Add(-time.Second)
		}
		refs := map[string]string{"walletToken": t.ID, "revision": fmt.Sprint(t.Revision), "stateSha256": t.StateSHA256()}
		put := provisioning.TokenPut{Token: t, Was: int64(i)}
		if status == provisioning.TokenInactive {
			s.operate(record.PutWalletToken, refs, put)
			continue
		}
		done := record.Done()
		done.Refs = refs
		ticket, err := s.log.Begin(s.Context(), record.Intent{Operation: record.ActivateToken, Tenant: "shop"})
		if err == nil {
			_, err = s.log.Conclude(s.Context(), ticket, done, put)
		}
		if err != nil {
			s.Fatal(err)
		}
	}
}

// enable records an enablement.
func (s *scene) enable(revision int64, percentage int) {
	s.Helper()
	e := provisioning.Enablement{Tenant: "shop", Revision: revision, Changed: s.clock.Now(), Rules: []provisioning.EnablementRule{{Percentage: percentage}}}
	text, err := e.RulesText()
	if err != nil {
		s.Fatal(err)
	}
	s.operate(record.PutEnablement, map[string]string{"revision": fmt.Sprint(revision), "rulesSha256": provisioning.RulesSHA256(text)}, provisioning.EnablementPut{Enablement: e})
}

// What decides whether a token may be activated, or a card provisioned, cannot be changed beside
// the log, removed, or put back to what it was.
func TestWalletTokensAndEnablementsAreHeldAgainstTheirEntries(t *testing.T) {
	lived := func(t *testing.T) *scene {
		s := newScene(t)
		s.tell("a", provisioning.TokenInactive, provisioning.TokenActive) // entries 0, 1 and 2
		s.tell("b", provisioning.TokenInactive)                           // 3
		s.enable(1, 100)                                                  // 4
		s.enable(2, 0)                                                    // 5
		// What told nothing new made no state.
		s.operate(record.PutWalletToken, map[string]string{"walletToken": "id-b"}, provisioning.TokenAttempt{Tenant: "shop", Reference: "b"})
		s.step()
		return s
	}
	for name, tc := range map[string]struct {
		tamper string
		what   []string // each in a fault; none: no fault
	}{
		"whole":                   {"UPDATE wallet_tokens SET attempt = 7", nil},
		"a token made active":     {"UPDATE wallet_tokens SET status = 'ACTIVE' WHERE reference = 'b'", []string{"state of wallet token id-b"}},
		"a token of another card": {"UPDATE wallet_tokens SET external_card = 'card-2' WHERE reference = 'b'", []string{"state of wallet token id-b"}},
		"of another owner":        {"UPDATE wallet_tokens SET owner_sub = 'mallory' WHERE reference = 'b'", []string{"state of wallet token id-b"}},
		"never active":            {"UPDATE wallet_tokens SET activated_at = 0 WHERE reference = 'a'", []string{"state of wallet token id-a"}},
		"put back": {"UPDATE wallet_tokens SET (revision, status, activated_at, changed_at) = (SELECT revision, status, activated_at, changed_at FROM wallet_token_history WHERE id = 'id-a' AND revision = 1) WHERE reference = 'a'",
			[]string{"version 1 of what 2 entries changed"}},
		"removed":                {"DELETE FROM wallet_tokens WHERE reference = 'b'", []string{"version 0 of what 1 entries changed"}},
		"of nowhere":             {"INSERT INTO wallet_tokens SELECT tenant, 'c', 'id-c', owner_iss, owner_sub, card_reference, external_card, device, status, path, process, activated_at, revision, changed_at, attempt FROM wallet_tokens WHERE reference = 'b'", []string{"state of wallet token id-c", "wallet token id-c of tenant shop is in the database in version 1, and 0 entries"}},
		"a history shortened":    {"DELETE FROM wallet_token_history WHERE reference = 'a' AND revision = 1", []string{"revision 1 of wallet token id-a"}},
		"a history rewritten":    {"UPDATE wallet_token_history SET status = 'SUSPENDED' WHERE reference = 'a' AND revision = 1", []string{"revision 1 of wallet token id-a", "state of wallet token id-a"}},
		"an enablement widened":  {"UPDATE enablements SET rules = '[{\"percentage\":100}]' WHERE revision = 2", []string{"enablement 2 of tenant shop", "missing: enablement 2 "}},
		"an enablement put back": {"DELETE FROM enablements WHERE revision = 2", []string{"enablement 2 of tenant shop"}},
		"another tenant's":       {"INSERT INTO enablements SELECT 'rail', revision, rules, changed_at FROM enablements WHERE revision = 1", []string{"of tenant rail is in the database"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := lived(t)
			s.beside(tc.tamper)
			report := s.verify(nil)
			if len(report.Faults) != len(tc.what) {
				t.Errorf("%d faults: %v", len(report.Faults), report.Faults)
			}
			for _, what := range tc.what {
				found := false
				for _, f := range report.Faults {
					found = found || strings.Contains(f.What, what)
				}
				if !found {
					t.Errorf("faults %v, want %q", report.Faults, what)
				}
			}
		})
	}
}
