package httpapi

import (
	"context"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/keys"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

const operator = "https://operator.example"

// hostile is a text that would be markup, an attribute's end, or a script.
const hostile = `"><script>alert(1)</script><b onmouseover='x'>&{{.}}</b>`

// references is a domain that has something under every reference.
type references struct {
	err error
	who []provisioning.Caller
}

func (s *references) TokenHistory(_ context.Context, who provisioning.Caller, reference string) ([]provisioning.Token, error) {
	s.who = append(s.who, who)
	return []provisioning.Token{{
		Owner: provisioning.Owner{Tenant: who.Tenant, Issuer: hostile, Subject: canaryNumber}, Reference: reference, ExternalCardID: canaryNumber,
		DeviceID: hostile, Status: hostile, Path: hostile, Process: hostile, Revision: 1,
	}}, s.err
}

func (s *references) GetCard(_ context.Context, who provisioning.Caller, id string) (provisioning.Masked, error) {
	s.who = append(s.who, who)
	return provisioning.Masked{ExternalCardID: id, Product: hostile, Network: hostile, Last4: "1488"}, s.err
}

func (s *references) Get(_ context.Context, id passes.ID) (passes.Stored, error) {
	return passes.Stored{PassRow: passes.PassRow{ID: id, Token: canary, Version: 3}, Document: passes.Document{Pass: []byte(`{"holder":"` + canary + `"}`)}}, s.err
}

// consoleOf is the console with something hostile wherever a text comes from elsewhere.
func consoleOf(t *testing.T, change ...func(*ConsoleConfig)) (*api, *references) {
	t.Helper()
	a := &api{t: t, metrics: NewMetrics("test"), refusals: &refusals{}, log: &lockedBuffer{}}
	a.logger = slog.New(slog.NewTextHandler(a.log, nil))
	narrowed := client(operator, "ops")
	narrowed.Grants = []access.Grant{{Right: access.ViewConsole, Tenants: []string{"bank-a"}}}
	verifier, err := access.NewVerifier([]access.Client{narrowed, client(bystander, "bank-b")}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	log, domain := hostileLog(), &references{}
	cfg := ConsoleConfig{
		Config: Config{Callers: verifier, Refusals: a.refusals, Metrics: a.metrics, Log: a.logger, Now: time.Now, Checkpoints: log, Environment: "test", RequestTimeout: time.Minute},
		Hosts:  []string{"console.example"},
		Checks: []Check{{"token", true, func(context.Context) error { return errors.New(hostile) }}},
		Service: func() ConsoleService {
			return ConsoleService{Version: hostile, Facts: []ConsoleFact{{hostile, hostile}}}
		},
		Members:  func() []ConsoleMember { return []ConsoleMember{{Name: hostile, State: hostile, Cause: hostile}} },
		Expiries: func() []keys.Expiry { return []keys.Expiry{{Key: hostile, What: hostile, DaysLeft: 3}} },
		Inventory: func(context.Context) keys.Report {
			return keys.Report{Environment: hostile, Members: []keys.Member{{Name: hostile, Error: hostile}}, Keys: []keys.Key{{
				Name: "vault", Purpose: hostile, Provenance: hostile, State: hostile, Certificate: &keys.Certificate{Subject: hostile, Issuer: hostile},
				Members: []keys.KeyMember{{Member: hostile, URI: hostile, Pin: "spki-sha256:" + strings.Repeat("ab", 32), Problem: hostile, Deviations: []string{hostile}}},
			}}, Unlisted: []keys.Unlisted{{Member: hostile}}}
		},
		Activity: a.metrics.Activity(), Logs: besideAnother(t, log, hostile),
		AuditFigure: func() audit.Stats { return audit.Stats{Anchors: []audit.AnchorStats{{Name: hostile}}} },
		Changes:     &changes{}, Cards: domain, PassRows: domain,
	}
	for _, c := range change {
		c(&cfg)
	}
	a.handler = GuardAdmin(NewAdmin(a.metrics, a.logger, nil, ConsoleRoutes(cfg)), nil)
	return a, domain
}

// hostileLog is a log whose texts are hostile.
func hostileLog() *fakeLog {
	l, tree := &fakeLog{}, audit.NewTree(0, nil)
	for i := range 120 {
		e := audit.Entry{
			At: time.Date(2026, 11, 22, 12, i, 0, 0, time.UTC), Kind: audit.KindOperation, Tenant: hostile, Ticket: hostile,
			Body: []byte(`{"intent":{"operation":"` + html.EscapeString(hostile) + `"},"result":{"outcome":"done","reason":"` + strings.ReplaceAll(hostile, `"`, `\"`) + `"}}`),
		}
		if i == 7 {
			e = audit.Entry{At: e.At, Kind: audit.KindRefusal, Tenant: "bank-a", Body: []byte(`{"operation":"cards.read","reason":"forbidden"}`)}
		}
		l.rows = append(l.rows, audit.NewRow(e, tree))
	}
	c, _ := audit.ParseCheckpoint("mintmark/test\n120\n" + tree.Root().String() + "\n\n— mintmark/test AAAAAAAA\n")
	l.checkpoints = []audit.Checkpoint{c}
	return l
}

func open(c *ConsoleConfig) { c.Open = true }

// at is a request for a page of the console, by its own name.
func at(method, path, token string) *http.Request {
	req := httptest.NewRequest(method, "http://127.0.0.1:9090"+path, nil)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

// consolePages are one address of every kind of page, and of what can be downloaded.
var consolePages = []string{
	"/console/", "/console/keys", "/console/keys/vault", "/console/keys/none", "/console/activity", "/console/log", "/console/log?kind=refusal", "/console/log/3", "/console/log/999",
	"/console/log?ticket=" + url.QueryEscape(hostile), "/console/log?since=" + url.QueryEscape(hostile), "/console/log/3/proof", "/console/log/3/line", "/console/checkpoint",
	"/console/log?log=1", "/console/log/3?log=1", "/console/log/3/proof?log=1", "/console/checkpoint?log=1", "/console/log?log=" + canaryNumber,
	"/console/lookup", "/console/lookup?kind=token&tenant=bank-a&reference=" + url.QueryEscape(hostile), "/console/lookup?kind=card&tenant=bank-a&reference=card-1",
	"/console/lookup?kind=pass&tenant=bank-a&type=pass.a&reference=7", "/console/lookup?kind=" + url.QueryEscape(hostile) + "&tenant=bank-a&reference=1",
	"/console/changes", "/console/report",
}

// Nobody sees a page without the right, and every refusal is on record. The style sheet, which
// says nothing, is for everybody.
func TestConsoleIsForThoseWithTheRight(t *testing.T) {
	for name, c := range map[string]struct {
		iss     string
		open    bool
		status  int
		refused int
	}{
		"nobody":                  {"", false, 401, 1},
		"a client without":        {bystander, false, 403, 1},
		"a client with the right": {operator, false, 200, 0},
		"anybody, in development": {"", true, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range consolePages {
				a, _ := consoleOf(t, func(cfg *ConsoleConfig) { cfg.Open = c.open })
				bearer := ""
				if c.iss != "" {
					bearer = token(t, c.iss, nil)
				}
				got := a.serve(at(http.MethodGet, path, bearer))
				if c.status == 200 && (got.status == 401 || got.status == 403) || c.status != 200 && (got.status != c.status || strings.Contains(got.body, "bank-a")) {
					t.Errorf("%s answered %d: %s", path, got.status, got.body)
				}
				if len(a.refusals.seen) != c.refused || c.refused > 0 && a.refusals.seen[0].Operation != record.ViewConsole {
					t.Errorf("%s: on record is %+v", path, a.refusals.seen)
				}
				if (c.status == 401) != (got.header.Get("WWW-Authenticate") == "Bearer") {
					t.Errorf("%s asks for %q", path, got.header.Get("WWW-Authenticate"))
				}
			}
			a, _ := consoleOf(t)
			if got := a.serve(at(http.MethodGet, "/console/console.css", "")); got.status != 200 || got.header.Get("Content-Type") != "text/css; charset=utf-8" {
				t.Errorf("the style sheet answered %d %v", got.status, got.header)
			}
		})
	}
}

// Whatever host a page's name was made to resolve to, it reads nothing here.
func TestConsoleKnowsItsNames(t *testing.T) {
	for host, status := range map[string]int{
		"127.0.0.1:9090": 200, "localhost:9090": 200, "[::1]:9090": 200, "127.0.0.1": 200, "LOCALHOST": 200, "console.example": 200, "Console.Example:8443": 200,
		"evil.example": 421, "127.0.0.1.evil.example:9090": 421, "localhost.evil.example": 421, "": 421, "10.0.0.1:9090": 421, ".": 421,
	} {
		for _, path := range []string{"/console/", "/console/console.css", "/console/log/3/line"} {
			a, _ := consoleOf(t, open)
			req := at(http.MethodGet, path, "")
			req.Host = host
			if got := a.serve(req); got.status != status || status == 421 && strings.Contains(got.body, "evil") {
				t.Errorf("%q: %s answered %d", host, path, got.status)
			}
		}
	}
}

// The console is looked at, and takes nothing.
func TestConsoleTakesNothing(t *testing.T) {
	a, _ := consoleOf(t, open)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} {
		for _, path := range consolePages {
			if got := a.serve(at(method, path, "")); got.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s answered %d", method, path, got.status)
			}
		}
	}
	for _, path := range consolePages {
		if g, h := a.serve(at(http.MethodGet, path, "")), a.serve(at(http.MethodHead, path, "")); g.status != h.status {
			t.Errorf("%s: GET %d, HEAD %d", path, g.status, h.status)
		}
	}
}

var onlyOwn = regexp.MustCompile(`(?:src|href|action)="([^"]*)"`)

// What callers, tokens and files say is text on every page; no page has a script, a style of
// its own or an address elsewhere; and every answer, whatever it is, says so to the browser.
func TestConsoleShowsTextsAsTexts(t *testing.T) {
	for _, isOpen := range []bool{true, false} { // the second answers with problems
		for _, path := range consolePages {
			a, _ := consoleOf(t, func(cfg *ConsoleConfig) {
				cfg.Open = isOpen
				cfg.Activity.take(time.Now())
				cfg.Metrics.answered(hostile, "GET", 200, time.Second)
				cfg.Metrics.TokenCall(hostile, hostile, time.Second, time.Second, "ok")
				cfg.Activity.take(time.Now().Add(time.Minute))
			})
			got := a.serve(at(http.MethodGet, path, ""))
			for header, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
				"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			} {
				if got.header.Get(header) != want {
					t.Errorf("%s: %s is %q", path, header, got.header.Get(header))
				}
			}
			if !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
				if isOpen && !strings.HasPrefix(got.header.Get("Content-Disposition"), "attachment; filename=") {
					t.Errorf("%s is %v", path, got.header)
				}
				continue
			}
			for _, markup := range []string{"<script", "<b onmouseover", "onmouseover='", "style=", "javascript:"} {
				if strings.Contains(got.body, markup) {
					t.Errorf("%s holds %s", path, markup)
				}
			}
			for _, m := range onlyOwn.FindAllStringSubmatch(got.body, -1) {
				if m[1] != "#main" && !strings.HasPrefix(m[1], "/console/") {
					t.Errorf("%s leads to %s", path, m[1])
				}
			}
		}
	}
}

// What is downloaded is what the commands print.
func TestConsoleGivesProofs(t *testing.T) {
	a, _ := consoleOf(t, open)
	proof := a.serve(at(http.MethodGet, "/console/log/3/proof", ""))
	if proof.status != 200 || !strings.HasPrefix(proof.body, "c2sp.org/tlog-proof@v1\n") || !strings.Contains(proof.body, "\nindex 3\n") || proof.header.Get("Content-Disposition") != `attachment; filename="entry-3.tlog-proof"` {
		t.Errorf("the proof: %d %v %s", proof.status, proof.header, proof.body)
	}
	line := a.serve(at(http.MethodGet, "/console/log/3/line", ""))
	if parsed, err := audit.ParseLine([]byte(line.body)); err != nil || parsed.Row.Seq != 3 {
		t.Errorf("the line: %v %s", err, line.body)
	}
	if got := a.serve(at(http.MethodGet, "/console/checkpoint", "")); !strings.HasPrefix(got.body, "mintmark/test\n120\n") {
		t.Errorf("the checkpoint: %d %s", got.status, got.body)
	}
	changed, _ := consoleOf(t, open, func(cfg *ConsoleConfig) { l := hostileLog(); l.checkpoints[0].Root = tlog.Hash{}; cfg.Logs = l })
	if got := changed.serve(at(http.MethodGet, "/console/log/3/proof", "")); got.status != 500 || !strings.Contains(changed.log.String(), "entry 3 is not in the tree") {
		t.Errorf("of an entry that was changed: %d %s", got.status, changed.log)
	}
	bare, _ := consoleOf(t, open, func(cfg *ConsoleConfig) { l := hostileLog(); l.checkpoints = nil; cfg.Logs, cfg.Checkpoints = l, l })
	for _, path := range []string{"/console/log/3/proof", "/console/checkpoint"} {
		if got := bare.serve(at(http.MethodGet, path, "")); got.status != 503 || got.header.Get("Retry-After") == "" {
			t.Errorf("without a checkpoint %s answered %d", path, got.status)
		}
	}
}

// A database that does not answer is said to, without what it said.
func TestConsoleSaysWhatIsAway(t *testing.T) {
	for _, path := range []string{"/console/log", "/console/log/3", "/console/changes"} {
		a, _ := consoleOf(t, open, func(cfg *ConsoleConfig) {
			l := hostileLog()
			l.err = errors.New(canary)
			cfg.Logs, cfg.Changes = l, &failingChanges{}
		})
		if got := a.serve(at(http.MethodGet, path, "")); got.status != 500 || strings.Contains(got.body, canary) {
			t.Errorf("%s answered %d: %s", path, got.status, got.body)
		}
	}
	a, _ := consoleOf(t, open, func(cfg *ConsoleConfig) { cfg.Logs = &fakeLog{err: errors.New(canary)} })
	if got := a.serve(at(http.MethodGet, "/console/", "")); got.status != 200 || strings.Contains(got.body, canary) || !strings.Contains(got.body, "were not read") {
		t.Errorf("the overview answered %d: %s", got.status, got.body)
	}
}

// A service that was told to stop says so, and has browsers open no further request on a
// connection that is about to be closed.
func TestConsoleSaysThatTheServiceStops(t *testing.T) {
	for stops, want := range map[bool]string{false: "", true: "close"} {
		stopping, stop := context.WithCancel(t.Context())
		if stops {
			stop()
		}
		a, _ := consoleOf(t, open, func(cfg *ConsoleConfig) { cfg.Stopping = stopping })
		got := a.serve(at(http.MethodGet, "/console/", ""))
		if got.status != 200 || strings.Contains(got.body, "\nStopping: ") != stops || strings.Contains(got.body, "Not ready") == stops || got.header.Get("Connection") != want {
			t.Errorf("stopping: %v, the overview answered %d, %v: %s", stops, got.status, got.header, got.body)
		}
		stop()
	}
}

// failingChanges is a Changes that cannot be read.
type failingChanges struct{ changes }

func (*failingChanges) Changes(context.Context, int) ([]approval.Change, error) {
	return nil, errors.New(canary)
}
