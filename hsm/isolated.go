package hsm

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// isolated is a member whose module is loaded in a child process of its own.
//
// The child is a member as any other, with its epochs, its sessions and its recovery; this
// end knows no more of it than what it tells: its state, its keys, and its answers. What a
// member can do for itself the child does. What it cannot, a call that does not come back
// and a crash, is cured here: the child is killed and another one is started. Whoever waited
// for it is let go at once, with an error after which another member is asked.
type isolated struct {
	condition
	lanes // the same as the child's, so that nothing waits there
	provedKeys
	useCounts

	cfg Config

	// current is the child that serves; nil before the first, lost ones included.
	current atomic.Pointer[process]
	// keys are what the child's epoch has; nil while it has none.
	keys atomic.Pointer[heldKeys]
	// loaded says whether the child has loaded the library.
	loaded atomic.Bool

	mu      sync.Mutex
	counted Stats  // of children that have ended; guarded by mu
	now     vitals // of the current child; guarded by mu
	wrong   error  // why it cannot ever work; guarded by mu
	// rings are keyrings by the numbers that a child may still name; guarded by mu, as lastRing.
	rings    map[uint64]*Keyring
	lastRing uint64

	wanted   atomic.Pointer[Keyring] // what children begin with; its number is lastRing
	starting sync.Mutex              // held while a child is told what it begins with

	tried     chan struct{} // closed when a child has tried to open the token, or was lost
	triedOnce sync.Once
}

func newIsolated(cfg Config) *isolated {
	m := &isolated{cfg: cfg, lanes: newLanes(cfg), tried: make(chan struct{}), rings: map[uint64]*Keyring{}}
	m.describe(cfg)
	m.want(cfg.Keyring)
	return m
}

func (m *isolated) launch(alive context.Context, running *sync.WaitGroup) {
	running.Go(func() { m.supervise(alive) })
}

func (m *isolated) firstTry() <-chan struct{} { return m.tried }

func (m *isolated) unfit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wrong
}

func (m *isolated) callTimeout() time.Duration { return m.cfg.CallTimeout }

// tryOver says that there is no first attempt to wait for any more.
func (m *isolated) tryOver() { m.triedOnce.Do(func() { close(m.tried) }) }

// goneWithin is how long a killed process is awaited. One that the kernel holds in a driver's
// call goes when that comes back.
const goneWithin = 5 * time.Second

// supervise has a child run until the member is closed. One that has just been started and
// ends again is followed by the next after a back-off, as a module that does not open is.
func (m *isolated) supervise(alive context.Context) {
	for failures := 0; ; {
		began := time.Now()
		p, err := m.startProcess()
		if err == nil {
			m.attend(p)
			select {
			case <-p.ended:
			case <-time.After(goneWithin):
			}
			select {
			case <-p.ended: // which counts, also where both came while this process stood still
				m.log.Log(context.Background(), m.endLevel(), "process of HSM member has ended", "pid", p.cmd.Process.Pid, "how", p.cmd.ProcessState.String())
			default:
				m.log.Error("process of HSM member does not end", "pid", p.cmd.Process.Pid)
			}
		} else {
			m.enter(Reinit, err)
		}
		m.tryOver()
		if m.closed.Load() {
			return
		}
		if failures++; time.Since(began) > backoffLast {
			failures = 0
		}
		select {
		case <-time.After(backoff(failures)):
		case <-alive.Done():
			return
		}
	}
}

// endLevel is at which level the end of a process is said: nobody needs to know of one that was
// asked for.
func (m *isolated) endLevel() slog.Level {
	if m.closed.Load() {
		return slog.LevelDebug
	}
	return slog.LevelError
}

// startProcess starts a child and tells it what it is for.
func (m *isolated) startProcess() (*process, error) {
	conn, cmd, ended, err := startMember(m.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("start the module's process: %w", err)
	}
	p := &process{link: newLink(conn), cmd: cmd, ended: ended, owner: m}
	m.starting.Lock()
	defer m.starting.Unlock()
	p.begin()
	stuck := time.AfterFunc(m.cfg.beginTimeout(m.wanted.Load()), func() { p.lose(errProcessStuck) }) // it reads nothing
	defer stuck.Stop()
	hello, err := json.Marshal(settingsFor(m.cfg, m.wantedSettings()))
	if err == nil {
		err = p.send(p.gone, message{kind: kindHello, fields: [][]byte{hello}})
	}
	if err != nil {
		p.lose(err)
	}
	// In this order: a call that the last child was to do must not come before the
	// configuration, and nobody may hear of a child that is ready and is not there.
	m.current.Store(p)
	go p.read()
	if m.closed.Load() { // Close has seen no process, or the one before
		p.lose(ErrClosed)
	}
	return p, nil
}

// silentAtLeast is how long a child is given to say that it lives, at least: whatever the
// timeouts are, it has to be scheduled.
const silentAtLeast = 2 * time.Second

// attend returns when the child is lost. One that does not answer, for as long as a call of
// its module may take, is; the first answer may take as long as the opening of a token.
func (m *isolated) attend(p *process) {
	defer func() { <-p.gone.Done() }() // what is to be known of it is, before the next one is heard of
	usual := max(silentAtLeast, m.cfg.CallTimeout+m.cfg.DrainTimeout)
	tick := time.NewTicker(usual / 4)
	defer tick.Stop()
	limit := m.cfg.beginTimeout(m.wanted.Load())
	// Some libraries do not come back from being loaded.
	loading := time.AfterFunc(m.cfg.beginTimeout(m.wanted.Load()), func() {
		if !m.loaded.Load() {
			p.lose(errProcessStuck)
		}
	})
	defer loading.Stop()
	for {
		ctx, cancel := context.WithTimeout(p.gone, limit)
		_, _, err := p.exchange(ctx, request{op: opBeat}, func() {})
		cancel()
		if err != nil {
			p.lose(errProcessStuck)
			return
		}
		limit = usual
		select {
		case <-tick.C:
		case <-p.gone.Done():
			return
		}
	}
}

// Restart kills the child; another one is started.
func (m *isolated) Restart(cause error) {
	if p := m.current.Load(); p != nil {
		p.lose(cause)
	}
}

// lost takes note that the child is of no more use. It is called before anybody who waits for
// it is let go.
func (m *isolated) lost(cause error) {
	if !m.closed.Load() {
		m.enter(Reinit, cause)
	}
	m.keys.Store(nil)
	m.loaded.Store(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counted.EphemeralCreated += uint64(m.now.created)
	m.counted.EphemeralDestroyed += uint64(m.now.created) // the rest went with its sessions
	m.now = vitals{}
}

// alive takes note of a child's counts. Answers may overtake each other.
func (m *isolated) alive(v vitals) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.created = max(m.now.created, v.created)
	m.now.destroyed = max(m.now.destroyed, v.destroyed)
	if v.signed > m.signed.Load() {
		m.signed.Store(v.signed)
	}
}

// Stats gives the counts of all children so far.
func (m *isolated) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.counted
	s.EphemeralCreated += uint64(m.now.created)
	s.EphemeralDestroyed += uint64(m.now.destroyed)
	return s
}

// told takes note of what the child says has happened. Its error is a reason to kill it.
func (m *isolated) told(e event) error {
	switch {
	case e.Loaded:
		m.loaded.Store(true)
	case e.State != nil:
		return m.follow(*e.State)
	case e.Keys != nil:
		return m.found(*e.Keys)
	case e.Tried:
		m.tryOver()
	case e.Unfit != "":
		m.mu.Lock()
		m.wrong = errors.New(e.Unfit)
		m.mu.Unlock()
		return m.wrong
	case e.Log != nil:
		m.cfg.Log.Log(context.Background(), e.Log.Level, e.Log.Message, e.Log.Attrs...)
	case e.Call != nil && m.observer != nil:
		m.observer.TokenCall(e.Call.Op, e.Call.Lane, e.Call.Queued, e.Call.InUnit, e.Call.Outcome)
	}
	return nil
}

// errWedged is why a child is killed whose module hangs for good.
var errWedged = errors.New("a call does not come back; the module's process is ended")

// follow enters the state that the child is in. Where only a new process helps, there is one.
func (m *isolated) follow(s Status) error {
	if s.State == Wedged {
		return errWedged
	}
	if s.State != Ready && s.State != Draining {
		m.keys.Store(nil)
	}
	var cause error
	if s.Cause != "" {
		cause = errors.New(s.Cause)
	}
	m.enter(s.State, cause)
	return nil
}

// keys are the keys as an epoch of this process would have them. What the child calls public
// must answer to the pin here as well.
func (f keysFound) keys(ring *Keyring, member string) tokenKeys {
	found := tokenKeys{}
	for _, k := range f.Keys {
		listed, ok := ring.Find(k.Name)
		if !ok {
			continue
		}
		one := &tokenKey{Key: listed, problem: k.Problem}
		if len(k.Public) != 0 {
			pub, err := x509.ParsePKIXPublicKey(k.Public)
			if err == nil {
				one.pub = pub
			}
			if pin, err := spkiPin(pub); (err != nil || pin != listed.Pins[member]) && (k.Problem == "" || k.Problem == KeyRetired) {
				one.problem = KeyLost
			}
		}
		found[k.Name] = one
	}
	return found
}

// Close has the child finish what is under way, log out and finalize its module, and ends
// it. If the context ends first it is ended all the same: what hangs in it concerns nobody
// else.
func (m *isolated) Close(ctx context.Context) error {
	if m.closed.Swap(true) {
		return nil
	}
	m.status.Load().end()
	m.tryOver()
	p := m.current.Load()
	if p == nil {
		return nil
	}
	if _, _, err := p.exchange(ctx, request{op: opClose}, func() {}); err != nil && p.gone.Err() == nil {
		m.log.Warn("HSM member not closed in order", "error", err)
	}
	p.lose(ErrClosed)
	return nil
}

// usable gives the key called name as the child's epoch has it.
func (m *isolated) usable(name string, inactive bool) (*tokenKey, error) {
	keys := m.keys.Load()
	if keys == nil {
		return nil, m.down()
	}
	return keys.usable(name, inactive)
}

// Keys gives the state of every key of the keyring, in its order.
func (m *isolated) Keys() []KeyStatus {
	if held := m.keys.Load(); held != nil {
		return held.ring.statuses(held.tokenKeys)
	}
	return m.wanted.Load().statuses(nil)
}

// Active gives the key that new work of a purpose uses.
func (m *isolated) Active(p Purpose) (Key, error) { return m.keyring().activeOf(p, m.usable) }

// Key gives the key called name if it may be used.
func (m *isolated) Key(name string) (Key, error) {
	k, err := m.usable(name, true)
	if err != nil {
		return Key{}, err
	}
	return k.Key, nil
}

// Public gives the pinned public key of the key called name.
func (m *isolated) Public(name string) (crypto.PublicKey, error) {
	k, err := m.usable(name, true)
	if err != nil {
		return nil, err
	}
	return k.public()
}

// Signer gives the active key called name as a crypto.Signer.
func (m *isolated) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	return memberSigner(ctx, m, name)
}
