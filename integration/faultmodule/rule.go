package faultmodule

import (
	"slices"
	"time"
)

// Forever is the number of calls for a rule that acts until it is cleared.
const Forever = -1

// Rule says what happens to some calls of a function. Several rules may act upon one
// call, in the order they were injected; the first that has an RV ends it.
type Rule struct {
	// Function is a name such as "C_Sign", or empty for any. C_GetFunctionList is
	// counted but never acted upon.
	Function string
	// After is the number of calls to let pass first.
	After int
	// Times is the number of calls to act upon then: 0 means 1.
	Times int

	// Delay holds each call for so long, at most until the rule is cleared.
	Delay time.Duration
	// Hang holds each call until the rule is cleared.
	Hang bool
	// RV, if not CKR_OK, is what the caller gets, after Delay or Hang if there are any.
	RV uint
	// Forward has the real module do the work before the caller gets RV: a device that
	// did what it was told and could not say so.
	Forward bool
	// LeaveActive does not end the operation that a call with an RV belongs to.
	LeaveActive bool
	// Corrupt changes the last bit of what the call returns: a wrong signature,
	// ciphertext, plaintext, digest or wrapped key.
	Corrupt bool
	// Crash has the call write where nothing is, after Delay or Hang if there are any: the
	// process that has loaded the module ends of SIGSEGV.
	Crash bool
}

// Flags as faultmodule.c numbers them.
const (
	flagAnswers = 1 << iota
	flagHangs
	flagForwards
	flagLeavesActive
	flagCorrupts
	flagCrashes
)

func (r Rule) flags() (flags uint64) {
	for flag, set := range map[uint64]bool{
		flagAnswers:      r.RV != 0,
		flagHangs:        r.Hang,
		flagForwards:     r.Forward,
		flagLeavesActive: r.LeaveActive,
		flagCorrupts:     r.Corrupt,
		flagCrashes:      r.Crash,
	} {
		if set {
			flags |= flag
		}
	}
	return flags
}

// Injected is a rule in force.
type Injected struct {
	module *Module
	place  *ruleWords
}

// Inject puts a rule in force, for calls that begin from now on.
func (m *Module) Inject(r Rule) *Injected {
	m.t.Helper()
	function := uint64(anyFunction)
	if r.Function != "" {
		i := slices.Index(functions[:], r.Function)
		if i < 0 || r.Function == "C_GetFunctionList" {
			m.t.Fatalf("faultmodule: no rule can be about function %q", r.Function)
		}
		function = uint64(i)
	}
	if r.RV == 0 && r.Delay <= 0 && !r.Hang && !r.Corrupt && !r.Crash {
		m.t.Fatalf("faultmodule: a rule that does nothing: %+v", r)
	}
	times := uint64(max(r.Times, 1))
	if r.Times == Forever {
		times = forever
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.ctl.ruleCount.Load()
	if n == maxRules {
		m.t.Fatalf("faultmodule: a module takes %d rules in its life; use another", maxRules)
	}
	place := &m.ctl.rule[n]
	place.function.Store(function)
	place.flags.Store(r.flags())
	place.rv.Store(uint64(r.RV))
	place.delay.Store(uint64(max(r.Delay, 0)))
	place.after.Store(uint64(max(r.After, 0)))
	place.times.Store(times)
	place.id.Store(n + 1)
	m.ctl.ruleCount.Store(n + 1) // only now does the module look at it
	return &Injected{module: m, place: place}
}

// Delay holds the next calls of a function for d each.
func (m *Module) Delay(function string, d time.Duration, times int) *Injected {
	m.t.Helper()
	return m.Inject(Rule{Function: function, Delay: d, Times: times})
}

// Hang holds the next calls of a function until the rule is cleared.
func (m *Module) Hang(function string, times int) *Injected {
	m.t.Helper()
	return m.Inject(Rule{Function: function, Hang: true, Times: times})
}

// Clear ends all rules. Calls that one of them holds go on.
func (m *Module) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.ctl.ruleCount.Load()
	for i := m.ctl.ruleLow.Load(); i < n; i++ {
		m.ctl.rule[i].id.Store(0)
	}
	m.ctl.ruleLow.Store(n)
}

// Clear ends the rule. Calls that it holds go on: if it has an RV, with that.
func (i *Injected) Clear() { i.place.id.Store(0) }

// Fired returns the number of calls the rule acted upon so far, calls that it holds
// included.
func (i *Injected) Fired() uint64 { return i.place.fired.Load() }

// awaitLimit is far beyond what a call that is on its way needs, also on a machine that stands
// still for a while.
const awaitLimit = time.Minute

// Await returns when the rule has acted upon n calls, and fails the test if that takes
// more than a minute. With a rule that hangs it is how a test knows that a call is
// stuck. It must be called from the test's goroutine.
func (i *Injected) Await(n uint64) {
	i.module.t.Helper()
	deadline := time.Now().Add(awaitLimit)
	for i.Fired() < n {
		if time.Now().After(deadline) {
			i.module.t.Fatalf("faultmodule: the rule acted upon %d calls, not %d, in %v", i.Fired(), n, awaitLimit)
		}
		time.Sleep(time.Millisecond) // the other process has no way to wake us
	}
}
