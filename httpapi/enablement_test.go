package httpapi

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/provisioning"
)

// flagKeeper is an EnablementKeeper made of an error.
type flagKeeper struct {
	err   error
	who   provisioning.Caller
	rules []provisioning.EnablementRule
}

func (k *flagKeeper) PutEnablement(_ context.Context, who provisioning.Caller, rules []provisioning.EnablementRule) (provisioning.Enablement, error) {
	k.who, k.rules = who, rules
	return provisioning.Enablement{Tenant: who.Tenant, Revision: 1, Changed: changedAt, Rules: rules}, k.err
}

func TestOperatorChangesTheEnablement(t *testing.T) {
	const body = `{"environment":"test","rules":[{"product":"gold","percentage":25}]}`
	for name, tc := range map[string]struct {
		method, query, contentType, body string
		err                              error
		status                           int
	}{
		"change":                 {"PUT", "?tenant=bank-a", "application/json", body, nil, 200},
		"none at all":            {"PUT", "?tenant=bank-a", "application/json", `{"environment":"test","rules":[]}`, nil, 200},
		"from a page":            {"PUT", "?tenant=bank-a", "text/plain", body, nil, 415},
		"meant for production":   {"PUT", "?tenant=bank-a", "application/json", strings.Replace(body, "test", "production", 1), nil, 409},
		"without environment":    {"PUT", "?tenant=bank-a", "application/json", `{"rules":[]}`, nil, 409},
		"without rules":          {"PUT", "?tenant=bank-a", "application/json", `{"environment":"test"}`, nil, 400},
		"with a member too many": {"PUT", "?tenant=bank-a", "application/json", `{"environment":"test","rules":[{"bin":"520424","percentage":1}]}`, nil, 400},
		"refused":                {"PUT", "", "application/json", body, &provisioning.FieldError{Member: "tenant", Problem: "is missing"}, 400},
		"another was faster":     {"PUT", "?tenant=bank-a", "application/json", body, provisioning.ErrEnablementChanged, 409},
		"the database is away":   {"PUT", "?tenant=bank-a", "application/json", body, unavailableError{}, 503},
		"it takes two people":    {"PUT", "?tenant=bank-a", "application/json", body, approval.ErrRequired, 403},
	} {
		t.Run(name, func(t *testing.T) {
			k := &flagKeeper{err: tc.err}
			h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), nil, EnablementRoutes(k, "test", slog.New(slog.DiscardHandler)))
			req := httptest.NewRequest(tc.method, "/enablement"+tc.query, strings.NewReader(tc.body))
			req.Header.Set("Content-Type", tc.contentType)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if rec.Code != tc.status {
				t.Errorf("answered %d: %s", rec.Code, rec.Body)
			}
			if tc.status == 403 && (rec.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(rec.Body.String(), "mintmark changes propose")) {
				t.Errorf("says %s", rec.Body)
			}
			if asked := k.who.RequestID != ""; asked != (tc.status == 200 || tc.err != nil) {
				t.Errorf("asked for %+v", k)
			}
			if name == "change" && (k.who.Tenant != "bank-a" || len(k.rules) != 1 || k.rules[0].Percentage != 25 || !strings.Contains(rec.Body.String(), `"enabled":true`)) {
				t.Errorf("asked for %+v: %s", k, rec.Body)
			}
		})
	}
}
