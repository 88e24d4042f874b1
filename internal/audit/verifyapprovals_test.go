package audit_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// decideAndVerify leaves a decision and a passcode that was verified, as
// provisioning.Service does.
func (s *scene) decideAndVerify() {
	s.Helper()
	now := s.clock.Now().UTC().Truncate(time.Millisecond)
	owner := provisioning.Owner{Tenant: "shop", Issuer: "app", Subject: "user"}
	conclude := func(op record.Operation, refs, result map[string]string, change record.Change) {
		s.Helper()
		ticket, err := s.log.Open(record.Intent{Operation: op, Tenant: "shop", Refs: refs})
		if err == nil {
			done := record.Done()
			done.Refs = result
			_, err = s.log.Conclude(context.Background(), ticket, done, change)
		}
		if err != nil {
			s.Fatal(err)
		}
	}
	d := provisioning.Decision{ID: "d-1", Owner: owner, Card: []byte("card"), Device: provisioning.Ref{1}, Apple: path.Orange, Path: path.Orange,
		Required: []path.Requirement{{Rule: "apple-orange-0g", AnyOf: []path.Step{path.CallCentre}}}, At: now, Until: now.Add(time.Hour)}
	conclude(record.DecideProvisioning, nil, map[string]string{"decision": d.ID, "stateSha256": d.StateSHA256()}, d)
	p := provisioning.PasscodeRow{ID: "p-1", Owner: owner, Card: []byte("card"), Channel: "sms", Attempts: 3, PerHour: 5,
		MAC: signer.PasscodeMAC{Key: "passcode", MAC: []byte("mac")}, Created: now, Until: now.Add(time.Minute)}
	conclude(record.SendPasscode, nil, map[string]string{"passcode": p.ID, "stateSha256": p.StateSHA256()}, p)
	conclude(record.VerifyPasscode, map[string]string{"passcode": p.ID}, map[string]string{"verifiedAt": now.Format(time.RFC3339Nano)},
		provisioning.PasscodeVerified{Tenant: "shop", ID: p.ID, At: now})
	s.step()
}

// What a decision asks for, and what a passcode proves, cannot be changed beside the log.
func TestDecisionsAndPasscodesAreHeldAgainstTheirEntries(t *testing.T) {
	for name, tc := range map[string]struct{ tamper, what string }{
		"whole":                       {"UPDATE one_time_passcodes SET attempts = attempts - 1", ""},
		"a decision made green":       {"UPDATE provisioning_decisions SET path = 'GREEN'", "missing: decision d-1 "},
		"a step taken out":            {"UPDATE provisioning_decisions SET required = '[]'", "missing: decision d-1 "},
		"another step taken in":       {`UPDATE provisioning_decisions SET required = replace(required, 'call-centre', 'in-app-verification')`, "missing: decision d-1 "},
		"a decision about another":    {"UPDATE provisioning_decisions SET card = x'00'", "missing: decision d-1 "},
		"a decision for longer":       {"UPDATE provisioning_decisions SET until_at = until_at + 1", "missing: decision d-1 "},
		"a decision of nowhere":       {"INSERT INTO provisioning_decisions SELECT tenant, 'd-2', owner_iss, owner_sub, card, device, session, apple, 'GREEN', '[]', at, until_at, 2 FROM provisioning_decisions", "missing: decision d-2 "},
		"a decision that ended":       {"DELETE FROM provisioning_decisions", ""},
		"a channel made tenured":      {"UPDATE one_time_passcodes SET channel_since = 1", "missing: passcode p-1 "},
		"a passcode of another owner": {"UPDATE one_time_passcodes SET owner_sub = 'other'", "missing: passcode p-1 "},
		"a passcode verified later":   {"UPDATE one_time_passcodes SET verified_at = verified_at + 1", "missing: verified passcode p-1 "},
		"a passcode that ended":       {"DELETE FROM one_time_passcodes", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.decideAndVerify()
			s.beside(tc.tamper)
			report := s.verify(nil)
			if tc.what == "" {
				if len(report.Faults) != 0 {
					t.Errorf("faults: %v", report.Faults)
				}
				return
			}
			if len(report.Faults) != 1 || !strings.Contains(report.Faults[0].What, tc.what) {
				t.Errorf("faults %v, want one: %s", report.Faults, tc.what)
			}
		})
	}
}
