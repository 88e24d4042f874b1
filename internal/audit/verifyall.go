package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// LogReport is what a verification found of one of several logs.
type LogReport struct {
	LogInfo
	Report
}

// Tail reports whether entries at the log's end are under no checkpoint and nobody writes it:
// whoever takes it next signs them.
func (l LogReport) Tail() bool { return l.Idle && l.Covered < l.Entries }

// Reports is what a verification found of all logs.
type Reports struct {
	Logs []LogReport
	// Unprovable counts business rows from the time of expired entries.
	Unprovable uint64
	// Lost is what is wrong with no entry in particular: logs that are missing, and business
	// rows that no entry of any log explains.
	Lost []string
}

// Faults names all that is wrong, each with its log and entry: what is lost comes last.
func (r Reports) Faults() []string {
	var all []string
	for _, l := range r.Logs {
		for _, f := range l.Report.Faults {
			text := f.String()
			if len(r.Logs) > 1 {
				text = fmt.Sprintf("log %s, %s", l.LogInfo, text)
			}
			all = append(all, text)
		}
	}
	return append(all, r.Lost...)
}

// VerifyAll is Verify for all logs together, and holds them against the list of those that
// there should be: that of the source, whose numbers have no gap, and the anchors', which may
// know of one that is not listed any more. v.Source is not used; v.Origin is that of log 0,
// empty for what the source says.
func VerifyAll(ctx context.Context, v Verification, source Logs) (Reports, error) {
	var r Reports
	logs, err := source.Logs(ctx)
	if err != nil {
		return r, err
	}
	if v.Origin == "" && len(logs) != 0 {
		v.Origin = baseOf(logs)
	}
	all := &allLogs{Verification: v, source: source, ledger: newLedger(v.Rows)}
	if err := all.add(ctx, logs, false); err != nil {
		return r, err
	}
	// The rows when the sizes of all logs are known, and before their entries.
	if err := all.ledger.read(ctx); err != nil {
		return r, err
	}
	// A log that was made meanwhile may explain a row.
	if logs, err = source.Logs(ctx); err != nil {
		return r, err
	}
	if err := all.add(ctx, logs, true); err != nil {
		return r, err
	}
	strangers := all.anchors(logs)
	for _, f := range all.each {
		if err := f.run(ctx); err != nil {
			return r, err
		}
		f.listing()
	}
	if err := all.ledger.finish(ctx); err != nil {
		return r, err
	}
	for _, f := range all.each {
		r.Logs = append(r.Logs, LogReport{f.log, f.done()})
	}
	r.Unprovable = all.ledger.unprovable
	r.Lost = slices.Concat(gaps(logs), strangers, all.ledger.lost)
	return r, nil
}

// allLogs are those of one verification.
type allLogs struct {
	Verification
	source Logs
	ledger *ledger
	each   []*verifier
	total  uint64 // entries
}

// add adds the logs that are not there yet. Of a late one no row is expected.
func (a *allLogs) add(ctx context.Context, logs []LogInfo, late bool) error {
	for _, l := range logs {
		if slices.ContainsFunc(a.each, func(f *verifier) bool { return f.log.Number == l.Number }) {
			continue
		}
		one := a.Verification
		one.Source, one.Origin, one.Anchored = a.source.LogAt(l.Number), originIn(a.Origin, l), nil
		var size uint64
		if !late {
			var err error
			if size, err = one.Source.Size(ctx); err != nil {
				return err
			}
		}
		if before := a.total; a.Progress != nil {
			one.Progress = func(done, of uint64) { a.Progress(before+done, max(before+of, a.total)) }
		}
		a.total += size
		a.each = append(a.each, newVerifier(one, l, a.ledger, size))
	}
	return nil
}

// baseOf is the origin of log 0, as far as the list says it.
func baseOf(logs []LogInfo) string {
	i := slices.IndexFunc(logs, func(l LogInfo) bool { return l.Number == 0 })
	if i < 0 {
		return ""
	}
	return logs[i].Origin
}

// originIn is the origin that a log must have; empty if nobody says what log 0's is.
func originIn(base string, l LogInfo) string {
	if base == "" {
		return l.Origin
	}
	return OriginOf(base, l)
}

// listing holds a log against what the list says of it.
func (f *verifier) listing() {
	if f.log.Unlisted {
		f.fault(0, "the log is not one of those that the database lists")
	}
	if f.log.Origin != "" && f.Origin != "" && f.log.Origin != f.Origin {
		f.fault(0, "the log is listed as %q, and should be %q", f.log.Origin, f.Origin)
	}
}

// gaps finds logs whose number is skipped: the next of a database has the next number.
func gaps(logs []LogInfo) (lost []string) {
	next := 0
	for _, l := range logs {
		for ; next < l.Number && len(lost) < maxFaults; next++ {
			lost = append(lost, fmt.Sprintf("missing: log %d, with all its entries", next))
		}
		next = max(next, l.Number+1)
	}
	return lost
}

// anchors gives each log the checkpoints that are its own, and says what is of none.
func (a *allLogs) anchors(logs []LogInfo) (strangers []string) {
	for _, where := range slices.Sorted(maps.Keys(a.Anchored)) {
		told := map[string]bool{}
		for _, c := range a.Anchored[where] {
			i := slices.IndexFunc(a.each, func(f *verifier) bool { return f.Origin == c.Origin })
			if i < 0 && a.Origin == "" && len(logs) == 1 {
				i = 0 // nobody says what its origin is
			}
			if i >= 0 {
				a.each[i].keep(where, c)
				continue
			}
			if !told[c.Origin] {
				strangers = append(strangers, fmt.Sprintf("missing: the log %q, of which anchor %s has checkpoints; or it is of another database", c.Origin, where))
			}
			told[c.Origin] = true
		}
	}
	return strangers
}

// keep has a checkpoint of an anchor compared.
func (f *verifier) keep(where string, c Checkpoint) {
	if f.Anchored == nil {
		f.Anchored = map[string][]Checkpoint{}
	}
	f.Anchored[where] = append(f.Anchored[where], c)
}
