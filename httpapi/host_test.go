package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/keys"
)

// guarded is the admin listener as the service has it, with a further name.
func guarded(t *testing.T, k *keeper) http.Handler {
	t.Helper()
	l, log := logOf(t, 1), slog.New(slog.DiscardHandler)
	return GuardAdmin(NewAdmin(NewMetrics("test"), log, nil, AuditRoutes(l, 0, l, log), CardRoutes(k, log), DescriptionRoutes(),
		KeyRoutes(func(context.Context) keys.Report { return keys.Report{} }),
		ServiceRoute(func(context.Context) any { return nil })), []string{"admin.internal", "fd00::1"})
}

// hosts are Host headers, with what a guarded address answers to each.
var hosts = map[string]int{
	"127.0.0.1:9090": 200, "[::1]:9090": 200, "localhost:9090": 200, "LOCALHOST": 200, "127.0.0.1": 200,
	"admin.internal:9090": 200, "Admin.Internal": 200, "[fd00::1]:9090": 200,
	"evil.example:9090": 421, "evil.example": 421, "192.0.2.1:9090": 421, "localhost.evil.example": 421, "admin.internal.evil.example": 421, "": 421,
}

// A page whose name was made to resolve to this machine names itself in Host: it neither changes
// anything nor reads.
func TestAdminAnswersNoForeignHost(t *testing.T) {
	k := &keeper{}
	h := guarded(t, k)
	for host, want := range hosts {
		before := k.imported.Load()
		code, _ := postTo(h, host, "/cards/import?tenant=bank", importMediaType, `{"encryptedCard":"x"}`)
		if code != want || (k.imported.Load() != before) != (want == 200) {
			t.Errorf("a change for Host %q is answered %d, want %d", host, code, want)
		}
		for _, path := range []string{"/v1/audit", "/v1/audit/logs", "/v1/audit/checkpoint", "/v1/audit/entries", "/v1/keys", "/v1/service", "/openapi.yaml", "/docs/"} {
			code, body := getFrom(h, http.MethodGet, host, path)
			if code != want || want == 421 && body != "name this machine by a loopback address, or by one of admin.hosts\n" {
				t.Errorf("%s for Host %q answers %d, want %d: %s", path, host, code, want, body)
			}
		}
	}
}

// Probes and scrapers come by any name, and get no more than what they come for.
func TestProbesCallTheAdminListenerByAnyName(t *testing.T) {
	h := guarded(t, &keeper{})
	for host := range hosts {
		for _, path := range []string{"/livez", "/readyz", "/healthz", "/metrics"} {
			if code, body := getFrom(h, http.MethodGet, host, path); code != http.StatusOK {
				t.Errorf("%s for Host %q answers %d: %s", path, host, code, body)
			}
		}
	}
	for _, path := range []string{"/metrics/", "/metrics/../v1/keys", "/readyz/v1/keys", "//readyz", "/consoles", "/"} {
		if code, body := getFrom(h, http.MethodGet, "evil.example", path); code != http.StatusMisdirectedRequest {
			t.Errorf("%s answers %d: %s", path, code, body)
		}
	}
	if code, _ := getFrom(h, http.MethodPost, "evil.example", "/metrics"); code != http.StatusMisdirectedRequest {
		t.Errorf("POST answers %d", code)
	}
}

func getFrom(h http.Handler, method, host, path string) (int, string) {
	req := httptest.NewRequest(method, "http://127.0.0.1:9090/", strings.NewReader(""))
	req.Host, req.URL.Path = host, path
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}
