package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/report"
)

// harden keeps the process's memory, which holds the PIN at login and card data during
// calls, out of core files, away from other processes of the same user, and, where that is
// allowed, out of swap. What is in force hostState says.
func harden() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
		lockMemory(),
	)
}

// locking is what became of lockMemory.
var locking struct {
	sync.Mutex
	locked bool
	why    string // it is not
}

// lockMemory keeps all memory, also that to come, out of swap as it is touched. It does not try
// under a limit: memory to come would be refused when the limit is reached, which ends a Go
// process. Not being allowed to is no error.
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("read RLIMIT_MEMLOCK: %w", err)
	}
	locking.Lock()
	defer locking.Unlock()
	if limit.Cur != unix.RLIM_INFINITY && !mayLockMemory() {
		locking.why = "RLIMIT_MEMLOCK is " + limitText(limit.Cur) + ", and it must be unlimited"
		return nil
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		locking.why = "mlockall: " + err.Error()
		return nil
	}
	locking.locked, locking.why = true, ""
	return nil
}

// mayLockMemory reports whether the process has CAP_IPC_LOCK, which knows no limit.
func mayLockMemory() bool {
	effective, err := strconv.ParseUint(procStatus("CapEff"), 16, 64)
	return err == nil && effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// procStatus is a field of /proc/self/status; empty where it cannot be read.
func procStatus(field string) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func limitText(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprintf("%d bytes", n)
}

// hostState reads what is in force of harden, and the clock.
func hostState() report.Host {
	h := report.Host{System: systemName(), CoreLimit: "unknown", Dumpable: true, Erasure: hsm.MemoryErasure}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err == nil {
		h.CoreLimit, h.CoreOff = limitText(core.Cur), core.Cur == 0
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil {
		h.Dumpable = dumpable != 0
	}
	swaps, err := os.ReadFile("/proc/swaps")
	h.Swap = err != nil || strings.Count(strings.TrimSpace(string(swaps)), "\n") > 0 // a line a device, below a heading
	locking.Lock()
	defer locking.Unlock()
	h.Locked = locking.locked
	switch {
	case h.Locked:
		h.Memory = "memory is locked (mlockall)"
	case h.Swap:
		h.Memory = "memory can be swapped: " + locking.why
	default:
		h.Memory = "the host has no swap; memory is not locked: " + locking.why
	}
	h.Clock, h.ClockInStep, h.ClockUnknown = clockState()
	return h
}

func systemName() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "Linux"
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
}

// clockState reads the clock's source, and whether the kernel takes it for kept in step (by
// chrony, systemd-timesyncd, ntpd), as adjtimex(2) has it.
func clockState() (text string, inStep, unknown bool) {
	source, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	text = "source " + strings.TrimSpace(string(source))
	if err != nil {
		text = "source unknown"
	}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return text + ", state unknown", false, true
	}
	inStep = state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
	if inStep {
		return fmt.Sprintf("%s, kept in step, estimated error %d µs", text, t.Esterror), true, false
	}
	return text + ", not kept in step", false, false
}
