package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
)

// Approvals is what the API of decisions and passcodes asks of the domain. Its errors are
// those of provisioning.Service's methods; nothing is retried here.
type Approvals interface {
	Decide(ctx context.Context, who provisioning.Caller, req provisioning.DecisionRequest) (provisioning.Decided, error)
	SendPasscode(ctx context.Context, who provisioning.Caller, req provisioning.PasscodeRequest) (provisioning.Sent, error)
	VerifyPasscode(ctx context.Context, who provisioning.Caller, id string, code secret.Text) (provisioning.Verification, error)
}

var _ Approvals = (*provisioning.Service)(nil)

// DecideProvisioning is POST /v1/provisioning-decisions.
func (s *server) DecideProvisioning(c *gin.Context) {
	who, ok := s.authorize(c, record.DecideProvisioning, access.DecideProvisioning)
	if !ok {
		return
	}
	if s.cfg.DecisionsByCertificate && !who.Certified {
		err := access.AuthenticationError{Reason: access.ReasonNoCertificate}
		s.unauthenticated(c, record.DecideProvisioning, err)
		s.fail(c, err)
		return
	}
	var body DecisionRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	caller := s.cardCaller(c, who, access.DecideProvisioning)
	out, err := s.cfg.Approvals.Decide(c.Request.Context(), caller, decisionRequest(body, caller.Tenant))
	if err != nil {
		s.failed(c, record.DecideProvisioning, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", decision(out))
}

// decisionRequest sorts the evidence: what is neither a passcode nor a statement is unproven.
func decisionRequest(b DecisionRequest, tenant string) provisioning.DecisionRequest {
	req := provisioning.DecisionRequest{
		ExternalCardID: b.ExternalCardId, Owner: cardOwner(b.Owner, tenant), DeviceID: optional(b.DeviceId), SessionID: optional(b.SessionId),
		Source: path.Source(b.Source), Apple: path.Color(b.Apple.Recommendation), ConversationID: optional(b.Apple.ConversationId),
	}
	if b.Apple.ReasonCodes != nil {
		req.ReasonCodes = *b.Apple.ReasonCodes
	}
	if b.Evidence == nil {
		return req
	}
	for _, e := range *b.Evidence {
		if e.Passcode != nil {
			req.Passcodes = append(req.Passcodes, *e.Passcode)
		}
		if e.Statement != nil {
			req.Statements = append(req.Statements, *e.Statement)
		}
		if e.Passcode == nil && e.Statement == nil {
			req.Unproven++
		}
	}
	return req
}

// optional is a member that may be left out.
func optional(member *string) string {
	if member == nil {
		return ""
	}
	return *member
}

func cardOwner(o *CardOwner, tenant string) *provisioning.Owner {
	if o == nil {
		return nil
	}
	return &provisioning.Owner{Tenant: tenant, Issuer: o.Iss, Subject: o.Sub}
}

func decision(d provisioning.Decided) Decision {
	out := Decision{
		DecisionId: d.ID, Path: DecisionPath(d.Path), RiskScore: d.Score, ValidUntil: d.Until.UTC(),
		Reasons: append([]string{}, d.Reasons...), Required: []RequiredStep{},
	}
	for _, r := range d.Required {
		step := RequiredStep{Rule: r.Rule}
		for _, s := range r.AnyOf {
			step.AnyOf = append(step.AnyOf, string(s))
		}
		out.Required = append(out.Required, step)
	}
	return out
}

// SendPasscode is POST /v1/one-time-passcodes.
func (s *server) SendPasscode(c *gin.Context) {
	who, ok := s.authorize(c, record.SendPasscode, access.SendPasscodes)
	if !ok {
		return
	}
	var body PasscodeRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	caller := s.cardCaller(c, who, access.SendPasscodes)
	out, err := s.cfg.Approvals.SendPasscode(c.Request.Context(), caller, provisioning.PasscodeRequest{
		ExternalCardID: body.ExternalCardId, Owner: cardOwner(body.Owner, caller.Tenant), DeviceID: optional(body.DeviceId),
		ChannelID: body.ChannelId, Statement: optional(body.Statement),
	})
	if err != nil {
		s.failed(c, record.SendPasscode, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", SentPasscode{PasscodeId: out.ID, ExpiresAt: out.Until.UTC(), Attempts: out.Attempts})
}

// VerifyPasscode is POST /v1/one-time-passcodes/{passcodeId}/verifications.
func (s *server) VerifyPasscode(c *gin.Context, passcodeID string) {
	who, ok := s.authorize(c, record.VerifyPasscode, access.VerifyPasscodes)
	if !ok {
		return
	}
	var body VerificationRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	code := secret.NewText(body.Passcode)
	defer code.Wipe()
	out, err := s.cfg.Approvals.VerifyPasscode(c.Request.Context(), s.cardCaller(c, who, access.VerifyPasscodes), passcodeID, code)
	if err != nil {
		s.failed(c, record.VerifyPasscode, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", Verification{Verified: out.Verified, AttemptsLeft: out.AttemptsLeft})
}

// approvalProblem translates the errors of decisions and passcodes.
func approvalProblem(err error) (problem, bool) {
	var decision *provisioning.DecisionError
	var tooMany *provisioning.TooManyPasscodesError
	spent := problem{status: http.StatusUnprocessableEntity, name: "passcode", title: "Passcode no longer good", detail: "Send another."}
	switch {
	case errors.As(err, &decision):
		return problem{status: http.StatusForbidden, name: "decision", title: "Decision forbids", reason: string(decision.Reason),
			detail: "The latest decision about this card, or the want of one, does not permit this. The reason says which."}, true
	case errors.As(err, &tooMany):
		return problem{status: http.StatusTooManyRequests, name: "too-many-requests", title: "Too many passcodes", reason: "passcodes",
			detail: "The card has had its passcodes for the hour.", retry: max(tooMany.After, time.Second)}, true
	case errors.Is(err, provisioning.ErrNoConnector):
		return problem{status: http.StatusForbidden, name: "no-connector", title: "No connector",
			detail: "No connector to the network is configured, and so nothing can be delivered."}, true
	case errors.Is(err, provisioning.ErrStatement):
		return problem{status: http.StatusUnprocessableEntity, name: "statement", title: "Statement refused",
			detail: "It is not signed by a configured key, has expired, or is about something else than this request."}, true
	case errors.Is(err, provisioning.ErrUnknownPasscode):
		return problem{status: http.StatusNotFound, name: "unknown-passcode", title: "Unknown passcode",
			detail: "No passcode of this caller has this id."}, true
	case errors.Is(err, provisioning.ErrPasscodeUsed):
		return problem{status: http.StatusConflict, name: "passcode-used", title: "Passcode already used",
			detail: "It has been verified."}, true
	case errors.Is(err, provisioning.ErrPasscodeExpired):
		spent.reason = "expired"
		return spent, true
	case errors.Is(err, provisioning.ErrPasscodeSpent):
		spent.reason = "spent"
		return spent, true
	default:
		return problem{}, false
	}
}
