//go:build !linux

package main

import (
	"runtime"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/report"
)

// harden does nothing here: the means are Linux's.
func harden() error { return nil }

// hostState says that nothing is in force.
func hostState() report.Host {
	return report.Host{
		System: runtime.GOOS, CoreLimit: "not read on " + runtime.GOOS, Dumpable: true, Swap: true,
		Memory: "not locked on " + runtime.GOOS, Erasure: hsm.MemoryErasure, Clock: "not read", ClockUnknown: true,
	}
}
