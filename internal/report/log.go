package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
)

// a11: the logs.
func a11(f Facts) []Line {
	l := f.Log
	if l.Err != "" {
		return []Line{{Fail, "audit log", "not read: " + l.Err}}
	}
	var lines []Line
	for _, one := range l.Report.Logs {
		lines = append(lines, ofLog(f.Now, l, one)...)
	}
	if len(lines) == 0 {
		lines = []Line{{Fail, "audit log", "there is none"}}
	}
	for i, what := range l.Report.Lost {
		if i < mostFaults {
			lines = append(lines, Line{Fail, "audit log", what})
		}
	}
	lines = append(lines, anchors(f)...)
	keep := Line{Pass, "retention", "for ever"}
	if l.Retention != 0 {
		keep.Found = fmt.Sprintf("bodies for %d days, hashes for ever", int(l.Retention.Hours()/24))
		if l.Retention < 365*24*time.Hour { // PCI DSS 10.5.1
			keep.Verdict = Fail
		}
	}
	return append(lines, keep)
}

// mostFaults is how many are listed.
const mostFaults = 20

// ofLog is one log of the database. One that never had an entry has nothing to show.
func ofLog(now time.Time, l Log, r audit.LogReport) []Line {
	name := "audit log " + r.Report.Origin
	lines := []Line{{Pass, name, fmt.Sprintf("%d entries (%d expired), root %s, all verified against %d checkpoints", r.Entries, r.Expired, r.Root, r.Checkpoints)}}
	for i, fault := range r.Faults {
		lines[0].Verdict, lines[0].Found = Fail, fmt.Sprintf("%d entries, %d faults", r.Entries, len(r.Faults))
		if i < mostFaults {
			lines = append(lines, Line{Fail, name, fault.String()})
		}
	}
	if r.Entries == 0 && len(r.Faults) == 0 && len(l.Report.Logs) > 1 {
		return []Line{{Note, fmt.Sprintf("audit log %s", r.LogInfo), "nothing was written to it"}}
	}
	return append(lines, freshness(now, l, r), Line{Note, "open intents", fmt.Sprintf("%d, under way or ended by a crash; nothing of them was released", len(r.Open))})
}

// freshness is the age of a log's last checkpoint. One that is old is stale only if there are
// entries behind it, and somebody writes the log: whoever takes it next signs them.
func freshness(now time.Time, l Log, r audit.LogReport) Line {
	signed := l.Signed[r.Number]
	line := Line{Pass, "last checkpoint", fmt.Sprintf("covers %d of %d entries, made %s, %v ago",
		r.Covered, r.Entries, signed.UTC().Format(time.RFC3339), now.Sub(signed).Round(time.Second))}
	switch {
	case r.Tail() && signed.IsZero():
		line.Found = "there is none; nobody writes this log, and whoever takes it next signs all of it"
	case r.Tail():
		line.Found += "; nobody writes this log, and whoever takes it next signs the rest"
	case signed.IsZero():
		line.Verdict, line.Found = Fail, "there is none"
	case r.Covered < r.Entries && now.Sub(signed) > l.MaxUnsigned:
		line.Verdict = Fail
		line.Found += fmt.Sprintf(": STALE, entries after it may wait %v at most", l.MaxUnsigned)
	}
	return line
}

// ofAnchor is the newest that was kept of one log. Whether it agrees with the log the
// verification says.
func ofAnchor(l Log, at Kept) Line {
	c := l.Anchored[at]
	line := Line{Pass, "anchor " + at.Where, fmt.Sprintf("its last checkpoint covers %d entries, made %s", c.Size, c.At.UTC().Format(time.RFC3339))}
	if len(l.Report.Logs) > 1 {
		line.Found = "of " + at.Origin + ": " + line.Found
	}
	i := slices.IndexFunc(l.Report.Logs, func(r audit.LogReport) bool { return r.Report.Origin == at.Origin })
	if i < 0 {
		return line
	}
	r := l.Report.Logs[i]
	if signed := l.Signed[r.Number]; c.Size < r.Covered && signed.Sub(c.At) > l.MaxUnsigned {
		line.Verdict = Fail
		line.Found += fmt.Sprintf(": STALE, the log's last covers %d, made %s", r.Covered, signed.UTC().Format(time.RFC3339))
	}
	return line
}

// anchors is what was kept elsewhere.
func anchors(f Facts) []Line {
	var lines []Line
	for _, where := range f.Log.Missing {
		lines = append(lines, Line{Fail, "anchor " + where, "not read: it is configured, and there is no such file"})
	}
	for _, at := range slices.SortedFunc(maps.Keys(f.Log.Anchored), func(a, b Kept) int {
		return cmp.Or(cmp.Compare(a.Where, b.Where), cmp.Compare(a.Origin, b.Origin))
	}) {
		lines = append(lines, ofAnchor(f.Log, at))
	}
	if f.Service != nil {
		for _, a := range f.Service.Anchors {
			l := Line{Pass, "anchor " + a.Name, fmt.Sprintf("the running service says that it took %d entries", a.Size)}
			switch {
			case a.Failing:
				l.Verdict, l.Found = Fail, l.Found+", and takes no more at the moment"
			case a.Size == 0:
				l.Verdict = NotSupported
			}
			lines = append(lines, l)
		}
	}
	switch {
	case len(lines) > 0:
	case f.Log.Configured > 0:
		lines = append(lines, Line{NotSupported, "anchors", fmt.Sprintf("%d are configured, and nothing of what they kept was given (--anchor) or is in a file here", f.Log.Configured)})
	case f.Production:
		lines = append(lines, Line{Fail, "anchors", "none: a database that was put back as a whole would look the same"})
	default:
		lines = append(lines, Line{NotSupported, "anchors", "none is configured; production needs one on another host"})
	}
	return append(lines, Line{Note, "anchors on other hosts", fmt.Sprintf("%d of %d configured", f.Log.OffHost, f.Log.Configured)})
}
