package httpapi

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A client that says something twice is told so, and not that what it names is not there.
func TestParameterThatStandsTwiceIsMalformed(t *testing.T) {
	const pass = "/api/bank-a/passes/pass.example/17"
	for name, test := range map[string]struct{ method, target, header string }{
		"groupBy":          {http.MethodPost, "/issuer/push-provisioning/tokens/searches?groupBy=card&groupBy=card", ""},
		"log":              {http.MethodGet, "/v1/audit/checkpoint?log=0&log=1", ""},
		"If-Match, PUT":    {http.MethodPut, pass, "If-Match"},
		"If-Match, DELETE": {http.MethodDelete, pass, "If-Match"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			req := httptest.NewRequest(test.method, test.target, nil)
			if test.header != "" {
				req.Header[test.header] = []string{canary, canary}
			}
			got := a.do(req)
			got.expect(t, http.StatusBadRequest, "malformed-member")
			a.holdsNothingOf(got, canary)
		})
	}
}

// The admin listener has the same rule, and does nothing that was said twice.
func TestOperatorsParameterThatStandsTwiceIsMalformed(t *testing.T) {
	log, cards, rules := slog.New(slog.DiscardHandler), &keeper{}, &flagKeeper{}
	l := logOf(t, 5)
	h := NewAdmin(NewMetrics("test"), log, nil, AuditRoutes(l, 0, l, log), CardRoutes(cards, log), EnablementRoutes(rules, "test", log))
	for _, test := range []struct{ method, target, mediaType, body string }{
		{http.MethodGet, "/v1/audit?log=0&log=0", "", ""},
		{http.MethodGet, "/v1/audit/checkpoint?log=0&log=mint-a", "", ""},
		{http.MethodGet, "/v1/audit/entries?from=0&from=1", "", ""},
		{http.MethodGet, "/v1/audit/checkpoints?limit=1&limit=1", "", ""},
		{http.MethodGet, "/v1/audit/tile/0/000.p/5?log=0&log=1", "", ""},
		{http.MethodPost, "/cards/import?tenant=bank-a&tenant=bank-b", importMediaType, `{"encryptedCard":"x"}`},
		{http.MethodPut, "/enablement?tenant=bank-a&tenant=bank-b", "application/json", `{"environment":"test","rules":[]}`},
	} {
		req := httptest.NewRequest(test.method, test.target, strings.NewReader(test.body))
		req.Header.Set("Content-Type", test.mediaType)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		got := answer{rec.Code, rec.Header(), rec.Body.String()}
		got.expect(t, http.StatusBadRequest, "malformed-member")
	}
	if n := cards.imported.Load(); n != 0 || rules.rules != nil {
		t.Errorf("%d cards are imported, and the rules changed to %v", n, rules.rules)
	}
}
