package httpapi

import (
	"net/http"
	"net/http/httptest"
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
