package hsm

import (
	"errors"
	"fmt"
	"time"

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
	ring   *Keyring
	ctx    *pkcs11.Ctx
	sized  sized
	c11    *crypto11.Context
	ro     *sessions

	// Written by prepare, read-only afterwards.
	keys     tokenKeys
	unlisted []Object
	kdf      kdf
	probes   []Probe
	// agreement is the way by which static keys agree.
	agreement kdfWay
}

// preparePatiently prepares again, at once, after errors that a session or the code alone
// may be to blame for. A run of these costs requests a moment; without patience it would
// cost a back-off each.
func (e *epoch) preparePatiently() (err error) {
	const tries = 20
	began := time.Now()
	for range tries {
		err = e.prepare()
		if c := classify(err); err == nil || (c != ClassSession && c != ClassSuspect) || time.Since(began) > backoffFirst {
			break
		}
	}
	return err
}

// prepare finds and proves the keys and chooses the KDF way.
func (e *epoch) prepare() error {
	err := e.withSession(func(u *unit) (err error) {
		e.keys, e.unlisted, err = u.findKeys()
		return err
	})
	if err != nil {
		return fmt.Errorf("find keys: %w", err)
	}
	if err := e.chooseKDF(); err != nil {
		return fmt.Errorf("self-test of key agreement: %w", err)
	}
	if err := e.proveAgreements(); err != nil {
		return fmt.Errorf("self-test of static key agreement: %w", err)
	}
	if err := e.warmSigners(); err != nil {
		return fmt.Errorf("open sessions: %w", err)
	}
	if err := e.selfTestSignatures(); err != nil {
		return fmt.Errorf("self-test of signatures: %w", err)
	}
	return nil
}

// retire closes the epoch's sessions and its login. When it is the module's last, the
// module is finalized. No work may be under way in the epoch.
func (e *epoch) retire() {
	defer func() {
		if recover() != nil { // crypto11 panics when its count of contexts is off
			e.token.log.Error("epoch not closed in order", "error", errBindingPanic)
		}
	}()
	e.ro.close()
	if err := e.token.mod.disconnect(e.c11); err != nil {
		e.token.log.Debug("close crypto11 context", "error", err)
	}
}

// usable gives the key called name if it may be used; see tokenKeys.usable.
func (e *epoch) usable(name string, inactive bool) (*tokenKey, error) {
	return e.keys.usable(name, inactive)
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
func (u *unit) findKeys() (keys map[string]*tokenKey, unlisted []Object, err error) {
	objects, err := u.objects()
	if err != nil {
		return nil, nil, err
	}
	found := map[string][]Object{} // by CKA_ID
	for _, o := range objects {
		found[o.ID] = append(found[o.ID], o)
	}
	keys = map[string]*tokenKey{}
	listed := map[string]bool{}
	for _, k := range u.e.ring.Keys {
		listed[k.ID] = true
		if keys[k.Name], err = u.match(k, found[k.ID]); err != nil {
			return nil, nil, err
		}
	}
	for _, o := range objects {
		if !listed[o.ID] && o.Class != ClassPublicKey {
			unlisted = append(unlisted, o)
		}
	}
	return keys, unlisted, nil
}

// match finds k among the objects with its CKA_ID and proves it against its pin, if the
// process has a use for it.
func (u *unit) match(k Key, objects []Object) (*tokenKey, error) {
	tk := &tokenKey{Key: k}
	if !u.e.ring.binds(k.Purpose) {
		tk.problem = KeyNotBound // and nothing is asked of it, not even a proof
		return tk, nil
	}
	var private, public []Object
	own := ClassSecretKey
	if k.Algorithm.Public() {
		own = ClassPrivateKey
	}
	for _, o := range objects {
		switch o.Class {
		case ClassPublicKey:
			public = append(public, o)
		case own:
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

// selfTestSignatures signs and verifies with the first signing key that can, which also
// proves that its private half belongs to the pinned public one. Others prove it with
// each signature that is verified before release: finding every key through crypto11
// would cost seconds with hundreds of keys. A key that fails here is lost; a token that
// does not answer is an error.
func (e *epoch) selfTestSignatures() error {
	for _, k := range e.signingKeys() {
		_, err := e.signVerified(k, selfTestDigest(), selfTestHash)
		var own *KeyError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &own) && own.Problem == KeyUnreadable:
			k.problem = KeyUnreadable // for report to say
		case errors.As(err, &own):
			e.disprove(k, err) // the token is well; this private key is not the pinned public one's
		default:
			return fmt.Errorf("sign with %s: %w", k.Name, err)
		}
	}
	return nil
}
