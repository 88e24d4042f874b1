package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// GetEnablement is GET /v1/enablement.
func (s *server) GetEnablement(c *gin.Context) {
	who, ok := s.authorize(c, record.ReadEnablement, access.ReadEnablement)
	if !ok {
		return
	}
	e, err := s.cfg.Wallets.Enablement(c.Request.Context(), s.cardCaller(c, who, access.ReadEnablement))
	if err != nil {
		s.failed(c, record.ReadEnablement, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", enablement(e, s.cfg.Environment))
}

func enablement(e provisioning.Enablement, environment string) Enablement {
	out := Enablement{Environment: environment, Enabled: e.Any(), Revision: e.Revision, Rules: []EnablementRule{}}
	if e.Revision > 0 {
		at := e.Changed.UTC()
		out.ChangedAt = &at
	}
	for _, r := range e.Rules {
		out.Rules = append(out.Rules, EnablementRule{Product: orNull(r.Product), BinFrom: orNull(r.BINFrom), BinTo: orNull(r.BINTo), Percentage: r.Percentage})
	}
	return out
}

// EnablementKeeper is what the admin listener asks of push provisioning to change which cards
// may be provisioned; *provisioning.Service is it. approval.ErrRequired says that two people
// must change it.
type EnablementKeeper interface {
	PutEnablement(ctx context.Context, who provisioning.Caller, rules []provisioning.EnablementRule) (provisioning.Enablement, error)
}

var _ EnablementKeeper = (*provisioning.Service)(nil)

// EnablementRoutes gives, on the admin listener, what changes a tenant's enablement:
//
//	PUT /enablement?tenant=T  {"environment", "rules"}; answers as GET /v1/enablement does
//
// The environment is said with it, so that what was meant for a test does not open production.
func EnablementRoutes(keeper EnablementKeeper, environment string, log *slog.Logger) func(gin.IRouter) {
	a := &enablementAdmin{keeper, environment, log}
	return func(r gin.IRouter) { r.PUT("/enablement", oncePerParameter, gin.WrapF(a.put)) }
}

type enablementAdmin struct {
	keeper      EnablementKeeper
	environment string
	log         *slog.Logger
}

// EnablementRules is the body of a change.
type EnablementRules struct {
	Environment string                        `json:"environment"`
	Rules       []provisioning.EnablementRule `json:"rules"`
}

func (a *enablementAdmin) put(w http.ResponseWriter, r *http.Request) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		http.Error(w, "send application/json", http.StatusUnsupportedMediaType)
		return
	}
	var in EnablementRules
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil || json.Unmarshal(body, &in, json.RejectUnknownMembers(true)) != nil || in.Rules == nil {
		http.Error(w, `send {"environment", "rules": [{"product"?, "binFrom"?, "binTo"?, "percentage"}]}`, http.StatusBadRequest)
		return
	}
	if in.Environment != a.environment {
		http.Error(w, "this service is for "+a.environment+"; environment must say so", http.StatusConflict)
		return
	}
	who := provisioning.Caller{Owner: provisioning.Owner{Tenant: r.URL.Query().Get("tenant")}, RequestID: "admin"}
	put, err := a.keeper.PutEnablement(r.Context(), who, in.Rules)
	var field *provisioning.FieldError
	switch {
	case err == nil:
		writeAnswer(w, enablement(put, a.environment))
	case errors.As(err, &field):
		http.Error(w, field.Error(), http.StatusBadRequest)
	case errors.Is(err, approval.ErrRequired):
		p, _ := changeProblem(err)
		writeProblem(w, p)
	case errors.Is(err, provisioning.ErrEnablementChanged):
		http.Error(w, "another change was faster; look at what is there now", http.StatusConflict)
	default:
		a.log.ErrorContext(r.Context(), "enablement not changed", "error", err)
		http.Error(w, "the database did not answer; nothing is changed", http.StatusServiceUnavailable)
	}
}

// writeProblem writes one outside the routes of gin.
func writeProblem(w http.ResponseWriter, p problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	_ = json.MarshalWrite(w, Problem{Type: ProblemType(problemType + p.name), Title: p.title, Status: p.status, Detail: &p.detail}) // to a caller who may have gone
}
