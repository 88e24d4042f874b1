package httpapi

import (
	"context"
	"errors"
	"fmt"
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
	a.handler = GuardAdmin(NewAdmin(a.metrics, nil, ConsoleRoutes(cfg)), nil)
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

// Neither a card number, nor what a pass says of its holder, nor its token is shown; a card
// number that is typed is neither looked for nor shown again.
func TestConsoleMasks(t *testing.T) {
	a, domain := consoleOf(t, open)
	paths := append([]string{}, consolePages...)
	for _, typed := range []string{canaryNumber, "5204 2452 5000 1488", "a" + canaryNumber} {
		for _, form := range []string{
			"/console/log?ref=%s", "/console/log?ticket=%s", "/console/log?tenant=%s", "/console/lookup?kind=card&tenant=bank-a&reference=%s",
			"/console/lookup?kind=token&tenant=%s&reference=1", "/console/lookup?kind=%s&tenant=a&reference=1",
		} {
			paths = append(paths, fmt.Sprintf(form, url.QueryEscape(typed)))
		}
	}
	domain.who = nil
	for i, path := range paths {
		got := a.serve(at(http.MethodGet, path, ""))
		for _, secret := range []string{canaryNumber, "5204 2452", canary} {
			if strings.Contains(got.body, secret) {
				t.Errorf("%s shows %s", path, secret)
			}
		}
		if i >= len(consolePages) && got.status != http.StatusBadRequest {
			t.Errorf("%s answered %d", path, got.status)
		}
	}
	if len(domain.who) != 2 {
		t.Errorf("the domain was asked %d times", len(domain.who))
	}
	if got := a.serve(at(http.MethodGet, "/console/lookup?kind=card&tenant=bank-a&reference=card-1", "")); !strings.Contains(got.body, "ends in 1488") {
		t.Errorf("the card is not shown: %s", got.body)
	}
}

// A look-up is for the tenants of the grant, in the name of the caller, and not for pages
// elsewhere that send a browser here.
func TestLookUpsAreForTheTenantsOfTheGrant(t *testing.T) {
	for name, c := range map[string]struct {
		tenant, site string
		err          error
		status       int
		asked        int
	}{
		"the tenant of the grant":                         {"bank-a", "same-origin", nil, 200, 1},
		"typed into the browser":                          {"bank-a", "none", nil, 200, 1},
		"another tenant":                                  {"bank-b", "", nil, 403, 0},
		"the client's own, which the grant does not name": {"ops", "", nil, 403, 0},
		"from a page elsewhere":                           {"bank-a", "cross-site", nil, 400, 0},
		"from a page on another port":                     {"bank-a", "same-site", nil, 400, 0},
		"unknown":                                         {"bank-a", "", provisioning.ErrUnknownToken, 404, 1},
		"malformed":                                       {"bank-a", "", &provisioning.FieldError{Member: "x", Problem: "is wrong"}, 400, 1},
		"the database is away":                            {"bank-a", "", context.DeadlineExceeded, 503, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a, domain := consoleOf(t)
			domain.err = c.err
			req := at(http.MethodGet, "/console/lookup?kind=token&reference=r&tenant="+c.tenant, token(t, operator, nil))
			req.Header.Set("Sec-Fetch-Site", c.site)
			got := a.serve(req)
			if got.status != c.status || len(domain.who) != c.asked {
				t.Fatalf("answered %d, the domain was asked %d times: %s", got.status, len(domain.who), got.body)
			}
			if c.asked > 0 && (domain.who[0].Tenant != c.tenant || domain.who[0].Issuer != operator || !domain.who[0].AnyOwner || domain.who[0].RequestID == "") {
				t.Errorf("asked by %+v", domain.who[0])
			}
			if recorded := len(a.refusals.seen) == 1; recorded != (c.status == 403) {
				t.Errorf("on record: %+v", a.refusals.seen)
			}
		})
	}
}

// The log is searched from its end, a window at a time; a condition that hits nothing in one
// leads further back.
func TestConsoleSearchesTheLog(t *testing.T) {
	a, _ := consoleOf(t, open)
	number := regexp.MustCompile(`<a href="/console/log/(\d+)">`)
	for query, want := range map[string]struct {
		first string // of the entries shown
		n     int
		older bool
	}{
		"":                                   {"119", 50, true},
		"before=70":                          {"69", 50, true},
		"before=20":                          {"19", 20, false},
		"kind=refusal":                       {"7", 1, false},
		"kind=result":                        {"", 0, false},
		"tenant=bank-a&operation=cards.read": {"7", 1, false},
		"tenant=bank-b":                      {"", 0, false},
		"kind=operation":                     {"119", 50, true},
		"since=2026-11-22T13:50":             {"119", 10, false},
		"until=2026-11-22T12:03":             {"2", 3, false},
		"since=2026-11-22T12:05&until=2026-11-22T12:08&kind=refusal": {"7", 1, false},
		"since=2026-11-23": {"", 0, false},
		"ref=forbidden":    {"7", 1, false},
	} {
		got := a.serve(at(http.MethodGet, "/console/log?"+query, ""))
		found := number.FindAllStringSubmatch(got.body, -1)
		first := ""
		if len(found) > 0 {
			first = found[0][1]
		}
		if got.status != 200 || len(found) != want.n || first != want.first || strings.Contains(got.body, "Look further back") != want.older {
			t.Errorf("%q: %d with %d entries from %s, further back: %v", query, got.status, len(found), first, strings.Contains(got.body, "Look further back"))
		}
	}
	for _, query := range []string{"since=yesterday", "before=x", "before=-1", "tenant=" + strings.Repeat("x", 300)} {
		if got := a.serve(at(http.MethodGet, "/console/log?"+query, "")); got.status != http.StatusBadRequest {
			t.Errorf("%q answered %d", query, got.status)
		}
	}
}

// A ticket's own time bounds where it is looked for.
func TestTicketBoundsItsSearch(t *testing.T) {
	q := logSearch{Ticket: "01a203a2-4460-7c91-b748-ffcb99f23252"} // 2026-11-22T14:21:35Z
	q.aroundTicket()
	at := time.Date(2026, 11, 22, 14, 21, 35, 0, time.UTC)
	if !q.since.Before(at) || q.since.Before(at.Add(-2*time.Minute)) || !q.until.After(at.Add(time.Minute)) {
		t.Errorf("from %v until %v", q.since, q.until)
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

// The charts say what the metrics said, between their samples and no longer than an hour, and
// leave the console's own pages out.
func TestActivityIsWhatTheMetricsSaid(t *testing.T) {
	m := NewMetrics("test")
	a := m.Activity()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tick := func() { a.take(now); now = now.Add(sampleEvery) }
	m.answered("/a", "GET", 200, time.Millisecond) // before the first sample: of no period
	tick()
	if len(a.periods(requestWork, 1)) != 0 || len(a.shares(requestWork)) != 0 {
		t.Error("one sample is no period")
	}
	for i := range 100 {
		status := 200
		if i%4 == 0 {
			status = 503
		}
		m.answered("/a", "GET", status, 3*time.Millisecond)
	}
	m.answered("/b", "POST", 409, time.Second)
	m.answered(consolePath+"log", "GET", 200, time.Second)
	m.TokenCall("sign", "rsa", 0, 20*time.Millisecond, "ok")
	m.TokenCall("sign", "rsa", 0, 0, "busy")
	tick()
	p := a.periods(requestWork, 1)[0]
	median, _ := p.Median()
	slow, _ := p.Slow()
	if p.times != 101 || p.failed != 25 || p.Rate() != 10.1 || median < 0.0025 || median > 0.005 || slow > 0.005 {
		t.Errorf("%d, %d, %v, %v, %v", p.times, p.failed, p.Rate(), median, slow)
	}
	if by := a.shares(requestWork); len(by) != 2 || by[0].Name != "/a" || by[1].Name != "/b" {
		t.Errorf("by route: %+v", by)
	}
	if by := a.shares(tokenWork); len(by) != 1 || by[0].times != 2 || by[0].failed != 1 {
		t.Errorf("on the token: %+v", by)
	}
	tick()
	if _, any := a.periods(requestWork, 1)[1].Median(); any {
		t.Error("a time of nothing")
	}
	for range 3 * samplesKept {
		tick()
	}
	if n := len(a.periods(requestWork, 1)); n != samplesKept-1 || len(a.shares(requestWork)) != 0 {
		t.Errorf("%d periods are kept", n)
	}
	if n := len(a.periods(requestWork, perFiveMinutes)); n != 12 {
		t.Errorf("an hour has %d times five minutes", n)
	}
}

// Counters that run over still give differences.
func TestTalliesRunOver(t *testing.T) {
	old, now, sum := newTally(), newTally(), newTally()
	old.times, now.times = 1<<32-1, 4
	if sum.add(now, old); sum.times != 5 {
		t.Errorf("%d", sum.times)
	}
}

// A chart has its words for those who do not see it, and no line where nothing is known.
func TestChartSaysWhatItShows(t *testing.T) {
	m := NewMetrics("test")
	a := m.Activity()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, work := range []int{1, 0, 1} {
		a.take(now)
		for range work {
			m.answered("/a", "GET", 200, time.Millisecond)
		}
		now = now.Add(sampleEvery)
	}
	a.take(now)
	c := draw("x", "Times", a.periods(requestWork, 1), asMilliseconds, curve{"Median", "line-a", period.Median})
	if len(c.Lines) != 1 || len(c.Lines[0].Pieces) != 2 || len(c.Levels) != 3 || !strings.HasPrefix(c.Description, "From 12:00 to 12:00 UTC. Median: at most ") {
		t.Errorf("%+v", c)
	}
	for v, want := range map[float64]float64{0: 1, 0.03: 0.05, 1: 1, 1.1: 2, 2.5: 5, 7: 10, 99: 100} {
		if got := roundUp(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("%v is rounded up to %v", v, got)
		}
	}
}
