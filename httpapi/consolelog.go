package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/secret"
)

const (
	// mostEntries is how many entries a page of the log shows.
	mostEntries = 50
	// logWindow is how many it looks at for them, so that a search in a long log is answered.
	logWindow = 5000
	// logBefore is how many more are read before those, for the intents of results.
	logBefore = 500
	// ticketTook is how long after its ticket's time an operation is looked for.
	ticketTook = time.Hour
)

// A logSearch is what the form of the log's page asks for.
type logSearch struct {
	Log                                  string // as addresses name it; empty for the process's own
	Tenant, Kind, Operation, Ticket, Ref string
	Since, Until                         string // as they were typed
	Before                               uint64 // sequence number; 0 for the end

	since, until time.Time
}

// logKinds are the kinds of entries, for the form.
var logKinds = []audit.Kind{audit.KindIntent, audit.KindResult, audit.KindOperation, audit.KindRefusal, audit.KindLifecycle}

// errQuery is returned for a query that cannot be looked for. Its text names the field.
type errQuery string

func (e errQuery) Error() string { return string(e) }

// maxField bounds what is typed into a field, in bytes.
const maxField = 256

// field reads a field of a form. What looks like a card number is neither looked for nor shown
// again.
func field(c *gin.Context, name string) (string, error) {
	v := strings.TrimSpace(c.Query(name))
	switch {
	case len(v) > maxField:
		return "", errQuery(name + " is too long.")
	case secret.LooksLikePAN(v):
		return "", errQuery(name + " looks like a card number, which is found nowhere here.")
	}
	return v, nil
}

// readLogSearch reads the form.
func readLogSearch(c *gin.Context) (logSearch, error) {
	var q logSearch
	var errs []error
	for name, to := range map[string]*string{
		"tenant": &q.Tenant, "kind": &q.Kind, "operation": &q.Operation, "ticket": &q.Ticket, "ref": &q.Ref, "since": &q.Since, "until": &q.Until,
	} {
		var err error
		*to, err = field(c, name)
		errs = append(errs, err)
	}
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"since", q.Since, &q.since}, {"until", q.Until, &q.until}} {
		if t.text == "" {
			continue
		}
		var err error
		if *t.to, err = typedTime(t.text); err != nil {
			errs = append(errs, errQuery(t.name+" must be a time such as 2026-11-22T12:00 (UTC)."))
		}
	}
	if before := c.Query("before"); before != "" {
		n, err := strconv.ParseUint(before, 10, 62)
		if err != nil {
			errs = append(errs, errQuery("before must be an entry's number."))
		}
		q.Before = n
	}
	q.aroundTicket()
	return q, errors.Join(errs...)
}

// typedTime reads a time as browsers and people write it.
func typedTime(text string) (time.Time, error) {
	for _, form := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("no time")
}

// aroundTicket bounds the search by the time that stands in a ticket (RFC 9562, 5.7), unless
// it is bounded.
func (q *logSearch) aroundTicket() {
	id, err := uuid.Parse(q.Ticket)
	if err != nil || id.Version() != 7 {
		return
	}
	at := time.Unix(id.Time().UnixTime())
	if q.since.IsZero() {
		q.since = at.Add(-time.Minute)
	}
	if q.until.IsZero() {
		q.until = at.Add(ticketTook)
	}
}

func (q logSearch) filter() *audit.Filter {
	return &audit.Filter{Tenant: q.Tenant, Kind: audit.Kind(q.Kind), Operation: q.Operation, Ticket: q.Ticket, Ref: q.Ref, Since: q.since, Until: q.until}
}

// conditional reports whether there is anything that an entry may not match.
func (q logSearch) conditional() bool {
	return q.Tenant+q.Kind+q.Operation+q.Ticket+q.Ref != ""
}

// older is the address of the page with what was before an entry.
func (q logSearch) older(before uint64) string {
	v := url.Values{"before": {strconv.FormatUint(before, 10)}}
	for name, text := range map[string]string{"log": q.Log, "tenant": q.Tenant, "kind": q.Kind, "operation": q.Operation, "ticket": q.Ticket, "ref": q.Ref, "since": q.Since, "until": q.Until} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return consolePath + "log?" + v.Encode()
}

// A logFound is what a page of the log has.
type logFound struct {
	Size     uint64
	Rows     []logRow // the newest first
	From, To uint64   // what was looked at
	Older    string   // address of the next page; empty if there is none
}

// A logRow is an entry in the list.
type logRow struct {
	audit.Row
	Operation, Outcome string
}

// searchLog looks through one window of the log, from its end to its beginning.
func searchLog(ctx context.Context, log audit.Source, q logSearch) (logFound, error) {
	size, err := log.Size(ctx)
	if err != nil {
		return logFound{}, err
	}
	f := logFound{Size: size, To: size}
	if q.Before > 0 {
		f.To = min(size, q.Before)
	}
	lowest := uint64(0)
	if !q.since.IsZero() {
		if lowest, err = firstSince(ctx, log, size, q.since); err != nil {
			return f, err
		}
	}
	if !q.until.IsZero() {
		end, err := firstSince(ctx, log, size, q.until)
		if err != nil {
			return f, err
		}
		f.To = min(f.To, end)
	}
	f.To = max(f.To, lowest)
	window := uint64(mostEntries)
	if q.conditional() {
		window = logWindow
	}
	f.From = max(lowest, f.To-min(f.To, window))
	if err := collect(ctx, log, q, &f); err != nil {
		return f, err
	}
	if f.From > lowest {
		f.Older = q.older(f.From)
	}
	return f, nil
}

// collect reads the window. If it has more than a page shows, the rest is the next page's.
func collect(ctx context.Context, log audit.Source, q logSearch, f *logFound) error {
	wanted := q.filter()
	err := audit.Each(ctx, log, f.From-min(f.From, logBefore), func(r audit.Row) error {
		if r.Seq >= f.To {
			return io.EOF
		}
		if wanted.Matches(r) && r.Seq >= f.From {
			f.Rows = append(f.Rows, describedRow(r))
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n := len(f.Rows); n > mostEntries {
		f.Rows = f.Rows[n-mostEntries:]
		f.From = f.Rows[0].Seq
	}
	slices.Reverse(f.Rows)
	return nil
}

// describedRow takes out of a body what the list shows of it.
func describedRow(r audit.Row) logRow {
	var body struct {
		Operation, Event, Outcome, Reason string
		Intent                            struct{ Operation string }
		Result                            struct{ Outcome, Reason string }
	}
	_ = json.Unmarshal(r.Body, &body) // an expired body says nothing
	row := logRow{Row: r, Operation: body.Operation + body.Intent.Operation + body.Event, Outcome: body.Outcome + body.Result.Outcome}
	if reason := body.Reason + body.Result.Reason; reason != "" {
		row.Outcome = strings.TrimPrefix(row.Outcome+": "+reason, ": ")
	}
	return row
}

// firstSince gives the number of the first entry from a time on. Entries are in the order of
// their times, but for what clocks do.
func firstSince(ctx context.Context, log audit.Source, size uint64, at time.Time) (uint64, error) {
	low, high := uint64(0), size
	for low < high {
		middle := low + (high-low)/2
		rows, err := log.Rows(ctx, middle, 1)
		if err != nil {
			return 0, err
		}
		if len(rows) > 0 && rows[0].At.Before(at) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

func (h *console) logPage(c *gin.Context) {
	log, ok := h.askedLog(c)
	if !ok {
		return
	}
	q, err := readLogSearch(c)
	q.Log = log.Called
	var found logFound
	status, wrong := http.StatusOK, ""
	if err != nil {
		status, wrong = http.StatusBadRequest, err.Error()
	} else if found, err = searchLog(c.Request.Context(), log, q); err != nil {
		h.failPage(c, err)
		return
	}
	h.showAs(c, status, "log", "Log", map[string]any{"Log": log, "Search": q, "Wrong": wrong, "Found": found, "Kinds": logKinds})
}

// row gives the entry that the path names, and its log; false if it has answered.
func (h *console) row(c *gin.Context) (consoleLog, audit.Row, bool) {
	log, ok := h.askedLog(c)
	if !ok {
		return log, audit.Row{}, false
	}
	seq, err := strconv.ParseUint(c.Param("entry"), 10, 62)
	if err == nil {
		var rows []audit.Row
		if rows, err = log.Rows(c.Request.Context(), seq, 1); err != nil {
			h.failPage(c, err)
			return log, audit.Row{}, false
		}
		if len(rows) == 1 && rows[0].Seq == seq {
			return log, rows[0], true
		}
	}
	h.problemPage(c, problem{status: http.StatusNotFound, name: "no-such-resource", title: "No such entry", detail: "The log has no entry of this number."})
	return log, audit.Row{}, false
}

func (h *console) entry(c *gin.Context) {
	log, row, ok := h.row(c)
	if !ok {
		return
	}
	covering, err := log.Checkpoints(c.Request.Context(), row.Seq+1, 1)
	size, err2 := log.Size(c.Request.Context())
	if err := errors.Join(err, err2); err != nil {
		h.failPage(c, err)
		return
	}
	h.show(c, "entry", fmt.Sprintf("Entry %d", row.Seq), map[string]any{
		"Log": log, "Row": describedRow(row), "Body": indented(row.Body), "SHA256": fmt.Sprintf("%x", row.BodySHA256), "Leaf": row.LeafHash().String(),
		"Covering": covering, "Next": row.Seq + 1, "HasNext": row.Seq+1 < size, "Before": row.Seq - min(row.Seq, 1), "HasBefore": row.Seq > 0,
	})
}

// proof answers with the proof that an entry is in the log, as mintmark audit prove prints it.
func (h *console) proof(c *gin.Context) {
	log, row, ok := h.row(c)
	if !ok {
		return
	}
	covering, err := log.Checkpoints(c.Request.Context(), row.Seq+1, 1)
	if err == nil && len(covering) == 0 {
		h.problemPage(c, problem{status: http.StatusServiceUnavailable, name: "unavailable", title: "No proof yet",
			detail: "No checkpoint covers the entry yet.", retry: 2 * time.Second})
		return
	}
	var text string
	if err == nil {
		text, err = audit.Prove(c.Request.Context(), log, row.Seq)
	}
	if err != nil { // among others, that the entry is not in the tree that was signed
		h.failPage(c, err)
		return
	}
	download(c, fmt.Sprintf("%sentry-%d.tlog-proof", log.file(), row.Seq), noteType, []byte(text))
}

// line answers with an entry as exports have it.
func (h *console) line(c *gin.Context) {
	log, row, ok := h.row(c)
	if !ok {
		return
	}
	b, err := json.Marshal(row)
	if err != nil {
		h.failPage(c, err)
		return
	}
	download(c, fmt.Sprintf("%sentry-%d.json", log.file(), row.Seq), "application/json", append(b, '\n'))
}

func (h *console) checkpoint(c *gin.Context) {
	log, ok := h.askedLog(c)
	if !ok {
		return
	}
	if !log.Signed {
		h.problemPage(c, unavailable(5*time.Second))
		return
	}
	download(c, fmt.Sprintf("%scheckpoint-%d.txt", log.file(), log.Last.Size), noteType, []byte(log.Last.Note))
}

// download answers with a file to be kept.
func download(c *gin.Context, name, mediaType string, content []byte) {
	c.Header("Content-Disposition", `attachment; filename="`+name+`"`)
	c.Data(http.StatusOK, mediaType, content)
}
