package faultmodule

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// The control file is a struct control that the processes concerned map. faultmodule.c
// declares the same struct and refuses a file that differs in magic, size or function
// names. Everything is a word, so that neither compiler has room to differ in.
const (
	controlMagic = 0x314c5541464d4d31
	maxRules     = 4096
	anyFunction  = ^uint64(0)
	forever      = ^uint64(0)
)

type control struct {
	magic, size        atomic.Uint64
	ruleLow, ruleCount atomic.Uint64

	dropSessions, logout, finalize atomic.Uint64

	objectsCreated, objectsDestroyed atomic.Uint64
	sessionsOpened, sessionsClosed   atomic.Uint64
	injected                         atomic.Uint64
	finalizedInFlight                atomic.Uint64

	function [len(functions)]struct {
		name            [32]byte
		calls, failures atomic.Uint64
	}
	rule [maxRules]ruleWords
}

// ruleWords is a Rule in the control file. A place is used once, so that a call that
// is held by a rule never finds another rule there.
type ruleWords struct {
	id, function, flags, rv atomic.Uint64
	delay, after, times     atomic.Uint64
	seen, fired             atomic.Uint64
}

// createControl makes a control file and maps it. It stays mapped until the process
// ends: the module, if this process loads it, does not let go of it either.
func createControl(path string) (*control, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = int(unsafe.Sizeof(control{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	ctl := (*control)(unsafe.Pointer(unsafe.SliceData(mem)))
	for i, name := range functions {
		copy(ctl.function[i].name[:], name)
	}
	ctl.magic.Store(controlMagic)
	ctl.size.Store(uint64(size))
	return ctl, nil
}

// Totals are the counters that belong to no single function.
type Totals struct {
	ObjectsCreated, ObjectsDestroyed uint64
	SessionsOpened, SessionsClosed   uint64
	// Injected is the number of times a rule acted upon a call.
	Injected uint64
	// FinalizedInFlight is the number of C_Finalize calls that came while another call
	// was under way: each may be a crash with a real module.
	FinalizedInFlight uint64
}

// Totals returns the counters as they stand.
func (m *Module) Totals() Totals {
	return Totals{
		ObjectsCreated:    m.ctl.objectsCreated.Load(),
		ObjectsDestroyed:  m.ctl.objectsDestroyed.Load(),
		SessionsOpened:    m.ctl.sessionsOpened.Load(),
		SessionsClosed:    m.ctl.sessionsClosed.Load(),
		Injected:          m.ctl.injected.Load(),
		FinalizedInFlight: m.ctl.finalizedInFlight.Load(),
	}
}

// Counts returns the number of calls of each function that was called.
func (m *Module) Counts() map[string]uint64 {
	counts := make(map[string]uint64)
	for i, name := range functions {
		if n := m.ctl.function[i].calls.Load(); n > 0 {
			counts[name] = n
		}
	}
	return counts
}

// Failures returns the number of calls of each function that did not return CKR_OK to
// their caller.
func (m *Module) Failures() map[string]uint64 {
	failures := make(map[string]uint64)
	for i, name := range functions {
		if n := m.ctl.function[i].failures.Load(); n > 0 {
			failures[name] = n
		}
	}
	return failures
}

// Reset sets all counters to zero. Rules stay in force.
func (m *Module) Reset() {
	for i := range functions {
		m.ctl.function[i].calls.Store(0)
		m.ctl.function[i].failures.Store(0)
	}
	for _, counter := range []*atomic.Uint64{
		&m.ctl.objectsCreated, &m.ctl.objectsDestroyed,
		&m.ctl.sessionsOpened, &m.ctl.sessionsClosed,
		&m.ctl.injected, &m.ctl.finalizedInFlight,
	} {
		counter.Store(0)
	}
}
