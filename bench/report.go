package bench

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Row is what came of a subject at a number of clients. Times are in milliseconds.
type Row struct {
	Subject   string  `json:"subject"`
	Clients   int     `json:"clients"`
	PerSecond float64 `json:"perSecond"`
	P50       float64 `json:"p50Ms"`
	P99       float64 `json:"p99Ms"`
	CPU       float64 `json:"cpuMs"`       // of the server, or of the raw loop, an operation
	ClientCPU float64 `json:"clientCpuMs"` // of the clients' process, an operation
	// Refused is how many more were told to come back, over all rounds.
	Refused uint64 `json:"refused,omitzero"`

	Raw string `json:"raw,omitzero"` // the subject that it is held against
	// ToRaw is its throughput as a part of the raw subject's.
	ToRaw float64 `json:"toRaw,omitzero"`
	// ToLeft is the same, of what the raw subject would do with the cores that the clients
	// left over.
	ToLeft float64 `json:"toLeft,omitzero"`
	// OverRaw is its CPU beyond the raw subject's, an operation.
	OverRaw float64 `json:"overRawMs,omitzero"`
}

// Goal is what was to be reached, and what was.
type Goal struct {
	Work string `json:"work"`
	Goal string `json:"goal"`
	Got  string `json:"got"`
	Met  bool   `json:"met"`
}

// Fact is a figure that is no row.
type Fact struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Report is a run.
type Report struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`    // which token, and which build
	Machine string    `json:"machine"` // as Machine gives it
	Seconds float64   `json:"secondsEach"`
	Rounds  int       `json:"rounds"`
	Rows    []Row     `json:"rows"`
	Facts   []Fact    `json:"facts,omitempty"`
	Goals   []Goal    `json:"goals,omitempty"`
}

// held fills in what compares a row with its raw subject.
func held(rows []Row) []Row {
	all := Report{Rows: rows}
	for i := range rows {
		r := &rows[i]
		raw, ok := all.Find(r.Raw, r.Clients)
		if !ok || raw.PerSecond == 0 {
			continue
		}
		r.ToRaw = r.PerSecond / raw.PerSecond
		r.OverRaw = r.CPU - raw.CPU
		if left := 1 - r.ClientCPU/1000*r.PerSecond/float64(runtime.NumCPU()); left > 0 {
			r.ToLeft = r.ToRaw / left
		}
	}
	return rows
}

// Find gives the row of a subject at a number of clients.
func (r Report) Find(subject string, clients int) (Row, bool) {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Subject == subject && row.Clients == clients })
	if i < 0 {
		return Row{}, false
	}
	return r.Rows[i], true
}

// WriteJSON writes the run for bench/compare and other programs.
func (r Report) WriteJSON(w io.Writer) error {
	return json.MarshalWrite(w, r, jsontext.Multiline(true))
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(from io.Reader) (r Report, err error) {
	return r, json.UnmarshalRead(from, &r)
}

// WriteMarkdown writes the run for people.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, on %s; medians of %d rounds of %.1f s\n\n", r.At.UTC().Format(time.RFC3339), r.What, r.Machine, r.Rounds, r.Seconds)
	b.WriteString("| work | clients | /s | p50 ms | p99 ms | CPU ms | over raw ms | of raw | of raw left | refused |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		over, part, left := "", "", ""
		if row.ToRaw != 0 {
			over, part, left = fmt.Sprintf("%+.3f", row.OverRaw), fmt.Sprintf("%.2f", row.ToRaw), fmt.Sprintf("%.2f", row.ToLeft)
		}
		fmt.Fprintf(&b, "| %s | %d | %.0f | %.2f | %.2f | %.3f | %s | %s | %s | %d |\n", row.Subject, row.Clients, row.PerSecond, row.P50, row.P99, row.CPU, over, part, left, row.Refused)
	}
	if len(r.Facts) > 0 {
		b.WriteString("\n| what | figure |\n|---|---|\n")
	}
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "| %s | %s %s |\n", f.What, strings.TrimSuffix(fmt.Sprintf("%.1f", f.Value), ".0"), f.Unit)
	}
	if len(r.Goals) > 0 {
		b.WriteString("\n| goal | at | got | |\n|---|---|---|---|\n")
	}
	for _, g := range r.Goals {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.Work, g.Goal, g.Got, map[bool]string{true: "met", false: "**missed**"}[g.Met])
	}
	_, err := io.WriteString(w, b.String())
	return err
}
