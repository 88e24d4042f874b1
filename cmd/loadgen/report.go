package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of times that are told apart, in microseconds, to three digits. A longer one
// counts as the longest.
const (
	shortest = 1
	longest  = int64(10 * time.Minute / time.Microsecond)
	digits   = 3
)

// hist is a histogram of times. Its zero value is empty.
type hist struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // guarded by mu; nil while it is empty
}

func (h *hist) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h == nil {
		h.h = hdrhistogram.New(shortest, longest, digits)
	}
	_ = h.h.RecordValue(min(max(d.Microseconds(), 0), longest)) // within the range
}

// addTo adds all that was recorded to a histogram.
func (h *hist) addTo(sum *hdrhistogram.Histogram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h != nil {
		sum.Merge(h.h)
	}
}

// tally is what became of one kind of operation.
type tally struct {
	ok, bad hist // times of those that were done, and of the others

	mu     sync.Mutex
	faults map[string]int64 // guarded by mu
}

func (t *tally) done(took time.Duration) { t.ok.add(took) }

func (t *tally) fail(fault string, took time.Duration) {
	t.bad.add(took)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.faults == nil {
		t.faults = map[string]int64{}
	}
	t.faults[fault]++
}

// times are percentiles in milliseconds, from when an operation was due.
type times struct {
	P50  float64 `json:"p50Ms"`
	P90  float64 `json:"p90Ms"`
	P99  float64 `json:"p99Ms"`
	P999 float64 `json:"p999Ms"`
	Max  float64 `json:"maxMs"`
}

func timesOf(h *hdrhistogram.Histogram) times {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return times{ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(90)), ms(h.ValueAtQuantile(99)), ms(h.ValueAtQuantile(99.9)), ms(h.Max())}
}

// row is what came of one kind of operation, or of all.
type row struct {
	Operation string `json:"operation"`
	OK        int64  `json:"ok"`
	// Errors counts the others: by status, or by what there was instead of one.
	Errors  map[string]int64 `json:"errors,omitempty"`
	Latency times            `json:"latency"`          // of those that were done
	Failed  *times           `json:"failed,omitempty"` // of the others, to the answer or to giving up
}

// failures is how many were not done.
func (r row) failures() (n int64) {
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// report is a run.
type report struct {
	At      time.Time `json:"at"`
	Target  string    `json:"target"`
	Machine string    `json:"machine"` // of the generator
	// Rate is what was asked for; SentPerSecond what was begun, DonePerSecond what was done up
	// to the last answer.
	Rate          float64 `json:"ratePerSecond"`
	SentPerSecond float64 `json:"sentPerSecond"`
	DonePerSecond float64 `json:"donePerSecond"`
	Seconds       float64 `json:"seconds"` // to the last answer, without the warm-up
	Sent          int     `json:"sent"`
	Lag           times   `json:"lag"`    // how long after they were due operations were begun
	Behind        bool    `json:"behind"` // the generator did not keep its schedule
	Operations    []row   `json:"operations"`
	Total         row     `json:"total"`
}

// The generator has fallen behind when one operation of a hundred was begun later than this,
// or a part of the operations as large as this was not begun in the time of all.
const (
	lagAllowed  = 10 * time.Millisecond
	lackAllowed = 0.01
)

// total is what became of all operations so far.
func (r *run) total() row {
	ok, bad := hdrhistogram.New(shortest, longest, digits), hdrhistogram.New(shortest, longest, digits)
	sum := map[string]int64{}
	for i := range r.kinds {
		r.kinds[i].addTo(ok, bad, sum)
	}
	return rowOf("all", ok, bad, sum)
}

func (t *tally) addTo(ok, bad *hdrhistogram.Histogram, sum map[string]int64) {
	t.ok.addTo(ok)
	t.bad.addTo(bad)
	t.mu.Lock()
	defer t.mu.Unlock()
	for fault, n := range t.faults {
		sum[fault] += n
	}
}

func rowOf(name string, ok, bad *hdrhistogram.Histogram, faults map[string]int64) row {
	r := row{Operation: name, OK: ok.TotalCount(), Errors: faults, Latency: timesOf(ok)}
	if bad.TotalCount() > 0 {
		failed := timesOf(bad)
		r.Failed = &failed
	}
	return r
}

// report is made when nothing is under way any more; begun is how long it took to begin
// what was sent.
func (r *run) report(began time.Time, sent int, begun time.Duration) report {
	out := report{At: began, Rate: r.rate, Sent: sent, Total: r.total()}
	for i := range r.kinds {
		ok, bad := hdrhistogram.New(shortest, longest, digits), hdrhistogram.New(shortest, longest, digits)
		faults := map[string]int64{}
		r.kinds[i].addTo(ok, bad, faults)
		out.Operations = append(out.Operations, rowOf(r.shares[i].name, ok, bad, faults))
	}
	lag := hdrhistogram.New(shortest, longest, digits)
	r.lag.addTo(lag)
	out.Lag = timesOf(lag)
	out.Seconds = (time.Since(began) - r.warmup).Seconds()
	// The last operation is due one interval before the end of the time that it stands for.
	whole := begun.Seconds() - r.warmup.Seconds() + 1/r.rate
	out.SentPerSecond = float64(sent) / whole
	out.DonePerSecond = float64(out.Total.OK) / max(out.Seconds, whole)
	out.Behind = out.Lag.P99 > float64(lagAllowed.Milliseconds()) || out.SentPerSecond < (1-lackAllowed)*r.rate
	return out
}

// writeJSON writes the run for other programs.
func (r report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// writeTable writes the run for people.
func (r report) writeTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, generator on %s\n\n", r.At.UTC().Format(time.RFC3339), r.Target, r.Machine)
	b.WriteString("| operation | done | errors | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms |\n|---|---|---|---|---|---|---|---|\n")
	rows := r.Operations
	if len(rows) > 1 {
		rows = append(slices.Clone(rows), r.Total)
	}
	for _, o := range rows {
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", o.Operation, o.OK, o.faults(), o.Latency)
	}
	fmt.Fprintf(&b, "\n%.1f/s asked for, %.1f/s begun, %.1f/s done; the generator's own lag: p50 %.2f, p99 %.2f, max %.2f ms\n",
		r.Rate, r.SentPerSecond, r.DonePerSecond, r.Lag.P50, r.Lag.P99, r.Lag.Max)
	_, err := io.WriteString(w, b.String())
	return err
}

// faults are the errors, by what they were.
func (r row) faults() string {
	if len(r.Errors) == 0 {
		return "0"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(r.Errors)) {
		all = append(all, fmt.Sprintf("%s: %d", name, r.Errors[name]))
	}
	return strings.Join(all, ", ")
}

// String is the table's cells: three digits.
func (t times) String() string {
	var all []string
	for _, ms := range []float64{t.P50, t.P90, t.P99, t.P999, t.Max} {
		precision := 2 - int(math.Floor(math.Log10(max(ms, 0.01))))
		all = append(all, fmt.Sprintf("%.*f", min(max(precision, 0), 2), ms))
	}
	return strings.Join(all, " | ")
}
