package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/keys"
	"github.com/mintmark/mintmark/internal/secret"
)

// consoleFuncs are what templates call.
var consoleFuncs = template.FuncMap{
	"utc":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"short": shortDigest,
	"for":   func(d time.Duration) string { return d.Round(time.Second).String() },
	// What callers chose is shown as it may stand in a record.
	"ref":   secret.Reference,
	"flags": flagsText,
}

// shortDigest is the beginning of a digest, with the name of its kind if it has one.
func shortDigest(s string) string {
	kind, digest, found := strings.Cut(s, ":")
	if !found {
		kind, digest = "", s
	} else {
		kind += ":"
	}
	if len(digest) <= 16 {
		return s
	}
	return kind + digest[:12] + "…"
}

// flagsText lists the flags of an object that are of a value.
func flagsText(flags map[string]bool, value bool) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if flags[name] == value {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// soon is how many days before a key's end the overview tells of it.
const soon = 90

func (h *console) overview(c *gin.Context) {
	ready, checks := probe(c.Request.Context(), h.cfg.Checks)
	slices.SortStableFunc(checks, func(a, b checkResult) int { return rank(a) - rank(b) })
	var ending []keys.Expiry
	for _, e := range h.cfg.Expiries() {
		if e.DaysLeft <= soon {
			ending = append(ending, e)
		}
	}
	slices.SortStableFunc(ending, func(a, b keys.Expiry) int { return a.DaysLeft - b.DaysLeft })
	service := h.cfg.Service()
	last, signed := h.latest()
	logs, err := h.logStates(c.Request.Context())
	if err != nil {
		h.logFailure(c, err)
	}
	h.show(c, "overview", "Overview", map[string]any{
		"Stopping": h.cfg.Stopping != nil && h.cfg.Stopping.Err() != nil, "Ready": ready, "Degraded": slices.ContainsFunc(checks, func(r checkResult) bool { return !r.OK }), "Checks": checks,
		"Members": h.cfg.Members(), "Ending": ending, "Started": service.Started, "Uptime": h.cfg.Now().Sub(service.Started),
		"Log": h.cfg.AuditFigure(), "Last": last, "Signed": signed,
		"Logs": logs, "LogsUnread": err != nil,
	})
}

// rank sorts what is not well to the front.
func rank(r checkResult) int {
	if r.OK {
		return 1
	}
	return 0
}

func (h *console) latest() (audit.Checkpoint, bool) {
	if h.cfg.Checkpoints == nil {
		return audit.Checkpoint{}, false
	}
	return h.cfg.Checkpoints.Latest()
}

func (h *console) keyList(c *gin.Context) {
	h.show(c, "keys", "Keys", h.cfg.Inventory(c.Request.Context()))
}

func (h *console) key(c *gin.Context) {
	for _, k := range h.cfg.Inventory(c.Request.Context()).Keys {
		if k.Name == c.Param("name") {
			h.show(c, "key", "Key "+k.Name, k)
			return
		}
	}
	h.problemPage(c, problem{status: 404, name: "no-such-resource", title: "No such key", detail: "The keyring has no key of this name."})
}

// An activityRow is a line of the tables beside the charts.
type activityRow struct{ Name, Times, Rate, Failed, Median, Slow string }

func (r *activityRow) of(p period) {
	r.Times, r.Rate, r.Failed, r.Median, r.Slow = fmt.Sprint(p.times), perSecond(p.Rate()), fmt.Sprint(p.failed), "none", "none"
	if v, ok := p.Median(); ok {
		r.Median = asMilliseconds(v)
	}
	if v, ok := p.Slow(); ok {
		r.Slow = asMilliseconds(v)
	}
}

// activityOf is one kind of work: its charts, and the tables of what they show.
type activityOf struct {
	ID, Title, Unit string
	Charts          []chart
	Over            []activityRow // five minutes each, the newest first
	By              []activityRow
}

const perFiveMinutes = int(5 * time.Minute / sampleEvery)

func (h *console) activity(c *gin.Context) {
	var all []activityOf
	for _, w := range []struct{ of, title, unit, name string }{
		{requestWork, "Requests", "Route", "answers"}, {tokenWork, "Work on the tokens", "Operation", "units of work"},
	} {
		a := activityOf{ID: w.of, Title: w.title, Unit: w.unit}
		over := h.cfg.Activity.periods(w.of, 1)
		if len(over) > 0 {
			rate := func(p period) (float64, bool) { return p.Rate(), true }
			failed := func(p period) (float64, bool) { return p.FailedRate(), true }
			a.Charts = []chart{
				draw(w.of+"-rate", w.title+": "+w.name+" a second", over, perSecond, curve{"All", "line-a", rate}, curve{"Failed", "line-b", failed}),
				draw(w.of+"-time", w.title+": time", over, asMilliseconds, curve{"Median", "line-a", period.Median}, curve{"99 in 100 within", "line-b", period.Slow}),
			}
		}
		for _, p := range slices.Backward(h.cfg.Activity.periods(w.of, perFiveMinutes)) {
			row := activityRow{Name: clock(p.From) + " to " + clock(p.To)}
			row.of(p)
			a.Over = append(a.Over, row)
		}
		for _, s := range h.cfg.Activity.shares(w.of) {
			row := activityRow{Name: s.Name}
			row.of(s.period)
			a.By = append(a.By, row)
		}
		all = append(all, a)
	}
	h.show(c, "activity", "Activity", all)
}

// A consoleChange is a change as the page has it.
type consoleChange struct {
	approval.Change
	Text    string // of the document
	Settled bool
}

func (h *console) changeList(c *gin.Context) {
	found, err := h.cfg.Changes.Changes(c.Request.Context(), mostChanges)
	if err != nil {
		h.failPage(c, err)
		return
	}
	var open, closed []consoleChange
	for _, one := range found {
		shown := consoleChange{Change: one, Text: indented(one.Document), Settled: !one.Decided.IsZero()}
		if one.State == approval.Open || one.State == approval.Applying {
			open = append(open, shown)
		} else {
			closed = append(closed, shown)
		}
	}
	h.show(c, "changes", "Changes", map[string]any{"Open": open, "Closed": closed})
}

// indented is a JSON text for people; what is none, as it is.
func indented(text []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return string(text)
	}
	return b.String()
}

func (h *console) report(c *gin.Context) {
	h.show(c, "report", "Report", map[string]any{"Service": h.cfg.Service(), "Anchors": h.cfg.AuditFigure().Anchors})
}
