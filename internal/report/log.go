package report

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// a11: the log.
func a11(f Facts) []Line {
	l := f.Log
	if l.Err != "" {
		return []Line{{Fail, "audit log", "not read: " + l.Err}}
	}
	r := l.Report
	whole := Line{Pass, "audit log " + r.Origin, fmt.Sprintf("%d entries (%d expired), root %s, all verified against %d checkpoints", r.Entries, r.Expired, r.Root, r.Checkpoints)}
	lines := []Line{whole}
	for i, fault := range r.Faults {
		lines[0].Verdict, lines[0].Found = Fail, fmt.Sprintf("%d entries, %d faults", r.Entries, len(r.Faults))
		if i < 20 {
			lines = append(lines, Line{Fail, "audit log", fault.String()})
		}
	}
	lines = append(lines, freshness(f.Now, l), Line{Note, "open intents", fmt.Sprintf("%d, under way or ended by a crash; nothing of them was released", len(r.Open))})
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

// freshness is the age of the last checkpoint. One that is old is stale only if there are
// entries behind it.
func freshness(now time.Time, l Log) Line {
	line := Line{Pass, "last checkpoint", fmt.Sprintf("covers %d of %d entries, made %s, %v ago",
		l.Report.Covered, l.Report.Entries, l.Signed.UTC().Format(time.RFC3339), now.Sub(l.Signed).Round(time.Second))}
	switch {
	case l.Signed.IsZero():
		line.Verdict, line.Found = Fail, "there is none"
	case l.Report.Covered < l.Report.Entries && now.Sub(l.Signed) > l.MaxUnsigned:
		line.Verdict = Fail
		line.Found += fmt.Sprintf(": STALE, entries after it may wait %v at most", l.MaxUnsigned)
	}
	return line
}

// anchors is what was kept elsewhere.
func anchors(f Facts) []Line {
	var lines []Line
	for _, where := range f.Log.Missing {
		lines = append(lines, Line{Fail, "anchor " + where, "not read: it is configured, and there is no such file"})
	}
	for _, where := range slices.Sorted(maps.Keys(f.Log.Anchored)) {
		c := f.Log.Anchored[where]
		l := Line{Pass, "anchor " + where, fmt.Sprintf("its last checkpoint covers %d entries, made %s", c.Size, c.At.UTC().Format(time.RFC3339))}
		// Whether it agrees with the log the verification says.
		if c.Size < f.Log.Report.Covered && f.Log.Signed.Sub(c.At) > f.Log.MaxUnsigned {
			l.Verdict = Fail
			l.Found += fmt.Sprintf(": STALE, the log's last covers %d, made %s", f.Log.Report.Covered, f.Log.Signed.UTC().Format(time.RFC3339))
		}
		lines = append(lines, l)
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
