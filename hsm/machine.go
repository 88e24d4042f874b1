package hsm

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// machine brings a module and its members back. There is one a module, since the
// recovery domain of PKCS#11 is the module.
//
//	READY     trouble on any member -> DRAINING
//	DRAINING  no new work; calls under way come back -> REINIT; they do not -> WEDGED
//	REINIT    finalize, and each member by itself: initialize, log in, prove keys,
//	          known answers -> READY; refused PIN -> REFUSED; else again, after back-off
//	WEDGED    the process is asked to end
//	REFUSED   until the PIN file is another one -> REINIT
//
// Lost sessions and logins do not come here: Token.refresh opens a new epoch beside the
// old one, without finalizing, and only if that fails is it trouble.
type machine struct {
	mod *module

	// op is held by whoever connects or disconnects: the machine, a refresh, a Close.
	op chan struct{}
	// kick tells the machine to look.
	kick chan struct{}

	mu      sync.Mutex
	members []*Token // guarded by mu
	broken  error    // why the module must be finalized; guarded by mu
	running bool     // whether the goroutine runs; guarded by mu

	gone chan struct{} // closed when the module is wedged
}

const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 5 * time.Second
	// pinFileEvery is how often a refused PIN file is looked at.
	pinFileEvery = 250 * time.Millisecond
)

func newMachine(mod *module) *machine {
	return &machine{mod: mod, op: make(chan struct{}, 1), kick: make(chan struct{}, 1), gone: make(chan struct{})}
}

// add puts a member under the machine's care.
func (m *machine) add(t *Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = append(m.members, t)
	if !m.running {
		m.running = true
		go m.run()
	}
	m.look()
}

// remove takes a member out. The machine ends with the last one, whose Close finalizes the
// module: what was wrong with it is no matter of the next one's.
func (m *machine) remove(t *Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.members {
		if m.members[i] == t {
			m.members = append(m.members[:i], m.members[i+1:]...)
			break
		}
	}
	if len(m.members) == 0 {
		m.broken = nil
	}
	m.look()
}

func (m *machine) look() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// trouble says that the module's device is lost. It returns at once; from then on every
// member's work fails at once. Where there is no member it comes late, from one that was closed.
func (m *machine) trouble(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil || len(m.members) == 0 {
		return
	}
	m.broken = cause
	for _, t := range m.members {
		if t.status.Load().State == Ready {
			t.enter(Draining, cause)
		}
	}
	m.look()
}

// run is the machine's goroutine.
func (m *machine) run() {
	failures := 0
	var opened time.Time // when it last opened, or could not
	for {
		select {
		case <-m.kick:
		case <-m.next(failures):
		}
		m.mu.Lock()
		if len(m.members) == 0 {
			m.running = false
			m.mu.Unlock()
			return
		}
		members, broken := slices.Clone(m.members), m.broken
		m.mu.Unlock()
		if broken != nil {
			if !m.finalize(members, broken) {
				return // wedged: nothing more can be done in this process
			}
			// A module that opens well and fails at work is not opened at the rate of requests.
			if time.Since(opened) > backoffLast {
				failures = 0
			} else {
				failures++
				time.Sleep(backoff(failures))
			}
		}
		well := m.reopen()
		select {
		case <-m.gone:
			return
		default:
		}
		if opened = time.Now(); !well {
			failures++
		}
	}
}

// next fires when it is time for the next look; never, if all is well.
func (m *machine) next(failures int) <-chan time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return time.After(0)
	}
	var again <-chan time.Time
	for _, t := range m.members {
		if t.closed.Load() {
			continue
		}
		switch t.status.Load().State {
		case Ready:
		case Refused:
			again = time.After(pinFileEvery)
		default:
			return time.After(backoff(failures))
		}
	}
	return again
}

// backoff doubles from backoffFirst to backoffLast, with jitter of a half.
func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	d := backoffLast
	if failures < 6 {
		d = min(backoffLast, backoffFirst<<(failures-1))
	}
	return d/2 + rand.N(d/2+1)
}

func (m *machine) snapshot() []*Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.members)
}

// finalize drains the members, one at least, and finalizes the module; cause is why. It
// reports false when it cannot: then the module is wedged.
func (m *machine) finalize(members []*Token, cause error) bool {
	// Whoever holds op, and every call under way, is given its own time before it counts
	// as one that does not come back.
	var begin, call time.Duration
	for _, t := range members {
		if t.status.Load().State == Ready { // became ready while the trouble began
			t.enter(Draining, cause)
		}
		begin = max(begin, t.cfg.beginTimeout(t.wanted.Load())+t.cfg.DrainTimeout)
		call = max(call, t.cfg.CallTimeout+t.cfg.DrainTimeout)
		if t.cfg.expendable {
			call = t.cfg.DrainTimeout // what is lost with the process is asked for again
		}
	}
	opened, drained, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		m.op <- struct{}{}
		close(opened)
		m.drainAndFinalize(members, drained)
		<-m.op
		close(done)
	}()
	for _, step := range []struct {
		over  <-chan struct{}
		limit time.Duration
	}{{opened, begin}, {drained, call}, {done, begin}} {
		select {
		case <-step.over:
		case <-time.After(step.limit):
			m.wedge()
			return false
		}
	}
	m.mu.Lock()
	m.broken = nil
	m.mu.Unlock()
	return true
}

func (m *machine) cause() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}

// drainAndFinalize waits as long as it takes: who called it gives up, not it.
// It closes drained when no call is under way any more.
func (m *machine) drainAndFinalize(members []*Token, drained chan<- struct{}) {
	for _, t := range members {
		release, err := t.drain(context.Background())
		if err != nil { // a context that does not end gives none
			return
		}
		defer release()
	}
	close(drained)
	for _, t := range members {
		t.gate.Lock()
		if e := t.current.Swap(nil); e != nil {
			e.retire()
		}
		t.gate.Unlock()
		if s := t.status.Load(); s.State != Refused {
			t.enter(Reinit, errors.New(s.Cause))
		}
	}
}

// wedge gives the module up: a call does not come back, and nothing in this process can
// make it.
func (m *machine) wedge() {
	members := m.snapshot()
	for _, t := range members {
		t.enter(Wedged, errors.New("a call does not come back"))
		t.triedOnce.Do(func() { close(t.tried) })
	}
	close(m.gone) // once: the machine's goroutine ends with it
	for _, t := range members {
		if t.cfg.OnWedged != nil {
			t.cfg.OnWedged(t.cfg.Name)
		}
	}
}

// reopen tries to begin an epoch on each member that has none, and reports whether all
// that can be tried are ready.
func (m *machine) reopen() bool {
	well := true
	for _, t := range m.snapshot() {
		s := t.status.Load()
		if t.closed.Load() || s.State == Ready || (s.State == Refused && t.guard().unchanged(t.cfg.PINFile)) {
			continue
		}
		limit := t.cfg.beginTimeout(t.wanted.Load()) + t.cfg.DrainTimeout
		select {
		case m.op <- struct{}{}:
		case <-time.After(2 * limit): // whoever holds it does not come back
			m.wedge()
			return false
		}
		done := make(chan error, 1)
		go func() {
			defer func() { <-m.op }()
			done <- t.reopen()
		}()
		select {
		case err := <-done:
			well = well && err == nil
		case <-time.After(limit):
			m.wedge()
			return false
		}
	}
	return well
}
