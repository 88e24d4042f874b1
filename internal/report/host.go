package report

import (
	"fmt"
	"slices"
)

// a12: card numbers, host, TLS, build.
func a12(f Facts) []Line {
	var lines []Line
	for _, s := range f.Scans {
		lines = append(lines, scanned(s))
	}
	if !slices.ContainsFunc(f.Scans, func(s Scan) bool { return s.Log }) {
		lines = append(lines, Line{NotSupported, "card numbers in logs", "no log was given to be searched (--log)"})
	}
	process, host, build := "the process that made this report", f.Host, f.Build
	if f.Service != nil {
		process, host, build = "running service", f.Service.Host, f.Service.Build
	} else {
		lines = append(lines, Line{Note, "running service", "not asked: " + f.ServiceErr})
	}
	lines = append(lines, memory(process, host)...)
	for _, l := range f.Listeners {
		lines = append(lines, listener(l))
	}
	return append(lines, provenance(f, process, build)...)
}

func scanned(s Scan) Line {
	l := Line{Pass, "card numbers in " + s.Place, fmt.Sprintf("none in %d bytes", s.Bytes)}
	switch {
	case s.Err != "":
		l.Verdict, l.Found = Fail, "not read: "+s.Err
	case len(s.Hits) > 0:
		const most = 5
		l.Verdict, l.Found = Fail, fmt.Sprintf("%d places, the first: %v", len(s.Hits), s.Hits[:min(most, len(s.Hits))])
	}
	return l
}

// memory is what keeps a process's memory to itself.
func memory(process string, h Host) []Line {
	core := Line{Pass, process + ": core files", "off (RLIMIT_CORE " + h.CoreLimit + ")"}
	if !h.CoreOff {
		core.Verdict, core.Found = Fail, "on (RLIMIT_CORE "+h.CoreLimit+")"
	}
	dump := Line{Pass, process + ": other processes of its user", "cannot read its memory (PR_SET_DUMPABLE 0)"}
	if h.Dumpable {
		dump.Verdict, dump.Found = Fail, "can read its memory (PR_GET_DUMPABLE is not 0)"
	}
	swap := Line{Pass, process + ": swap", h.Memory}
	if !h.Locked && h.Swap {
		swap.Verdict = Fail
	}
	erase := Line{Pass, process + ": copies of single-use keys in its memory", "overwritten by " + h.Erasure}
	if h.Erasure == "none" {
		erase.Verdict, erase.Found = NotSupported, "our buffers are; what Go copied is not: built without GOEXPERIMENT=runtimesecret"
	}
	clock := Line{Pass, "clock", h.Clock}
	switch {
	case h.ClockUnknown:
		clock.Verdict = NotSupported
	case !h.ClockInStep:
		clock.Verdict = NotSupported // a container's host may keep it without telling
		clock.Found += ": the kernel does not say that anything keeps it in step"
	}
	return []Line{core, dump, swap, erase, clock}
}

func listener(l Listener) Line {
	line := Line{Pass, "listener " + l.Name + " " + l.Address, l.Policy}
	switch {
	case !l.TLS && l.Loopback:
		line.Found = "plain HTTP, reachable from this host alone"
	case !l.TLS:
		line.Verdict, line.Found = Fail, "plain HTTP, reachable from other hosts"
	case l.Weak != "":
		line.Verdict, line.Found = Fail, l.Policy+": "+l.Weak
	}
	return line
}

// provenance is what the program was made from.
func provenance(f Facts, process string, b Build) []Line {
	from := Line{Pass, process + ": source", fmt.Sprintf("version %s, revision %s, %s", b.Version, b.Revision, b.Go)}
	switch {
	case b.Revision == "":
		from.Verdict, from.Found = NotSupported, fmt.Sprintf("version %s, %s: the build does not say of which revision", b.Version, b.Go)
	case b.Modified:
		from.Verdict = NotSupported
		from.Found += ", with local changes"
	}
	if f.Production && from.Verdict != Pass {
		from.Verdict = Fail
	}
	bill := Line{Pass, process + ": software", fmt.Sprintf("%d modules, SHA-256 of their list %s; SHA-256 of the executable %s", b.Modules, b.ModulesSHA256, b.ExecutableSHA256)}
	if b.ModulesSHA256 == "" || b.ExecutableSHA256 == "" {
		bill.Verdict, bill.Found = NotSupported, "the build holds no list of modules"
	}
	lines := []Line{from, bill}
	if f.Service != nil && f.Service.Build.ExecutableSHA256 != f.Build.ExecutableSHA256 {
		lines = append(lines, Line{Note, "the process that made this report", "is another executable: " + f.Build.ExecutableSHA256})
	}
	return lines
}
