package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/provisioning"
)

func TestRequestIDIsTheCallersIfItHasTheForm(t *testing.T) {
	for name, test := range map[string]struct {
		sent string
		kept bool
	}{
		"a UUID":           {"0198c1c2-6d2e-7c30-8b7e-0f6a4b3d2c1e", true},
		"eight characters": {"abcDEF12", true},
		"64 characters":    {strings.Repeat("a", 64), true},
		"none":             {"", false},
		"seven characters": {"abcDEF1", false},
		"65 characters":    {strings.Repeat("a", 65), false},
		"a line end":       {"abcdefgh\nlevel=ERROR", false},
		"a trailing one":   {"abcdefgh\n", false},
		"markup":           {"<script>alert(1)</script>", false},
		"not ASCII":        {"ábcdefghij", false},
		"an underscore":    {"abcd_efgh", false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, failsWith(provisioning.ErrUnknownCard))
			req := a.post(changed(nil))
			req.Header["X-Request-Id"] = []string{test.sent}
			got := a.do(req)
			if id := got.header.Get("X-Request-Id"); (id == test.sent) != test.kept {
				t.Errorf("sent %q, got %q", test.sent, id)
			}
		})
	}
	a := newAPI(t, provisioner(seals))
	one, two := a.do(a.post(changed(nil))), a.do(a.post(changed(nil)))
	if one.header.Get("X-Request-Id") == two.header.Get("X-Request-Id") {
		t.Error("two requests have one id")
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	for _, test := range []struct {
		method, path string
		status       int
		name, allow  string
	}{
		{http.MethodGet, "/", 404, "no-such-resource", ""},
		{http.MethodPost, "/issuer", 404, "no-such-resource", ""},
		{http.MethodPost, signedCards + "/", 404, "no-such-resource", ""},
		{http.MethodPost, "/" + signedCards, 404, "no-such-resource", ""},
		{http.MethodPost, strings.ToUpper(signedCards), 404, "no-such-resource", ""},
		{http.MethodPost, "/issuer/push-provisioning/../push-provisioning/signed-cards", 404, "no-such-resource", ""},
		{http.MethodGet, "/metrics", 404, "no-such-resource", ""}, // the admin listener's alone
		{http.MethodGet, "/debug/pprof/", 404, "no-such-resource", ""},
		{http.MethodGet, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodPut, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodDelete, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodHead, signedCards, 405, "", "POST"},
		{http.MethodOptions, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodTrace, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodConnect, signedCards, 405, "method-not-allowed", "POST"},
		{"BREW", signedCards, 405, "method-not-allowed", "POST"},
		{"post", signedCards, 405, "method-not-allowed", "POST"},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			req := a.post(changed(nil))
			req.Method, req.URL.Path = test.method, test.path
			got := a.do(req)
			if got.status != test.status || got.header.Get("Allow") != test.allow {
				t.Fatalf("answered %d, Allow %q: %s", got.status, got.header.Get("Allow"), got.body)
			}
			if test.name != "" {
				got.expect(t, test.status, test.name)
			}
			// No cross-origin caller is invited.
			for h := range got.header {
				if strings.HasPrefix(h, "Access-Control-") {
					t.Errorf("header %s", h)
				}
			}
		})
	}
}

func TestRealConnectionsGetTheSameAnswers(t *testing.T) {
	a := newAPI(t, provisioner(seals))
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = Server(a.handler, "", a.logger)
	srv.Start()
	defer srv.Close()

	send := func(t *testing.T, change func(*http.Request)) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+signedCards, strings.NewReader(changed(nil)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token(t, issuer, nil))
		change(req)
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return read(t, resp)
	}
	t.Run("one body with its length", func(t *testing.T) {
		if got := send(t, func(*http.Request) {}); got.status != http.StatusOK || got.header.Get("Server") != "" {
			t.Errorf("answered %d, %v", got.status, got.header)
		}
	})
	t.Run("a body in chunks", func(t *testing.T) {
		if got := send(t, func(r *http.Request) { r.ContentLength, r.Body = -1, chunks(changed(nil), 7) }); got.status != http.StatusOK {
			t.Errorf("answered %d: %s", got.status, got.body)
		}
	})
	t.Run("chunks without an end", func(t *testing.T) {
		// More than package net/http takes off the wire before it answers, and then nothing: who
		// goes on sending may be cut off before it has read the answer.
		rest, end := io.Pipe()
		defer func() { _ = end.Close() }()
		body := io.MultiReader(chunks(strings.Repeat(" ", maxBody+288<<10), 4096), rest)
		got := send(t, func(r *http.Request) { r.ContentLength, r.Body = -1, io.NopCloser(body) })
		got.expect(t, http.StatusRequestEntityTooLarge, "body-too-large")
	})
	t.Run("HEAD has no body", func(t *testing.T) {
		got := send(t, func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodHead, http.NoBody, 0 })
		if got.status != http.StatusMethodNotAllowed || got.body != "" {
			t.Errorf("answered %d: %q", got.status, got.body)
		}
	})
	t.Run("headers over 16 KiB", func(t *testing.T) {
		got := send(t, func(r *http.Request) { r.Header.Set("X-Long", canary+strings.Repeat("a", 32<<10)) })
		if got.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("answered %d", got.status)
		}
		a.holdsNothingOf(got, canary)
	})
	t.Run("headers within 16 KiB", func(t *testing.T) {
		if got := send(t, func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("a", 12<<10)) }); got.status != http.StatusOK {
			t.Errorf("answered %d", got.status)
		}
	})
}

// Whoever hangs up cannot have the log full of errors; a request whose time ran out is one.
func TestCallerThatLeftIsNoErrorInTheLog(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		want string
	}{
		"left":     {context.WithCancel, "level=INFO msg=\"caller left\""},
		"time out": {func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 0) }, "level=ERROR msg=\"request failed\""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, provisioner(func(ctx context.Context, _ provisioning.Caller, _ provisioning.SignCard) (provisioning.SignedCard, error) {
				<-ctx.Done()
				return provisioning.SignedCard{}, ctx.Err()
			}))
			req := a.post(changed(nil))
			ctx, end := test.end(t.Context())
			end()
			a.do(req.WithContext(ctx)).expect(t, http.StatusServiceUnavailable, "unavailable")
			if log := a.log.String(); !strings.Contains(log, test.want) {
				t.Errorf("logged without %s:\n%s", test.want, log)
			}
		})
	}
}
