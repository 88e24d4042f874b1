package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/record"
)

// Changes has changes made by two people; *approval.Service is it.
type Changes interface {
	Propose(ctx context.Context, who approval.Caller, kind string, document []byte) (approval.Change, error)
	Approve(ctx context.Context, who approval.Caller, id, digest string) (approval.Change, error)
	Reject(ctx context.Context, who approval.Caller, id string) (approval.Change, error)
	Change(ctx context.Context, id string) (approval.Change, error)
	Changes(ctx context.Context, limit int) ([]approval.Change, error)
}

var _ Changes = (*approval.Service)(nil)

// mostChanges is how many of the newest changes are listed.
const mostChanges = 100

// ChangeRoutes gives dual control on the admin listener, for callers that prove themselves by a
// bearer token as on the API listener (right proposeChanges or approveChanges):
//
//	POST /v1/changes               {"kind", "document"}: 201, the change
//	GET  /v1/changes               {"changes"}, the newest first
//	GET  /v1/changes/{id}          one, with its document
//	POST /v1/changes/{id}/approve  {"sha256"} of the document that was looked at: makes the change
//	POST /v1/changes/{id}/reject   {}: it shall not be made; who may propose or approve may
//
// Of cfg it takes what API listeners take, but for their groups.
func ChangeRoutes(changes Changes, cfg Config) func(gin.IRouter) {
	h := &changeRoutes{server: &server{cfg: cfg, log: cfg.Log}, changes: changes}
	return func(r gin.IRouter) {
		g := r.Group("/v1/changes", h.observe, recovering(cfg.Metrics, cfg.Log), h.withDeadline)
		g.POST("", h.propose)
		g.GET("", h.list)
		g.GET("/:id", h.get)
		g.POST("/:id/approve", h.approve)
		g.POST("/:id/reject", h.reject)
	}
}

type changeRoutes struct {
	*server
	changes Changes
}

// ChangeDocument is a change as it is shown.
type ChangeDocument struct {
	ID       string         `json:"id"`
	Kind     string         `json:"kind"`
	SHA256   string         `json:"sha256"` // of document
	Document jsontext.Value `json:"document"`
	State    string         `json:"state"` // open, applying, applied, rejected, expired
	Proposer PersonDocument `json:"proposer"`
	Proposed time.Time      `json:"proposed"`
	Expires  time.Time      `json:"expires"`
	// Decider and Decided are there once somebody approved or rejected.
	Decider *PersonDocument `json:"decider,omitzero"`
	Decided *time.Time      `json:"decided,omitzero"`
}

// PersonDocument is who proposed or decided.
type PersonDocument struct {
	Tenant string `json:"tenant"`
	ISS    string `json:"iss"`
	Sub    string `json:"sub"`
}

func personOf(p approval.Person) PersonDocument {
	return PersonDocument{Tenant: p.Tenant, ISS: p.Issuer, Sub: p.Subject}
}

func changeDocument(c approval.Change) ChangeDocument {
	d := ChangeDocument{
		ID: c.ID, Kind: c.Kind, SHA256: c.SHA256, Document: c.Document, State: string(c.State),
		Proposer: personOf(c.Proposer), Proposed: c.Proposed, Expires: c.Expires,
	}
	if !c.Decided.IsZero() {
		decider := personOf(c.Decider)
		d.Decider, d.Decided = &decider, &c.Decided
	}
	return d
}

// ProposedChange is the body of a proposal.
type ProposedChange struct {
	Kind     string         `json:"kind"`
	Document jsontext.Value `json:"document"`
}

// ApprovedDocument is the body of an approval.
type ApprovedDocument struct {
	SHA256 string `json:"sha256"`
}

func (h *changeRoutes) propose(c *gin.Context) {
	who, ok := h.authorize(c, record.ProposeChange, access.ProposeChanges)
	if !ok {
		return
	}
	var body ProposedChange
	if err := decode(c, &body); err != nil {
		h.fail(c, err)
		return
	}
	made, err := h.changes.Propose(c.Request.Context(), h.person(c, who, access.ProposeChanges), body.Kind, body.Document)
	h.answer(c, record.ProposeChange, who, http.StatusCreated, made, err)
}

func (h *changeRoutes) approve(c *gin.Context) {
	who, ok := h.authorize(c, record.ApproveChange, access.ApproveChanges)
	if !ok {
		return
	}
	var body ApprovedDocument
	if err := decode(c, &body); err != nil {
		h.fail(c, err)
		return
	}
	made, err := h.changes.Approve(c.Request.Context(), h.person(c, who, access.ApproveChanges), c.Param("id"), body.SHA256)
	h.answer(c, record.ApproveChange, who, http.StatusOK, made, err)
}

func (h *changeRoutes) reject(c *gin.Context) {
	who, right, ok := h.either(c, record.RejectChange)
	if !ok {
		return
	}
	if err := decode(c, &struct{}{}); err != nil {
		h.fail(c, err)
		return
	}
	made, err := h.changes.Reject(c.Request.Context(), h.person(c, who, right), c.Param("id"))
	h.answer(c, record.RejectChange, who, http.StatusOK, made, err)
}

func (h *changeRoutes) get(c *gin.Context) {
	if _, _, ok := h.either(c, record.ReadChange); !ok {
		return
	}
	change, err := h.changes.Change(c.Request.Context(), c.Param("id"))
	if err != nil {
		h.fail(c, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", changeDocument(change))
}

func (h *changeRoutes) list(c *gin.Context) {
	if _, _, ok := h.either(c, record.ReadChange); !ok {
		return
	}
	all, err := h.changes.Changes(c.Request.Context(), mostChanges)
	if err != nil {
		h.fail(c, err)
		return
	}
	body := struct {
		Changes []ChangeDocument `json:"changes"`
	}{[]ChangeDocument{}}
	for _, change := range all {
		body.Changes = append(body.Changes, changeDocument(change))
	}
	writeJSON(c, http.StatusOK, "application/json", body)
}

// either gives the caller if it may propose or approve, and which.
func (h *changeRoutes) either(c *gin.Context, op record.Operation) (access.Caller, access.Right, bool) {
	who, err := h.authenticate(c, op)
	if err == nil && who.May(access.ApproveChanges) == nil {
		return who, access.ApproveChanges, true
	}
	if err == nil {
		err = h.permit(c, op, who, access.ProposeChanges)
	}
	if err != nil {
		h.fail(c, err)
		return access.Caller{}, "", false
	}
	return who, access.ProposeChanges, true
}

// person is the caller as one of the two.
func (h *changeRoutes) person(c *gin.Context, who access.Caller, right access.Right) approval.Caller {
	return approval.Caller{
		Person:    approval.Person{Tenant: who.Tenant, Issuer: who.Issuer, Subject: who.Subject},
		RequestID: requestID(c), Claims: h.claims(who, right),
	}
}

func (h *changeRoutes) answer(c *gin.Context, op record.Operation, who access.Caller, status int, made approval.Change, err error) {
	if err != nil {
		h.replayed(c, op, who, err)
		h.fail(c, err)
		return
	}
	writeJSON(c, status, "application/json", changeDocument(made))
}

// changeProblem translates the errors of dual control.
func changeProblem(err error) (problem, bool) {
	var document *approval.DocumentError
	switch {
	case errors.Is(err, approval.ErrUnknown):
		return problem{status: http.StatusNotFound, name: "unknown-change", title: "Unknown change",
			detail: "GET /v1/changes lists the newest."}, true
	case errors.Is(err, approval.ErrKind):
		return problem{status: http.StatusUnprocessableEntity, name: "change-kind", title: "Unknown kind of change",
			detail: "The service has no such kind; docs/dualcontrol.md lists them."}, true
	case errors.As(err, &document):
		return problem{status: http.StatusUnprocessableEntity, name: "change-document", title: "Document refused", detail: document.What}, true
	case errors.Is(err, approval.ErrSamePerson):
		return problem{status: http.StatusForbidden, name: "same-person", title: "A second person is needed",
			detail: "Whoever proposed a change cannot approve it, with another of their keys neither."}, true
	case errors.Is(err, approval.ErrRequired):
		return problem{status: http.StatusForbidden, name: "approval-required", title: "Needs a second person's approval",
			detail: "dualControl.required is set. Have the change proposed (mintmark changes propose) and approved by somebody else; docs/dualcontrol.md has the kinds and their documents."}, true
	case errors.Is(err, approval.ErrOtherDocument):
		return problem{status: http.StatusConflict, name: "other-document", title: "Another document",
			detail: "sha256 is not the digest of the proposed document. Read the change again before you approve it."}, true
	case errors.Is(err, approval.ErrNotOpen):
		return problem{status: http.StatusConflict, name: "change-not-open", title: "Change not open",
			detail: "It was applied, rejected, its time is over, or somebody is approving it at the moment."}, true
	default:
		return problem{}, false
	}
}
