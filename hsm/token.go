package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/mintmark/mintmark/internal/secret"
)

// A Token is one PKCS#11 token with the keyring's keys on it: a member. It recovers by
// itself from what can be recovered from. Its methods are safe for concurrent use.
type Token struct {
	condition
	lanes
	provedKeys
	useCounts

	cfg Config
	mod *module

	// finished is set when the token is logged out.
	finished atomic.Bool
	// gate is held for reading by every unit of work, and for writing while one epoch
	// takes the place of another: no work ever sees handles of two.
	gate sync.RWMutex
	// current is the epoch in which every handle is valid; nil when there is none. It is
	// replaced whole, under gate.
	current atomic.Pointer[epoch]
	epochs  atomic.Uint64 // numbers given out
	// wanted is the keyring that the next epoch begins with.
	wanted atomic.Pointer[Keyring]

	// keysChanged is called when what is known of the keys has changed, unless it is nil.
	keysChanged func()

	told     map[string]KeyProblem // what report has said; owned as bestKDF
	unlisted int                   // likewise
	bestKDF  *kdfWay               // the best way it has proved; owned by the holder of the machine's op
	renewals []time.Time           // when the last epochs were renewed; owned by the holder of the machine's op

	tried     chan struct{} // closed when it has been opened, or could not be, once
	triedOnce sync.Once

	ephemeralCreated, ephemeralDestroyed atomic.Uint64
}

// Open loads the module, logs in, and checks every key of the keyring against its pin.
// A key that is missing or differs does not stop it; a token that cannot agree on a key
// by any known way does, since nothing could be sealed.
//
// Errors: ErrTokenNotFound, ErrLoginRefused, secret.ErrPINFile, or an *Error.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	t, err := newToken(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case t.mod.machine.op <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("open token %q: %w", cfg.Name, ctx.Err())
	}
	type begun struct {
		e   *epoch
		err error
	}
	done, left := make(chan begun), make(chan struct{})
	defer close(left)
	go func() {
		// The module is busy until it has answered, whoever still waits for it.
		defer func() { <-t.mod.machine.op }()
		e, err := t.begin()
		if err == nil && ctx.Err() != nil {
			e.retire()
			e, err = nil, ctx.Err()
		}
		select {
		case done <- begun{e, err}:
		case <-left:
			if e != nil {
				e.retire()
			}
		}
	}()
	var b begun
	select {
	case b = <-done:
	case <-ctx.Done():
		b.err = ctx.Err()
	case <-time.After(t.cfg.beginTimeout(t.wanted.Load())):
		b.err = errStuck
	}
	if b.err != nil {
		return nil, fmt.Errorf("open token %q: %w", cfg.Name, b.err)
	}
	t.install(b.e)
	t.mod.machine.add(t)
	return t, nil
}

// newToken makes a member that is not open yet.
func newToken(cfg Config) (*Token, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	cfg.defaults()
	mod, err := moduleFor(cfg.Module)
	if err != nil {
		return nil, fmt.Errorf("open token %q: %w", cfg.Name, err)
	}
	t := &Token{cfg: cfg, mod: mod, lanes: newLanes(cfg), tried: make(chan struct{})}
	t.describe(cfg)
	t.wanted.Store(cfg.Keyring)
	return t, nil
}

func (t *Token) guard() pinGuard { return pinGuard{dir: t.cfg.DataDir} }

var errBindingPanic = errors.New("panic in the PKCS#11 binding")

// begin makes an epoch: login, keys, self-test. The caller holds the machine's op.
func (t *Token) begin() (e *epoch, err error) {
	defer func() {
		if recover() != nil { // its value may hold what was being worked on
			err = errBindingPanic
			if e != nil {
				e.retire()
				e = nil
			}
		}
	}()
	l := login{
		label: t.cfg.TokenLabel, serial: t.cfg.TokenSerial, pool: t.pool(),
		// Reached only where the token allows fewer sessions than that, and then soon enough
		// for the call not to be taken for one that is stuck.
		poolWait: t.cfg.CallTimeout / 2,
	}
	var c11 *crypto11.Context
	var slot uint
	err = t.guard().attempt(t.cfg.PINFile, func(pin secret.PIN) (err error) {
		pin.Reveal(func(p []byte) { l.pin = string(p) })
		c11, slot, err = t.mod.connect(l)
		return err
	})
	if err != nil {
		if c11 != nil { // logged in, and what was to be remembered of it could not be
			err = errors.Join(err, t.mod.disconnect(c11))
		}
		return nil, err
	}
	e = &epoch{number: t.epochs.Add(1), token: t, slot: slot, ring: t.wanted.Load(), ctx: t.mod.ctx, sized: t.mod.sized, c11: c11, ro: newSessions(t.mod.ctx, slot, t.cfg.ECConcurrency)}
	if err := e.preparePatiently(); err != nil {
		e.retire()
		return nil, err
	}
	return e, nil
}

// use gives the current epoch for one unit of work; done gives it back.
func (t *Token) use() (*epoch, error) {
	t.gate.RLock()
	e := t.current.Load()
	if e == nil {
		t.gate.RUnlock()
		return nil, t.down()
	}
	return e, nil
}

func (t *Token) done() { t.gate.RUnlock() }

// report says once an epoch what was found, and of keys that cannot be used or are not
// listed what is new.
func (t *Token) report(e *epoch) {
	t.log.Info("token ready", "epoch", e.number, "kdf", e.kdf.way.String(), "keys", len(e.keys), "keyring", e.ring.Digest())
	told := map[string]KeyProblem{}
	for name, k := range e.keys {
		told[name] = k.problem
		expected := k.problem == "" || k.problem == KeyRetired || k.problem == KeyNotBound
		if !expected && k.problem != t.told[name] {
			t.log.Error("key unusable", "key", k.Name, "purpose", string(k.Purpose), "problem", string(k.problem))
		}
	}
	t.told = told
	if t.keysChanged != nil {
		t.keysChanged()
	}
	if n := len(e.unlisted); n != t.unlisted {
		t.unlisted = n
		t.log.Warn("keys on the token are not in the keyring and are not used; mintmark keys list shows them", "keys", n)
	}
}

// launch puts the member under its machine's care, which opens it.
func (t *Token) launch(alive context.Context, running *sync.WaitGroup) {
	t.mod.machine.add(t)
	running.Go(func() { t.keepAlive(alive) })
}

func (t *Token) firstTry() <-chan struct{} { return t.tried }

func (t *Token) unfit() error { return nil }

func (t *Token) callTimeout() time.Duration { return t.cfg.CallTimeout }

// Restart drains the module, finalizes it and opens it anew, with all members behind it; see
// Member.
func (t *Token) Restart(cause error) { t.mod.machine.trouble(cause) }

// Close waits until no call is in flight, logs out and finalizes the module if no
// other token uses it. If the context ends first nothing is finalized (C_Finalize
// under a running call ends the process) and the context's error is returned; Close may
// then be called again. Calls that have not begun when Close does get ErrClosed.
func (t *Token) Close(ctx context.Context) error {
	t.closed.Store(true)
	if t.finished.Load() {
		return nil
	}
	t.status.Load().end() // a call under way that would open anew gives up instead
	machine := t.mod.machine
	select {
	case machine.op <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("close token %q: the module is being opened: %w", t.cfg.Name, ctx.Err())
	}
	defer func() { <-machine.op }()
	release, err := t.drain(ctx)
	if err != nil {
		return fmt.Errorf("close token %q: calls still in flight: %w", t.cfg.Name, err)
	}
	defer release()            // who queued behind us finds the token closed
	if t.finished.Swap(true) { // by another Close, which held all places before us
		return nil
	}
	machine.remove(t)
	if e := t.current.Swap(nil); e != nil {
		e.retire()
	}
	return nil
}

// Stats counts what must come out even.
type Stats struct {
	// EphemeralCreated and EphemeralDestroyed count the session objects of key
	// agreements. They are equal whenever no agreement is in flight.
	EphemeralCreated, EphemeralDestroyed uint64
}

// Stats gives the counts since Open.
func (t *Token) Stats() Stats {
	return Stats{EphemeralCreated: t.ephemeralCreated.Load(), EphemeralDestroyed: t.ephemeralDestroyed.Load()}
}

// Ping asks the token for its session state: the cheapest call that reaches it.
func (t *Token) Ping(ctx context.Context) error {
	_, err := work(ctx, t, "ping", func(u *unit) (struct{}, error) { return struct{}{}, u.ping() })
	return err
}

func (u *unit) ping() error {
	_, err := u.e.ctx.GetSessionInfo(u.s)
	return ckr("C_GetSessionInfo", err)
}

// Active gives the key that new work of a purpose uses. The error is a *KeyError.
func (t *Token) Active(p Purpose) (Key, error) {
	return t.keyring().activeOf(p, t.usable)
}

// usable gives the key called name as this epoch has it.
func (t *Token) usable(name string, inactive bool) (*tokenKey, error) {
	e := t.current.Load()
	if e == nil {
		return nil, t.down()
	}
	return e.usable(name, inactive)
}

// Key gives the key called name if it may be used, one that is next or retired for
// opening and verifying only. The error is a *KeyError.
func (t *Token) Key(name string) (Key, error) {
	k, err := t.usable(name, true)
	if err != nil {
		return Key{}, err
	}
	return k.Key, nil
}

// Public gives the pinned public key of the key called name, also of one that is next or
// retired. The error is a *KeyError, or a *DownError while nothing is known of the keys.
func (t *Token) Public(name string) (crypto.PublicKey, error) {
	k, err := t.usable(name, true)
	if err != nil {
		return nil, err
	}
	return k.public()
}
