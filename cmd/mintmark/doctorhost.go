package main

import "github.com/mintmark/mintmark/internal/report"

// hostFindings says what is in force here of what keeps a process's memory to itself, and how
// the clock is. Only what this program sets by itself can be a fault: the rest is the host's.
func hostFindings(h report.Host, hardened error) []finding {
	var d diagnosis
	d.add(h.CoreOff, "core files", found(hardened, "RLIMIT_CORE "+h.CoreLimit), "A limit of the service manager's is in the way; set LimitCORE=0.")
	dump := "cannot read its memory (PR_SET_DUMPABLE 0)"
	if h.Dumpable {
		dump = "can read its memory"
	}
	d.add(!h.Dumpable, "other processes of this user", dump, "It runs where prctl is refused; look at the container's seccomp profile.")
	d.add(true, "swap", h.Memory, "")
	d.add(true, "clock", h.Clock, "")
	return d.Findings
}
