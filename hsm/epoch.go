package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// handle is a PKCS#11 object handle. It means nothing outside its epoch.
type handle = pkcs11.ObjectHandle

// An epoch is the time between one login and its end, with everything that is valid
// only in between.
type epoch struct {
	number uint64
	token  *Token
	slot   uint
	ctx    *pkcs11.Ctx
	sized  sized
	c11    *crypto11.Context
	ro     *sessions

	// Written by prepare, read-only afterwards.
	keys     map[string]*tokenKey // by name in the keyring
	unlisted []Object
	kdf      kdf
	probes   []Probe
}

// tokenKey is a key of the keyring as it was found on the token.
type tokenKey struct {
	Key
	handle  handle           // private or secret key
	pub     crypto.PublicKey // what the pin answers for; nil for secret keys
	problem KeyProblem       // empty when the key may be used

	mu     sync.Mutex // guards signer, which is made at first use
	signer crypto11.Signer
}

// prepare finds and proves the keys and chooses the KDF way.
func (e *epoch) prepare(ctx context.Context) error {
	if err := e.withSession(func(u *unit) error { return u.findKeys() }); err != nil {
		return fmt.Errorf("find keys: %w", err)
	}
	if err := e.chooseKDF(); err != nil {
		return fmt.Errorf("self-test of key agreement: %w", err)
	}
	if err := e.warmSigners(); err != nil {
		return fmt.Errorf("open sessions: %w", err)
	}
	if err := e.selfTestSignatures(ctx); err != nil {
		return fmt.Errorf("self-test of signatures: %w", err)
	}
	return nil
}

// usable gives the key called name if it may be used; a retired key only where
// retired ones still serve (opening, verifying).
func (e *epoch) usable(name string, retired bool) (*tokenKey, error) {
	k := e.keys[name]
	if k == nil {
		return nil, &KeyError{Name: name, Problem: KeyNotListed}
	}
	if k.problem != "" && (k.problem != KeyRetired || !retired) {
		return nil, &KeyError{Name: name, Problem: k.problem}
	}
	return k, nil
}

// withSession lends a session to fn. After an error the session is closed rather than
// used again: a module may leave the failed operation active in it.
func (e *epoch) withSession(fn func(u *unit) error) error {
	s, err := e.ro.take()
	if err != nil {
		return err
	}
	u := &unit{e: e, s: s}
	sound := false // also when fn panics
	defer func() { e.ro.give(s, sound) }()
	err = fn(u)
	sound = err == nil && !u.tainted
	return err
}

// A unit is one piece of work in one session of one epoch.
type unit struct {
	e *epoch
	s pkcs11.SessionHandle
	// tainted is set when an object could not be destroyed: closing the session does it.
	tainted bool
}

// findKeys lists the token's keys in one pass and matches them with the keyring.
func (u *unit) findKeys() error {
	objects, err := u.objects()
	if err != nil {
		return err
	}
	found := map[string][]Object{} // by CKA_ID
	for _, o := range objects {
		found[o.ID] = append(found[o.ID], o)
	}
	u.e.keys = map[string]*tokenKey{}
	listed := map[string]bool{}
	for _, k := range u.e.token.cfg.Keyring.Keys {
		listed[k.ID] = true
		tk, err := u.match(k, found[k.ID])
		if err != nil {
			return err
		}
		u.e.keys[k.Name] = tk
	}
	u.e.unlisted = nil
	for _, o := range objects {
		if !listed[o.ID] && o.Class != ClassPublicKey {
			u.e.unlisted = append(u.e.unlisted, o)
		}
	}
	return nil
}

// match finds k among the objects with its CKA_ID and proves it against its pin.
func (u *unit) match(k Key, objects []Object) (*tokenKey, error) {
	tk := &tokenKey{Key: k}
	var private, public []Object
	for _, o := range objects {
		if o.Class == ClassPublicKey {
			public = append(public, o)
		} else {
			private = append(private, o)
		}
	}
	pin, pinned := k.Pins[u.e.token.cfg.Name]
	switch {
	case len(private) == 0 || (k.Algorithm.Public() && len(public) == 0):
		tk.problem = KeyMissing
	case len(private) > 1 || len(public) > 1:
		tk.problem = KeyAmbiguous
	case !pinned:
		tk.problem = KeyUnpinned
	case k.Algorithm.Public():
		tk.handle, tk.pub = private[0].handle, public[0].pub
		if got, err := spkiPin(tk.pub); err != nil || got != pin {
			tk.problem = KeyLost
		}
	default:
		tk.handle = private[0].handle
		same, err := u.provePin(k, tk.handle, pin)
		if err != nil {
			return nil, fmt.Errorf("prove key %s: %w", k.Name, err)
		}
		if !same {
			tk.problem = KeyLost
		}
	}
	if tk.problem == "" && k.State == Retired {
		tk.problem = KeyRetired
	}
	return tk, nil
}

// selfTestSignatures signs once with every active signing key, which also proves that
// the private half belongs to the pinned public one. A key that fails it is lost; a
// token that does not answer is an error.
func (e *epoch) selfTestSignatures(ctx context.Context) error {
	digest := selfTestDigest()
	for _, k := range e.keys {
		if !k.Algorithm.Public() || k.problem != "" {
			continue
		}
		sig, err := e.sign(k, digest, selfTestHash)
		if err != nil {
			var own *KeyError
			if errors.As(err, &own) {
				k.problem = own.Problem
				continue
			}
			if classify(err) == ClassRequest {
				k.problem = KeyLost // the token is well; this private key is not the pinned public one's
				continue
			}
			return fmt.Errorf("sign with %s: %w", k.Name, err)
		}
		if verify(k.pub, digest, sig) != nil {
			k.problem = KeyLost
		}
	}
	return ctx.Err()
}
