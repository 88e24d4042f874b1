package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
)

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
