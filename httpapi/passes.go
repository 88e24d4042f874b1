package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
)

// PassIssuing is what issuers of passes ask of the domain; *passes.Service is it. Its
// errors are those of the Service's methods; nothing is retried here.
type PassIssuing interface {
	PutFile(ctx context.Context, who passes.Caller, tenant string, content []byte) (string, error)
	PutType(ctx context.Context, who passes.Caller, row passes.TypeRow, when passes.Condition) (passes.TypeRow, []passkit.Finding, error)
	Type(ctx context.Context, id passes.TypeID) (passes.TypeRow, error)
	Put(ctx context.Context, who passes.Caller, id passes.ID, doc passes.Document, when passes.Condition) (passes.Stored, error)
	Get(ctx context.Context, id passes.ID) (passes.Stored, error)
	Void(ctx context.Context, who passes.Caller, id passes.ID, when passes.Condition) error
	Bundle(ctx context.Context, who passes.Caller, ids []passes.ID) (content []byte, mediaType string, err error)
}

// Passes is what both sides of the pass API ask of the domain.
type Passes interface {
	PassIssuing
	PassDevices
}

var _ Passes = (*passes.Service)(nil)

// maxPassBody bounds a document in bytes.
const maxPassBody = 256 << 10

// manages gives the caller if it may manage the tenant's passes; otherwise it has answered.
func (s *server) manages(c *gin.Context, op record.Operation, tenant string) (passes.Caller, bool) {
	who, err := s.authenticate(c, op)
	if err == nil {
		if err = who.MayIn(access.ManagePasses, tenant); err != nil {
			s.refuse(c, op, who, "forbidden")
		}
	}
	if err != nil {
		s.fail(c, err)
		return passes.Caller{}, false
	}
	return passes.Caller{Issuer: who.Issuer, Subject: who.Subject, RequestID: requestID(c)}, true
}

// PutPassAsset is PUT /api/{tenantId}/assets.
func (s *server) PutPassAsset(c *gin.Context, tenant TenantId) {
	who, ok := s.manages(c, record.PutPassAsset, tenant)
	if !ok {
		return
	}
	content, err := readBody(c, passes.MaxFile)
	var sum string
	if err == nil {
		sum, err = s.cfg.Passes.PutFile(c.Request.Context(), who, tenant, content)
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", PassAsset{Sha256: sum, Size: len(content)})
}

// PutPassType is PUT /api/{tenantId}/pass-types/{passTypeIdentifier}.
func (s *server) PutPassType(c *gin.Context, tenant TenantId, passType PassTypeIdentifier, params PutPassTypeParams) {
	who, ok := s.manages(c, record.PutPassType, tenant)
	if !ok {
		return
	}
	var body PassType
	if err := decodeUpTo(c, &body, true, maxPassBody); err != nil {
		s.fail(c, err)
		return
	}
	row := passes.TypeRow{TypeID: passes.TypeID{Tenant: tenant, Type: passType}, Template: body.Template, Files: filesOf(body.Files)}
	if body.Certificate != nil {
		row.Certificate = *body.Certificate
	}
	row, found, err := s.cfg.Passes.PutType(c.Request.Context(), who, row, condition(params.IfMatch))
	if err != nil {
		s.fail(c, err)
		return
	}
	writeType(c, row, found)
}

// GetPassType is GET /api/{tenantId}/pass-types/{passTypeIdentifier}.
func (s *server) GetPassType(c *gin.Context, tenant TenantId, passType PassTypeIdentifier) {
	if _, ok := s.manages(c, record.ReadPass, tenant); !ok {
		return
	}
	row, err := s.cfg.Passes.Type(c.Request.Context(), passes.TypeID{Tenant: tenant, Type: passType})
	if err != nil {
		s.fail(c, err)
		return
	}
	writeType(c, row, nil)
}

func writeType(c *gin.Context, row passes.TypeRow, found []passkit.Finding) {
	out := PassType{Template: row.Template, Files: filesAs(row.Files), Revision: &row.Revision}
	if len(row.Template) == 0 {
		out.Template = jsontext.Value("{}")
	}
	if row.Certificate != "" {
		out.Certificate = &row.Certificate
	}
	if found != nil {
		out.Findings = &found
	}
	c.Header("ETag", etag(row.Revision))
	writeJSON(c, http.StatusOK, "application/json", out)
}

// PutPass is PUT /api/{tenantId}/passes/{passTypeIdentifier}/{serialNumber}.
func (s *server) PutPass(c *gin.Context, tenant TenantId, passType PassTypeIdentifier, serial SerialNumber, params PutPassParams) {
	who, ok := s.manages(c, record.PutPass, tenant)
	if !ok {
		return
	}
	var body PassDocument
	if err := decodeUpTo(c, &body, true, maxPassBody); err != nil {
		s.fail(c, err)
		return
	}
	doc := passes.Document{Pass: body.Pass, Files: filesOf(body.Files), Voided: body.Voided}
	stored, err := s.cfg.Passes.Put(c.Request.Context(), who, passID(tenant, passType, serial), doc, condition(params.IfMatch))
	if err != nil {
		s.fail(c, err)
		return
	}
	status := http.StatusOK
	if stored.Created {
		status = http.StatusCreated
	}
	writePass(c, status, stored)
}

// GetPass is GET /api/{tenantId}/passes/{passTypeIdentifier}/{serialNumber}.
func (s *server) GetPass(c *gin.Context, tenant TenantId, passType PassTypeIdentifier, serial SerialNumber) {
	if _, ok := s.manages(c, record.ReadPass, tenant); !ok {
		return
	}
	stored, err := s.cfg.Passes.Get(c.Request.Context(), passID(tenant, passType, serial))
	if err != nil {
		s.fail(c, err)
		return
	}
	writePass(c, http.StatusOK, stored)
}

func writePass(c *gin.Context, status int, p passes.Stored) {
	at := time.Unix(p.Modified, 0).UTC().Format(time.RFC3339)
	out := PassDocument{Pass: p.Document.Pass, Files: filesAs(p.Document.Files), Version: &p.Version, Voided: &p.Voided, UpdatedAt: &at, Personalized: p.Personal}
	if p.Findings != nil {
		out.Findings = &p.Findings
	}
	c.Header("ETag", etag(p.Version))
	writeJSON(c, status, "application/json", out)
}

// DeletePass is DELETE /api/{tenantId}/passes/{passTypeIdentifier}/{serialNumber}.
func (s *server) DeletePass(c *gin.Context, tenant TenantId, passType PassTypeIdentifier, serial SerialNumber, params DeletePassParams) {
	who, ok := s.manages(c, record.VoidPass, tenant)
	if !ok {
		return
	}
	if err := s.cfg.Passes.Void(c.Request.Context(), who, passID(tenant, passType, serial), condition(params.IfMatch)); err != nil {
		s.fail(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// CreatePassBundle is POST /api/{tenantId}/bundles.
func (s *server) CreatePassBundle(c *gin.Context, tenant TenantId) {
	who, ok := s.manages(c, record.SignPass, tenant)
	if !ok {
		return
	}
	var body PassBundleRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	ids := make([]passes.ID, len(body.Passes))
	for i, p := range body.Passes {
		ids[i] = passID(tenant, p.PassTypeIdentifier, p.SerialNumber)
	}
	content, mediaType, err := s.cfg.Passes.Bundle(c.Request.Context(), who, ids)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Data(http.StatusOK, mediaType, content)
}

func passID(tenant, passType, serial string) passes.ID {
	return passes.ID{TypeID: passes.TypeID{Tenant: tenant, Type: passType}, Serial: serial}
}

func filesOf(f *PassFiles) passes.Files {
	if f == nil {
		return nil
	}
	return passes.Files(*f)
}

func filesAs(f passes.Files) *PassFiles {
	if len(f) == 0 {
		return nil
	}
	out := PassFiles(f)
	return &out
}

// etag names a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// condition reads If-Match (RFC 9110, 13.1.1): * or entity tags, of which one must be the
// version's. What is neither, and a weak tag, names no version that there is.
func condition(ifMatch *string) passes.Condition {
	if ifMatch == nil {
		return passes.Anything
	}
	if *ifMatch == "*" {
		return passes.Existing
	}
	var versions []int64
	for tag := range strings.SplitSeq(*ifMatch, ",") { // none of the tags given out has a comma
		tag = strings.Trim(tag, " \t")
		if v, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64); err == nil && v > 0 && etag(v) == tag {
			versions = append(versions, v)
		}
	}
	return passes.Only(versions...)
}

// passProblem translates the errors of passes.
func passProblem(err error) (problem, bool) {
	var field *passes.FieldError
	var invalid *passes.InvalidError
	var quota *passes.QuotaError
	switch {
	case errors.As(err, &quota):
		return problem{status: http.StatusTooManyRequests, name: "too-many-requests", title: "Too many " + quota.Of, reason: quota.Of,
			detail: "The server's configuration bounds them: passes.maxFiles and maxFilesMiB by tenant, maxRegistrations by pass.", retry: time.Hour}, true
	case errors.As(err, &field):
		return malformed(field.Error()), true
	case errors.As(err, &invalid):
		return problem{status: http.StatusUnprocessableEntity, name: "not-a-pass", title: "Not a pass that devices take",
			detail: "The findings say where and what to do.", findings: invalid.Findings}, true
	case errors.Is(err, passes.ErrUnknown):
		return problem{status: http.StatusNotFound, name: "unknown-pass", title: "Unknown pass or pass type",
			detail: "The tenant has no such pass, or the server's configuration no such pass type."}, true
	case errors.Is(err, passes.ErrPrecondition):
		return problem{status: http.StatusPreconditionFailed, name: "precondition", title: "Another version is there",
			detail: "GET it, change that, and PUT it with its ETag as If-Match."}, true
	case errors.Is(err, passes.ErrPersonalized):
		return problem{status: http.StatusConflict, name: "personalized", title: "Personalised already",
			detail: "A pass is personalised once."}, true
	case errors.Is(err, passkit.ErrPersonalizationToken):
		return malformed("personalizationToken must be 1 to 256 bytes without a brace"), true
	case errors.Is(err, passes.ErrUnauthorized):
		return problem{status: http.StatusUnauthorized, name: "unauthenticated", title: "Not authenticated", challenge: "ApplePass",
			detail: "Send the pass's authenticationToken as Authorization: ApplePass."}, true
	default:
		return problem{}, false
	}
}
