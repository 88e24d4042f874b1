package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
)

func well(context.Context) error { return nil }
func ill(context.Context) error  { return errors.New("no answer from slot 7") }

// hangs waits for its context; stuck does not even do that, like a call inside a module.
func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func get(h http.Handler, path string) answer {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return answer{rec.Code, rec.Header(), rec.Body.String()}
}

func TestHealthSaysWhatIsWell(t *testing.T) {
	const yes, no = true, false
	for name, test := range map[string]struct {
		checks []Check
		ready  bool
		want   []checkResult
	}{
		"nothing to check": {nil, true, []checkResult{}},
		"all well": {
			[]Check{{"token", true, well}, {"key", false, well}}, true,
			[]checkResult{{"token", yes, true, ""}, {"key", yes, false, ""}},
		},
		"a part degraded": {
			[]Check{{"token", true, well}, {"key", false, ill}}, true,
			[]checkResult{{"token", yes, true, ""}, {"key", no, false, "no answer from slot 7"}},
		},
		"a required one": {
			[]Check{{"token", true, ill}, {"database", true, well}}, false,
			[]checkResult{{"token", no, true, "no answer from slot 7"}, {"database", yes, true, ""}},
		},
		"everything": {
			[]Check{{"token", true, ill}, {"database", true, ill}, {"key", false, ill}}, false,
			[]checkResult{{"token", no, true, "no answer from slot 7"}, {"database", no, true, "no answer from slot 7"}, {"key", no, false, "no answer from slot 7"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), test.checks)
			status, word := http.StatusOK, "ready"
			if !test.ready {
				status, word = http.StatusServiceUnavailable, "not ready"
			}
			text := word + "\n"
			for _, r := range test.want { // what is not well has a line, also of a service that is ready
				if !r.OK {
					text += r.Name + ": " + r.Error + "\n"
				}
			}
			if got := get(h, "/readyz"); got.status != status || got.body != text {
				t.Errorf("readyz answered %d %q", got.status, got.body)
			}
			got := get(h, "/healthz")
			if got.status != status || got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("healthz answered %d, %v", got.status, got.header)
			}
			var body health
			if err := json.Unmarshal([]byte(got.body), &body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(health{Status: word, Checks: test.want}, body); diff != "" {
				t.Errorf("healthz (-want +got):\n%s", diff)
			}
			if got := get(h, "/livez"); got.status != http.StatusOK || got.body != "live\n" {
				t.Errorf("livez answered %d %q", got.status, got.body)
			}
		})
	}
}

// An orchestrator waits a few seconds for an answer, and kills who gives none. A module
// that hangs must show as not ready, not as dead, and must not make the database, which
// is well, look ill.
func TestHealthIsAnsweredWhenAProbeHangs(t *testing.T) {
	for name, required := range map[string]bool{"a required one": true, "an optional one": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				released := make(chan struct{})
				defer close(released)
				stuck := func(context.Context) error { <-released; return nil }
				h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), []Check{
					{"stuck", required, stuck}, {"hangs", required, hangs}, {"database", true, well},
				})
				began := time.Now()
				got := get(h, "/healthz")
				if took := time.Since(began); took != checkWithin {
					t.Errorf("answered after %v", took)
				}
				if (got.status == http.StatusOK) == required {
					t.Errorf("answered %d: %s", got.status, got.body)
				}
				var body health
				if err := json.Unmarshal([]byte(got.body), &body); err != nil {
					t.Fatal(err)
				}
				for _, c := range body.Checks {
					if c.OK != (c.Name == "database") || (c.Error == "") != c.OK {
						t.Errorf("check %+v", c)
					}
				}
				if got := get(h, "/livez"); got.status != http.StatusOK {
					t.Errorf("livez answered %d", got.status)
				}
			})
		})
	}
}

// A probe that panics is one that is not well; the process has other work.
func TestHealthSurvivesAProbeThatPanics(t *testing.T) {
	h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), []Check{{"token", true, func(context.Context) error { panic(canary) }}, {"database", true, well}})
	got := get(h, "/healthz")
	if got.status != http.StatusServiceUnavailable || strings.Contains(got.body, canary) {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

// A panic is answered as on every listener, counted, and logged without its value.
func TestAdminSurvivesARouteThatPanics(t *testing.T) {
	m, log := NewMetrics("test"), &lockedBuffer{}
	h := NewAdmin(m, slog.New(slog.NewTextHandler(log, nil)), nil, func(r gin.IRouter) { r.GET("/v1/panics", func(*gin.Context) { panic(canary) }) })
	got := get(h, "/v1/panics")
	if got.status != http.StatusInternalServerError || !strings.Contains(got.body, "problem:internal") || !strings.Contains(got.body, "requestId") {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
	if line := log.String(); !strings.Contains(line, "panic in a handler") || !strings.Contains(line, "route=/v1/panics") {
		t.Errorf("log: %s", line)
	}
	if strings.Contains(got.body+log.String(), canary) {
		t.Error("the panic's value is told")
	}
	if all := get(h, "/metrics"); !strings.Contains(all.body, "mintmark_http_panics_total 1") {
		t.Error("the panic is not counted")
	}
}

func TestAdminServesNothingElse(t *testing.T) {
	h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), nil)
	for _, path := range []string{"/", "/debug/pprof/", "/metrics/", "/livez/", signedCards} {
		get(h, path).expect(t, http.StatusNotFound, "no-such-resource")
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/livez", nil))
	got := answer{rec.Code, rec.Header(), rec.Body.String()}
	got.expect(t, http.StatusMethodNotAllowed, "method-not-allowed")
	if allow := got.header.Get("Allow"); allow != http.MethodGet {
		t.Errorf("POST /livez is answered with Allow %q", allow)
	}
}

// series are the metrics as Prometheus would scrape them: name with labels, and value.
func (a *api) series() map[string]float64 {
	a.t.Helper()
	return scrape(a.t, a.metrics)
}

func scrape(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	got := get(NewAdmin(m, slog.New(slog.DiscardHandler), nil), "/metrics")
	if got.status != http.StatusOK {
		t.Fatalf("metrics answered %d: %s", got.status, got.body)
	}
	all := map[string]float64{}
	for line := range strings.Lines(got.body) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if ok {
			name += "}"
		} else {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metrics line %q: %v", line, err)
		}
		all[name] = v
	}
	return all
}

// family picks the series of one metric.
func family(all map[string]float64, name string) map[string]float64 {
	out := map[string]float64{}
	for series, v := range all {
		if strings.HasPrefix(series, name+"{") || series == name {
			out[series] = v
		}
	}
	return out
}

func TestMetricsCountWhatHappened(t *testing.T) {
	var outcome error
	a := newAPI(t, provisioner(func(ctx context.Context, who provisioning.Caller, req provisioning.SignCard) (provisioning.SignedCard, error) {
		if req.ExternalCardID == "panic" {
			panic(canary)
		}
		return sealed, outcome
	}))
	for range 3 {
		a.do(a.post(changed(nil)))
	}
	a.do(a.post("{}"))
	a.do(a.post("[]"))
	a.do(a.post(changed(map[string]any{"externalCardId": "panic"})))
	outcome = context.DeadlineExceeded
	a.do(a.post(changed(nil)))
	req := a.post(changed(nil))
	req.Header.Del("Authorization")
	a.do(req)
	req = a.post(changed(nil))
	req.Method = http.MethodGet
	a.do(req)
	req = a.post(changed(nil))
	req.URL.Path = "/nowhere"
	a.do(req)

	const route = `mintmark_http_requests_total{method="POST",route="` + signedCards + `",status=`
	all := a.series()
	want := map[string]float64{
		route + `"200"}`: 3, route + `"400"}`: 2, route + `"401"}`: 1, route + `"500"}`: 1, route + `"503"}`: 1,
		`mintmark_http_requests_total{method="GET",route="none",status="405"}`:  1,
		`mintmark_http_requests_total{method="POST",route="none",status="404"}`: 1,
	}
	if diff := cmp.Diff(want, family(all, "mintmark_http_requests_total")); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	want = map[string]float64{
		`mintmark_http_request_seconds_count{route="` + signedCards + `"}`: 8,
		`mintmark_http_request_seconds_count{route="none"}`:                2,
	}
	if diff := cmp.Diff(want, family(all, "mintmark_http_request_seconds_count")); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
	if all["mintmark_http_panics_total"] != 1 || all[`mintmark_authentication_refusals_total{reason="missing"}`] != 1 || all[`mintmark_build_info{version="test"}`] != 1 {
		t.Errorf("panics, refusals, build: %v, %v, %v", all["mintmark_http_panics_total"], family(all, "mintmark_authentication_refusals_total"), family(all, "mintmark_build_info"))
	}
}

// A stranger cannot make series: whatever is sent, labels come from short lists.
func TestStrangersCannotGrowTheMetrics(t *testing.T) {
	a := newAPI(t, provisioner(seals))
	for i := range 200 {
		n := strconv.Itoa(i)
		for _, change := range []func(*http.Request){
			func(r *http.Request) { r.Method = "M" + n },
			func(r *http.Request) { r.Method, r.URL.Path = "M"+n, "/"+n },
			func(r *http.Request) { r.URL.Path = "/" + n },
			func(r *http.Request) { r.URL.Path += "/" + n },
			func(r *http.Request) { r.URL.RawQuery = "x=" + n },
			func(r *http.Request) { r.Host = n + ".example" },
			func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+n+"."+n+"."+n) },
		} {
			req := a.post("{}")
			change(req)
			rec := httptest.NewRecorder()
			a.handler.ServeHTTP(rec, req)
		}
	}
	all := a.series()
	for name, most := range map[string]int{
		"mintmark_http_requests_total": 6, "mintmark_http_request_seconds_count": 2, "mintmark_authentication_refusals_total": len(access.Reasons()),
	} {
		if n := len(family(all, name)); n == 0 || n > most {
			t.Errorf("%s has %d series: %v", name, n, family(all, name))
		}
	}
}

func TestTokenCallsAreMeasured(t *testing.T) {
	m := NewMetrics("test")
	m.TokenCall("seal", "ec", 2*time.Second, time.Second, "ok")
	m.TokenCall("seal", "ec", time.Second, 0, "busy") // it never reached the token
	m.Ephemeral(func() (uint64, uint64) { return 5, 4 })
	all := scrape(t, m)
	for series, want := range map[string]float64{
		`mintmark_token_calls_total{lane="ec",op="seal",outcome="ok"}`:   1,
		`mintmark_token_calls_total{lane="ec",op="seal",outcome="busy"}`: 1,
		`mintmark_token_queue_seconds_sum{lane="ec"}`:                    3,
		`mintmark_token_queue_seconds_count{lane="ec"}`:                  2,
		`mintmark_token_seconds_sum{op="seal"}`:                          1,
		`mintmark_token_seconds_count{op="seal"}`:                        1,
		`mintmark_ephemeral_objects_created_total`:                       5,
		`mintmark_ephemeral_objects_destroyed_total`:                     4,
	} {
		if got, ok := all[series]; !ok || got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
}

func TestServerHasTheLimitsOfTheHouse(t *testing.T) {
	h := http.NewServeMux()
	s := Server(h, "127.0.0.1:8080", slog.New(slog.DiscardHandler))
	if s.Addr != "127.0.0.1:8080" || s.Handler != h || s.ErrorLog == nil || s.BaseContext == nil {
		t.Errorf("server %+v", s)
	}
	got := []any{s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.MaxHeaderBytes, s.HTTP2.MaxConcurrentStreams}
	want := []any{5 * time.Second, 15 * time.Second, 60 * time.Second, 2 * time.Minute, 16 << 10, 128}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header, read, write and idle timeouts, header bytes, streams (-want +got):\n%s", diff)
	}
}
