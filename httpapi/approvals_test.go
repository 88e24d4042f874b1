package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/secret"
)

// approvals is a domain that remembers what it was asked, and answers with err if there is
// one.
type approvals struct {
	err  error
	who  provisioning.Caller
	req  any
	code string
}

func (a *approvals) Decide(_ context.Context, who provisioning.Caller, req provisioning.DecisionRequest) (provisioning.Decided, error) {
	a.who, a.req = who, req
	return provisioning.Decided{ID: "decision-1", Path: path.Yellow, Score: 20, Reasons: []string{"yellow"}, Until: answeredAt,
		Required: []path.Requirement{{Rule: "yellow", AnyOf: []path.Step{path.OneTimePasscode}}}}, a.err
}

func (a *approvals) SendPasscode(_ context.Context, who provisioning.Caller, req provisioning.PasscodeRequest) (provisioning.Sent, error) {
	a.who, a.req = who, req
	return provisioning.Sent{ID: "passcode-1", Until: answeredAt, Attempts: 3}, a.err
}

func (a *approvals) VerifyPasscode(_ context.Context, who provisioning.Caller, id string, code secret.Text) (provisioning.Verification, error) {
	a.who, a.req = who, id
	code.Reveal(func(b []byte) { a.code = string(b) })
	return provisioning.Verification{AttemptsLeft: 2}, a.err
}

var answeredAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	decisions     = "/v1/provisioning-decisions"
	passcodes     = "/v1/one-time-passcodes"
	verifications = "/v1/one-time-passcodes/passcode-1/verifications"
)

// approvalCalls are the operations, with a body that is in order and the answer to it.
var approvalCalls = map[string]struct{ body, answer string }{
	decisions: {`{"externalCardId":"card-1","source":"in-app","apple":{"recommendation":"YELLOW"}}`,
		`{"decisionId":"decision-1","path":"YELLOW","reasons":["yellow"],"required":[{"anyOf":["one-time-passcode"],"rule":"yellow"}],"riskScore":20,"validUntil":"2026-11-22T12:00:00Z"}`},
	passcodes:     {`{"externalCardId":"card-1","channelId":"sms-1"}`, `{"attempts":3,"expiresAt":"2026-11-22T12:00:00Z","passcodeId":"passcode-1"}`},
	verifications: {`{"passcode":"058213"}`, `{"attemptsLeft":2,"verified":false}`},
}

// newApprovals is an API for a client with all rights on decisions and passcodes.
func newApprovals(t *testing.T, domain *approvals, changes ...func(*setup)) *api {
	return newAPI(t, mustNotBeAsked(t), append(changes, func(s *setup) {
		s.Approvals = domain
		s.clients[0].Grants = append(s.clients[0].Grants, access.Grant{Right: access.DecideProvisioning, AnyOwner: true},
			access.Grant{Right: access.SendPasscodes}, access.Grant{Right: access.VerifyPasscodes})
	})...)
}

func TestDecisionsAndPasscodesAnswerAsDescribed(t *testing.T) {
	for at, call := range approvalCalls {
		domain := &approvals{}
		a := newApprovals(t, domain)
		got := a.do(a.postTo(at, call.body, token(t, issuer, nil)))
		if diff := cmp.Diff(call.answer, got.body); got.status != http.StatusOK || diff != "" {
			t.Errorf("%s: %d %s", at, got.status, diff)
		}
		if domain.who.Tenant != "bank-a" || domain.who.Subject != "user-1" || domain.who.AnyOwner != (at == decisions) {
			t.Errorf("%s was asked by %+v", at, domain.who)
		}
		a.do(a.postTo(at, call.body, token(t, bystander, nil))).expect(t, http.StatusForbidden, "forbidden")
	}
}

// Evidence that is neither a record nor a statement arrives as something that was only said.
func TestEvidenceIsSortedByWhatProvesIt(t *testing.T) {
	domain := &approvals{}
	a := newApprovals(t, domain)
	a.do(a.postTo(decisions, `{"externalCardId":"card-1","deviceId":"d-1","sessionId":"s-1","source":"wallet","owner":{"iss":"app","sub":"user-2"},
		"apple":{"recommendation":"ORANGE","reasonCodes":["0G"],"conversationId":"c-1"},
		"evidence":[{"passcode":"p-1"},{"statement":"a.b.c"},{"verified":true},{}]}`, token(t, issuer, nil)))
	if diff := cmp.Diff(provisioning.DecisionRequest{
		ExternalCardID: "card-1", Owner: &provisioning.Owner{Tenant: "bank-a", Issuer: "app", Subject: "user-2"}, DeviceID: "d-1", SessionID: "s-1", ConversationID: "c-1",
		Apple: path.Orange, ReasonCodes: []string{"0G"}, Source: path.Wallet, Statements: []string{"a.b.c"}, Passcodes: []string{"p-1"}, Unproven: 2,
	}, domain.req, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPasscodeReachesTheDomainAndNothingElse(t *testing.T) {
	domain := &approvals{}
	a := newApprovals(t, domain)
	a.do(a.postTo(verifications, `{"passcode":"058213"}`, token(t, issuer, nil)))
	if domain.code != "058213" || domain.req != "passcode-1" {
		t.Errorf("the domain got %q for %v", domain.code, domain.req)
	}
	if strings.Contains(a.log.String(), "058213") {
		t.Error("the passcode is in the log")
	}
}

// Outside development the network proves itself by its certificate: a token alone, which
// somebody may have taken, asks for no decision.
func TestDecisionsNeedACertificateOutsideDevelopment(t *testing.T) {
	domain := &approvals{}
	a := newApprovals(t, domain, withClient(desk(access.DecideProvisioning)), func(s *setup) {
		s.DecisionsByCertificate = true
		s.Certificates = map[Group]CertificateMode{IssuerGroup: CertificatesOptional}
	})
	body := approvalCalls[decisions].body
	a.do(on(a.postTo(decisions, body, token(t, issuer, nil)), withCert())).expect(t, http.StatusUnauthorized, "unauthenticated")
	a.do(on(a.postTo(decisions, body, token(t, issuer, nil)), withoutCert)).expect(t, http.StatusUnauthorized, "unauthenticated")
	if domain.req != nil {
		t.Error("the domain was asked")
	}
	req := on(a.postTo(decisions, body, ""), withCert())
	req.Header.Del("Authorization")
	if got := a.do(req); got.status != http.StatusOK || domain.who.Issuer != "desk" {
		t.Errorf("with its certificate: %d %s", got.status, got.body)
	}
}

func TestRefusalsOfApprovalsAreProblemsOfTheirOwn(t *testing.T) {
	for _, tc := range []struct {
		at     string
		err    error
		status int
		name   string
		says   string
	}{
		{decisions, provisioning.ErrUnknownCard, 404, "unknown-card", ""},
		{decisions, context.DeadlineExceeded, 503, "unavailable", ""},
		{passcodes, provisioning.ErrStatement, 422, "statement", ""},
		{passcodes, provisioning.ErrNoConnector, 403, "no-connector", ""},
		{passcodes, &provisioning.TooManyPasscodesError{After: 90 * time.Second}, 429, "too-many-requests", `"reason":"passcodes"`},
		{verifications, provisioning.ErrUnknownPasscode, 404, "unknown-passcode", ""},
		{verifications, provisioning.ErrPasscodeUsed, 409, "passcode-used", ""},
		{verifications, provisioning.ErrPasscodeExpired, 422, "passcode", `"reason":"expired"`},
		{verifications, provisioning.ErrPasscodeSpent, 422, "passcode", `"reason":"spent"`},
		{verifications, errors.New(canary), 500, "internal", ""},
	} {
		a := newApprovals(t, &approvals{err: tc.err})
		got := a.do(a.postTo(tc.at, approvalCalls[tc.at].body, token(t, issuer, nil)))
		got.expect(t, tc.status, tc.name)
		if !strings.Contains(got.body, tc.says) || strings.Contains(got.body, canary) {
			t.Errorf("%v: %s", tc.err, got.body)
		}
	}
	a := newAPI(t, provisioner(failsWith(&provisioning.DecisionError{Reason: provisioning.DecisionRed})))
	got := a.do(a.post(text(goodBody())))
	got.expect(t, http.StatusForbidden, "decision")
	if !strings.Contains(got.body, `"reason":"decision-red"`) {
		t.Errorf("answered %s", got.body)
	}
}
