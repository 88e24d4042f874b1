package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/mintmark/mintmark/internal/secret"
)

// poolWait bounds crypto11's own wait for a session. Our lanes admit no more callers
// than crypto11 has sessions, so that it is only reached when one is stuck.
const poolWait = 10 * time.Second

// Config says which token to open, and how.
type Config struct {
	// Name is the member's name: in the keyring's pins, in logs and in metrics.
	Name string
	// Module is the path of the PKCS#11 library.
	Module string
	// TokenLabel and TokenSerial choose the token; at least one is needed. Slot numbers
	// are never used: they change when a token is made anew.
	TokenLabel, TokenSerial string
	// PINFile holds the user PIN. It is read at each login.
	PINFile string
	// Keyring lists the keys that may be used.
	Keyring *Keyring
	// RSAConcurrency and ECConcurrency bound the calls inside the token; 0 means twice
	// the cores for RSA and the cores for EC, which is where SoftHSM stops gaining.
	RSAConcurrency, ECConcurrency int
	// Observer is told of every call; nil for nobody.
	Observer Observer
	// Log receives state changes and findings; nil for slog.Default().
	Log *slog.Logger
}

func (c Config) check() error {
	var wrong []error
	if c.Name == "" {
		wrong = append(wrong, errors.New("name is missing"))
	}
	if c.Module == "" {
		wrong = append(wrong, errors.New("module is missing"))
	}
	if c.TokenLabel == "" && c.TokenSerial == "" {
		wrong = append(wrong, errors.New("tokenLabel and tokenSerial are both missing"))
	}
	if c.PINFile == "" {
		wrong = append(wrong, errors.New("pinFile is missing"))
	}
	if c.Keyring == nil {
		wrong = append(wrong, errors.New("keyring is missing"))
	}
	return errors.Join(wrong...)
}

// A Token is one logged-in PKCS#11 token with the keyring's keys on it. Its methods
// are safe for concurrent use.
type Token struct {
	cfg     Config
	mod     *module
	rsa, ec *lane
	log     *slog.Logger

	closed   atomic.Bool // Close has begun
	finished atomic.Bool // Close has done its work; set while it holds all places
	// current is the epoch in which every handle is valid. It is replaced whole.
	current atomic.Pointer[epoch]

	ephemeralCreated, ephemeralDestroyed atomic.Uint64
}

// Open loads the module, logs in, and checks every key of the keyring against its pin.
// A key that is missing or differs does not stop it; a token that cannot agree on a key
// by any known way does, since nothing could be sealed.
//
// Errors: ErrTokenNotFound, ErrLoginRefused, secret.ErrPINFile, or an *Error.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	if cfg.RSAConcurrency == 0 {
		cfg.RSAConcurrency = 2 * runtime.NumCPU()
	}
	if cfg.ECConcurrency == 0 {
		cfg.ECConcurrency = runtime.NumCPU()
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	mod, err := moduleFor(cfg.Module)
	if err != nil {
		return nil, fmt.Errorf("open token %q: %w", cfg.Name, err)
	}
	t := &Token{
		cfg: cfg,
		mod: mod,
		rsa: newLane(LaneRSA, cfg.RSAConcurrency),
		ec:  newLane(LaneEC, cfg.ECConcurrency),
		log: cfg.Log.With("member", cfg.Name),
	}
	e, err := t.begin(ctx, 1)
	if err != nil {
		return nil, fmt.Errorf("open token %q: %w", cfg.Name, err)
	}
	t.current.Store(e)
	t.report(e)
	return t, nil
}

// begin makes an epoch: login, keys, self-test.
func (t *Token) begin(ctx context.Context, number uint64) (*epoch, error) {
	pin, err := secret.ReadPINFile(t.cfg.PINFile)
	if err != nil {
		return nil, err
	}
	defer pin.Wipe()
	l := login{label: t.cfg.TokenLabel, serial: t.cfg.TokenSerial, maxSessions: t.cfg.RSAConcurrency + 1}
	pin.Reveal(func(p []byte) { l.pin = string(p) })
	c11, slot, err := t.mod.connect(l)
	if err != nil {
		return nil, err
	}
	e := &epoch{number: number, token: t, slot: slot, ctx: t.mod.ctx, sized: t.mod.sized, c11: c11, ro: newSessions(t.mod.ctx, slot, t.cfg.ECConcurrency)}
	if err := e.prepare(ctx); err != nil {
		e.ro.close()
		return nil, errors.Join(err, t.mod.disconnect(c11))
	}
	return e, nil
}

// report says once an epoch what was found: the KDF way, keys that cannot be used,
// keys of the token that are not listed.
func (t *Token) report(e *epoch) {
	t.log.Info("token ready", "epoch", e.number, "kdf", e.kdf.way.String(), "keys", len(e.keys), "keyring", t.cfg.Keyring.Digest())
	for _, k := range e.keys {
		if k.problem != "" && k.problem != KeyRetired {
			t.log.Error("key unusable", "key", k.Name, "purpose", string(k.Purpose), "problem", string(k.problem))
		}
	}
	for _, o := range e.unlisted {
		t.log.Warn("key on the token is not in the keyring and is not used", "class", o.Class, "id", o.ID, "label", o.Label)
	}
}

// Close waits until no call is in flight, logs out and finalizes the module if no
// other token uses it. If the context ends first nothing is finalized (C_Finalize
// under a running call ends the process) and the context's error is returned; Close may
// then be called again. Calls that have not begun when Close does get ErrClosed.
func (t *Token) Close(ctx context.Context) error {
	t.closed.Store(true)
	if t.finished.Load() {
		return nil
	}
	for _, l := range []*lane{t.rsa, t.ec} {
		if err := l.slots.Acquire(ctx, int64(l.size)); err != nil {
			return fmt.Errorf("close token %q: calls still in flight: %w", t.cfg.Name, err)
		}
		defer l.slots.Release(int64(l.size)) // who queued behind us finds the token closed
	}
	if t.finished.Swap(true) { // by another Close, which held all places before us
		return nil
	}
	e := t.current.Load()
	e.ro.close()
	return t.mod.disconnect(e.c11)
}

// Name is the member's name.
func (t *Token) Name() string { return t.cfg.Name }

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

// run admits one call to the token through a lane, and reports it.
func (t *Token) run(ctx context.Context, l *lane, op string, fn func(e *epoch) error) error {
	asked := time.Now()
	if t.closed.Load() {
		return fmt.Errorf("%s: %w", op, errClosed) // rather than queue behind Close
	}
	if err := l.enter(ctx); err != nil {
		t.observe(op, l, time.Since(asked), 0, "busy")
		return fmt.Errorf("%s: %w", op, err)
	}
	defer l.leave()
	if t.closed.Load() {
		return fmt.Errorf("%s: %w", op, errClosed)
	}
	began := time.Now()
	err := fn(t.current.Load())
	outcome := "ok"
	var e *Error
	switch {
	case errors.As(err, &e):
		outcome = e.Class().String()
		if e.Class() != ClassRequest {
			err = &unavailable{err: err, after: time.Second}
		}
	case err != nil:
		outcome = ClassRequest.String()
	}
	t.observe(op, l, began.Sub(asked), time.Since(began), outcome)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// work is run with a session at hand.
func (t *Token) work(ctx context.Context, op string, fn func(u *unit) error) error {
	return t.run(ctx, t.ec, op, func(e *epoch) error { return e.withSession(fn) })
}

func (t *Token) observe(op string, l *lane, queued, inToken time.Duration, outcome string) {
	if t.cfg.Observer != nil {
		t.cfg.Observer.TokenCall(op, string(l.name), queued, inToken, outcome)
	}
}

// Ping asks the token for its session state: the cheapest call that reaches it.
func (t *Token) Ping(ctx context.Context) error {
	return t.work(ctx, "ping", func(u *unit) error {
		_, err := u.e.ctx.GetSessionInfo(u.s)
		return ckr("C_GetSessionInfo", err)
	})
}

// Active gives the key that new work of a purpose uses. The error is a *KeyError.
func (t *Token) Active(p Purpose) (Key, error) {
	k, err := t.cfg.Keyring.Active(p)
	if err != nil {
		return Key{}, err
	}
	if _, err := t.current.Load().usable(k.Name, false); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Key gives the key called name if it may be used, a retired one for opening and
// verifying only. The error is a *KeyError.
func (t *Token) Key(name string) (Key, error) {
	k, err := t.current.Load().usable(name, true)
	if err != nil {
		return Key{}, err
	}
	return k.Key, nil
}

// Public gives the pinned public key of the key called name. The error is a *KeyError.
func (t *Token) Public(name string) (crypto.PublicKey, error) {
	k, err := t.current.Load().usable(name, true)
	if err != nil {
		return nil, err
	}
	return k.pub, nil
}
