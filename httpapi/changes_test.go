package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/record"
)

const (
	proposes = "https://console-a.example"
	approves = "https://console-b.example"
)

// changes is a Changes that answers every call with one error, and remembers who called.
type changes struct {
	err error
	who approval.Caller
	got string
}

var oneChange = approval.Change{
	ID: "1", Kind: "note", Document: []byte(`{"a":1}`), SHA256: "ab", State: approval.Open,
	Proposed: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Proposer: approval.Person{Tenant: "bank-a", Issuer: proposes, Subject: "ada"},
}

func (c *changes) answer(who approval.Caller, got string) (approval.Change, error) {
	c.who, c.got = who, got
	return oneChange, c.err
}

func (c *changes) Propose(_ context.Context, who approval.Caller, kind string, document []byte) (approval.Change, error) {
	return c.answer(who, kind+" "+string(document))
}

func (c *changes) Approve(_ context.Context, who approval.Caller, id, digest string) (approval.Change, error) {
	return c.answer(who, id+" "+digest)
}

func (c *changes) Reject(_ context.Context, who approval.Caller, id string) (approval.Change, error) {
	return c.answer(who, id)
}

func (c *changes) Change(context.Context, string) (approval.Change, error) { return oneChange, c.err }

func (c *changes) Changes(context.Context, int) ([]approval.Change, error) {
	return []approval.Change{oneChange}, c.err
}

// changesAPI is the admin listener with dual control.
func changesAPI(t *testing.T, c *changes) *api {
	t.Helper()
	a := &api{t: t, listener: "admin", metrics: NewMetrics("test"), refusals: &refusals{}, log: &lockedBuffer{}}
	a.logger = slog.New(slog.NewTextHandler(a.log, nil))
	verifier, err := access.NewVerifier([]access.Client{
		client(proposes, "bank-a", access.ProposeChanges), client(approves, "bank-a", access.ApproveChanges), client(bystander, "bank-b"),
	}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	a.handler = NewAdmin(a.metrics, a.logger, nil, ChangeRoutes(c, Config{
		Callers: verifier, Refusals: a.refusals, Metrics: a.metrics, Log: a.logger, Now: time.Now, ClaimLease: time.Minute, RequestTimeout: time.Minute,
	}))
	return a
}

// Who may do what with changes; what is refused at the door is on record, and the domain is not
// asked.
func TestRightsOfChanges(t *testing.T) {
	const propose, approve = `{"kind":"note","document":{"a": 1}}`, `{"sha256":"ab"}`
	for name, c := range map[string]struct {
		method, path, body, iss string
		status                  int
		got                     string // what the domain was asked
		refused                 record.Operation
	}{
		"proposed":                       {"POST", "", propose, proposes, 201, `note {"a": 1}`, ""},
		"proposed without the right":     {"POST", "", propose, approves, 403, "", record.ProposeChange},
		"proposed by nobody":             {"POST", "", propose, "", 401, "", record.ProposeChange},
		"approved":                       {"POST", "/1/approve", approve, approves, 200, "1 ab", ""},
		"approved without the right":     {"POST", "/1/approve", approve, proposes, 403, "", record.ApproveChange},
		"rejected by who may propose":    {"POST", "/1/reject", "{}", proposes, 200, "1", ""},
		"rejected by who may approve":    {"POST", "/1/reject", "{}", approves, 200, "1", ""},
		"rejected by who may do neither": {"POST", "/1/reject", "{}", bystander, 403, "", record.RejectChange},
		"listed":                         {"GET", "", "", approves, 200, "", ""},
		"listed by who may do neither":   {"GET", "", "", bystander, 403, "", record.ReadChange},
		"shown":                          {"GET", "/1", "", proposes, 200, "", ""},
		"shown to nobody":                {"GET", "/1", "", "", 401, "", record.ReadChange},
		"an unknown member":              {"POST", "", `{"kind":"note","document":{},"approved":true}`, proposes, 400, "", ""},
		"no body":                        {"POST", "/1/approve", "", approves, 400, "", ""},
		"a kind that is a number":        {"POST", "", `{"kind":1,"document":{}}`, proposes, 400, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			domain := &changes{}
			a := changesAPI(t, domain)
			req := httptest.NewRequest(c.method, "/v1/changes"+c.path, strings.NewReader(c.body))
			req.Header.Set("Content-Type", "application/json")
			if c.iss != "" {
				req.Header.Set("Authorization", "Bearer "+token(t, c.iss, jwt.MapClaims{"sub": "ada"}))
			}
			if got := a.serve(req); got.status != c.status || domain.got != c.got {
				t.Errorf("answered %d %s; the domain was asked %q", got.status, got.body, domain.got)
			}
			if c.got != "" && (domain.who.Issuer != c.iss || domain.who.Subject != "ada" || domain.who.Tenant != "bank-a" || domain.who.RequestID == "") {
				t.Errorf("it was asked by %+v", domain.who)
			}
			if c.refused != "" && (len(a.refusals.seen) != 1 || a.refusals.seen[0].Operation != c.refused) {
				t.Errorf("on record: %+v", a.refusals.seen)
			}
		})
	}
}

// A page of a browser on the same machine cannot have anything changed: it sends no JSON without
// being asked first, and has no token.
func TestChangesTakeNothingButJSON(t *testing.T) {
	domain := &changes{}
	a := changesAPI(t, domain)
	req := a.postTo("/v1/changes/1/approve", `{"sha256":"ab"}`, token(t, approves, nil))
	req.Header.Set("Content-Type", "text/plain")
	if got := a.serve(req); got.status != http.StatusUnsupportedMediaType || domain.got != "" {
		t.Errorf("answered %d; the domain was asked %q", got.status, domain.got)
	}
}

// What the domain refuses has a status and a type of its own.
func TestProblemsOfChanges(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		name   string
	}{
		{approval.ErrUnknown, 404, "unknown-change"},
		{approval.ErrKind, 422, "change-kind"},
		{&approval.DocumentError{What: "other files stand here"}, 422, "change-document"},
		{approval.ErrSamePerson, 403, "same-person"},
		{approval.ErrRequired, 403, "approval-required"},
		{approval.ErrOtherDocument, 409, "other-document"},
		{approval.ErrNotOpen, 409, "change-not-open"},
		{access.ErrReplayed, 409, "token-used"},
		{errors.New("secret"), 500, "internal"},
	} {
		a := changesAPI(t, &changes{err: c.err})
		got := a.serve(a.postTo("/v1/changes/1/approve", `{"sha256":"ab"}`, token(t, approves, nil)))
		var p Problem
		if got.status != c.status || json.Unmarshal([]byte(got.body), &p) != nil || string(p.Type) != problemType+c.name || strings.Contains(got.body, "secret") {
			t.Errorf("%v: %d %s", c.err, got.status, got.body)
		}
	}
}

// A change is shown as it was digested.
func TestChangeIsShownAsItWasDigested(t *testing.T) {
	a := changesAPI(t, &changes{})
	req := httptest.NewRequest(http.MethodGet, "/v1/changes/1", nil)
	req.Header.Set("Authorization", "Bearer "+token(t, approves, nil))
	got := a.serve(req)
	for _, part := range []string{`"document":{"a":1}`, `"sha256":"ab"`, `"state":"open"`, `"proposer":{"tenant":"bank-a","iss":"` + proposes + `","sub":"ada"}`, `"proposed":"2026-11-22T12:00:00Z"`} {
		if !strings.Contains(got.body, part) {
			t.Errorf("no %s in %s", part, got.body)
		}
	}
	if strings.Contains(got.body, "decide") || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", got.header, got.body)
	}
}

// What the running service says of itself is there for the report.
func TestServiceSaysWhatItIs(t *testing.T) {
	h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), nil, ServiceRoute(func(context.Context) any { return map[string]int{"n": 1} }))
	if a := get(h, "/v1/service"); a.status != 200 || a.body != `{"n":1}` {
		t.Errorf("answered %d %s", a.status, a.body)
	}
}
