package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Policy says which member is asked first.
type Policy string

// The policies.
const (
	// Failover asks the first member that is ready, in the order of the configuration.
	Failover Policy = "failover"
	// Spread asks the ready members in turn.
	Spread Policy = "spread"
)

// An HSM is a set of members with the same keys: several tokens, each behind a module of
// its own if one is to survive another's loss. What one member cannot do for its own
// reasons (its state, its sessions, a key it lacks) the next one is asked for; what is
// the request's own fault is not asked twice. A key agreement stays on one member.
//
// An HSM is there from Start on, whatever state its members are in: they come up by
// themselves.
type HSM struct {
	members []Member
	policy  Policy
	ring    atomic.Pointer[Keyring]
	turn    atomic.Uint32
	using   sync.Mutex // held while another keyring is taken up

	tried   chan struct{} // closed when each member has been tried once
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Start opens all members, each where its Isolation says, and returns when each has been
// tried once, after a few seconds, or when the context ends. A member that is not ready then
// is tried again until it is. Start fails only for a configuration that cannot ever work.
func Start(ctx context.Context, policy Policy, configs []Config) (*HSM, error) {
	if len(configs) == 0 {
		return nil, errors.New("start HSM: no members")
	}
	if policy != Failover && policy != Spread {
		return nil, fmt.Errorf("start HSM: policy %q is neither failover nor spread", policy)
	}
	alive, stop := context.WithCancel(context.Background())
	h := &HSM{policy: policy, tried: make(chan struct{}), stop: stop}
	h.ring.Store(configs[0].Keyring)
	for _, cfg := range configs {
		m, err := newMember(cfg)
		if err != nil {
			stop()
			return nil, err
		}
		h.members = append(h.members, m)
	}
	for _, m := range h.members {
		m.launch(alive, &h.running)
	}
	h.running.Go(func() { h.awaitTries(alive) })
	if err := h.awaitFirstTries(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// awaitFirstTries waits until each member has been tried once. Its error is of a member
// that cannot ever work; the others are closed then.
func (h *HSM) awaitFirstTries(ctx context.Context) error {
	limit := time.NewTimer(startWithin)
	defer limit.Stop()
	for _, m := range h.members {
		select {
		case <-m.firstTry():
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return nil
		}
		if err := m.unfit(); err != nil {
			closing, cancel := context.WithTimeout(context.Background(), startWithin)
			defer cancel()
			return errors.Join(err, h.Close(closing))
		}
	}
	return nil
}

func (h *HSM) awaitTries(alive context.Context) {
	for _, m := range h.members {
		select {
		case <-m.firstTry():
		case <-alive.Done():
			return
		}
	}
	close(h.tried)
}

// Tried gives a channel that is closed when each member has been tried once, which may be long
// after Start returned: only then is the cause known why none is ready.
func (h *HSM) Tried() <-chan struct{} { return h.tried }

// startWithin is how long Start waits for members that have not answered yet. One that
// hangs does not keep the others from serving. The tests wait longer: in a few seconds a child
// may not have been started on a machine with more to do.
var startWithin = 5 * time.Second

// Close closes all members; see Token.Close.
func (h *HSM) Close(ctx context.Context) error {
	h.stop()
	errs := make([]error, len(h.members))
	var closing sync.WaitGroup
	for i, t := range h.members {
		closing.Go(func() { errs[i] = t.Close(ctx) })
	}
	closing.Wait()
	done := make(chan struct{})
	go func() { h.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("close HSM: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// Members gives the members, in the order of the configuration.
func (h *HSM) Members() []Member { return h.members }

// Ready reports nil if at least one member can take work, without asking any token.
// Otherwise the error is the *DownError of the first.
func (h *HSM) Ready() error {
	for _, t := range h.members {
		if t.Ready() == nil {
			return nil
		}
	}
	return h.members[0].Ready()
}

// order gives the members in the order in which they are asked: ready ones first.
func (h *HSM) order() []Member {
	start := 0
	if h.policy == Spread {
		start = int(h.turn.Add(1)) % len(h.members)
	}
	ready := make([]Member, 0, len(h.members))
	var others []Member
	for i := range h.members {
		t := h.members[(start+i)%len(h.members)]
		if t.Ready() == nil {
			ready = append(ready, t)
		} else {
			others = append(others, t)
		}
	}
	return append(ready, others...)
}

// ask has one member after the other do the work, until one does or the fault is the
// request's own.
func ask[T any](ctx context.Context, h *HSM, what calling, do func(context.Context, Member) (T, error)) (T, error) {
	var none T
	var first error
	for _, t := range h.order() {
		v, err := traced(ctx, t, what, do)
		if err == nil {
			return v, nil
		}
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) || ctx.Err() != nil {
			return none, err
		}
		if first == nil {
			first = err
		}
	}
	return none, first
}

// Sign signs with the key called name; see Token.Sign.
func (h *HSM) Sign(ctx context.Context, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return ask(ctx, h, signing(ctx, h, name), func(ctx context.Context, t Member) ([]byte, error) { return t.Sign(ctx, name, digest, opts) })
}

// AgreeAndSeal seals one payload; see Token.AgreeAndSeal.
func (h *HSM) AgreeAndSeal(ctx context.Context, s Sealing) (Sealed, error) {
	return ask(ctx, h, sealing, func(ctx context.Context, t Member) (Sealed, error) { return t.AgreeAndSeal(ctx, s) })
}

// EncryptGCM encrypts with the key called name; see Token.EncryptGCM. Tried on a second
// member, it is the same encryption under the same key: the IV is not used for another.
func (h *HSM) EncryptGCM(ctx context.Context, name string, iv, aad, plaintext []byte) ([]byte, error) {
	return ask(ctx, h, encryptingGCM, func(ctx context.Context, t Member) ([]byte, error) {
		return t.EncryptGCM(ctx, name, iv, aad, plaintext)
	})
}

// DecryptGCM opens what EncryptGCM made; see Token.DecryptGCM.
func (h *HSM) DecryptGCM(ctx context.Context, name string, iv, aad, ciphertext []byte) ([]byte, error) {
	return ask(ctx, h, decryptingGCM, func(ctx context.Context, t Member) ([]byte, error) {
		return t.DecryptGCM(ctx, name, iv, aad, ciphertext)
	})
}

// HMAC computes an HMAC with the key called name; see Token.HMAC.
func (h *HSM) HMAC(ctx context.Context, name string, data []byte) ([]byte, error) {
	return ask(ctx, h, computingHMAC, func(ctx context.Context, t Member) ([]byte, error) { return t.HMAC(ctx, name, data) })
}

// Active gives the key that new work of a purpose uses, if a member has it.
func (h *HSM) Active(p Purpose) (Key, error) {
	return ask(context.Background(), h, calling{}, func(_ context.Context, t Member) (Key, error) { return t.Active(p) })
}

// Key gives the key called name, if a member has it; see Token.Key.
func (h *HSM) Key(name string) (Key, error) {
	return ask(context.Background(), h, calling{}, func(_ context.Context, t Member) (Key, error) { return t.Key(name) })
}

// Public gives the pinned public key of the key called name, also of one that is next or
// retired. It is the same on every member: the keyring sees to that. What no member that is
// ready can give is given from memory, if any has proved it since the start and its pin is
// still that: what the key has signed is still to be verified.
//
// Errors: *KeyError if a member is ready and the key was never proved; *DownError if none is.
func (h *HSM) Public(name string) (crypto.PublicKey, error) {
	pub, err := ask(context.Background(), h, calling{}, func(_ context.Context, t Member) (crypto.PublicKey, error) { return t.Public(name) })
	if err == nil {
		return pub, nil
	}
	for _, t := range h.members {
		pub := t.remembered(name)
		if pub == nil {
			continue
		}
		listed, _ := t.keyring().Find(name)
		if pin, wrong := spkiPin(pub); wrong == nil && pin == listed.Pins[t.Name()] {
			return pub, nil
		}
	}
	return nil, err
}

// Stats gives the sums of the members' counts.
func (h *HSM) Stats() Stats {
	var sum Stats
	for _, t := range h.members {
		s := t.Stats()
		sum.EphemeralCreated += s.EphemeralCreated
		sum.EphemeralDestroyed += s.EphemeralDestroyed
	}
	return sum
}
