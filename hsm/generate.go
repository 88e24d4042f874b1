package hsm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// A NewKey says what key to make.
type NewKey struct {
	Name      string
	Purpose   Purpose
	Algorithm Algorithm // empty for the purpose's default
	State     State     // empty for active
}

// Check reports what is wrong with it, without a token.
func (n NewKey) Check() error {
	if n.State == Retired {
		return errors.New("a new key cannot be retired; it is active or next")
	}
	return errors.Join(n.entry(time.Now()).check()...)
}

// entry is the keyring entry of the key to be made, without a pin.
func (n NewKey) entry(now time.Time) Key {
	if n.Algorithm == "" {
		n.Algorithm = n.Purpose.DefaultAlgorithm()
	}
	if n.State == "" {
		n.State = Active
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return Key{
		Name: n.Name, Purpose: n.Purpose, Algorithm: n.Algorithm,
		ID: hex.EncodeToString(id), Pins: map[string]Pin{},
		Provenance: Generated, State: n.State, Created: now.UTC().Format(time.DateOnly),
	}
}

// ErrKeyExists is returned for a name that the token or the keyring already has.
var ErrKeyExists = errors.New("a key of this name exists")

// Generate makes a long-lived key in the token and proves it, and returns its keyring
// entry, pinned for this member. It does not touch the keyring: that is a reviewed
// file. The key is not usable before the keyring lists it and the token is opened anew.
//
// narrowed reports whether the token also took the list of allowed mechanisms and the
// refusal to be copied; not every module knows these.
func (t *Token) Generate(ctx context.Context, n NewKey, now time.Time) (entry Key, narrowed bool, err error) {
	asked := n.entry(now) // read in the call, which may outlive this one
	if wrong := errors.Join(asked.check()...); wrong != nil {
		return Key{}, false, fmt.Errorf("generate key: %w", wrong)
	}
	if _, ok := t.keyring().Find(n.Name); ok {
		return Key{}, false, fmt.Errorf("generate key %s: %w in the keyring", n.Name, ErrKeyExists)
	}
	made, err := run(ctx, t, t.ec, "generate", func(e *epoch) (generated, error) {
		s, err := e.ctx.OpenSession(e.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return generated{}, ckr("C_OpenSession", err)
		}
		defer func() { _ = e.ctx.CloseSession(s) }()
		u := &unit{e: e, s: s}
		made := generated{key: asked}
		made.key.Pins = map[string]Pin{}
		made.narrowed, err = u.generate(&made.key)
		return made, err
	})
	if err != nil {
		return Key{}, false, fmt.Errorf("generate key %s: %w", n.Name, err)
	}
	return made.key, made.narrowed, nil
}

// generated is a key that was made, and whether the token took its narrowing attributes.
type generated struct {
	key      Key
	narrowed bool
}

func (u *unit) generate(k *Key) (narrowed bool, err error) {
	same, err := u.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Name))
	if err != nil {
		return false, err
	}
	if len(same) != 0 {
		return false, fmt.Errorf("%w on the token", ErrKeyExists)
	}
	template := templateFor(k.Name, k.ckaID(), k.Purpose, k.Algorithm)
	public, private, err := u.generateFrom(template, template.narrowing())
	narrowed = err == nil
	if err != nil && (classify(err) == ClassRequest || classify(err) == ClassSuspect) { // suspect: NSS
		public, private, err = u.generateFrom(template, nil)
	}
	if err != nil {
		return false, err
	}
	pin, err := u.pinNew(*k, public, private)
	if err != nil {
		// A key without a proof is worth nothing and would only be in the way.
		for _, h := range []handle{public, private} {
			if h != 0 {
				err = errors.Join(err, ckr("C_DestroyObject", u.e.ctx.DestroyObject(u.s, h)))
			}
		}
		return false, err
	}
	k.Pins[u.e.token.cfg.Name] = pin
	return narrowed, nil
}

func (u *unit) generateFrom(t keyTemplate, narrowing []*pkcs11.Attribute) (public, private handle, err error) {
	mech := []*pkcs11.Mechanism{pkcs11.NewMechanism(t.mechanism, nil)}
	secret := append(append([]*pkcs11.Attribute(nil), t.private...), narrowing...)
	if t.public == nil {
		private, err = u.e.ctx.GenerateKey(u.s, mech, secret)
		return 0, private, ckr("C_GenerateKey", err)
	}
	public, private, err = u.e.ctx.GenerateKeyPair(u.s, mech, t.public, secret)
	return public, private, ckr("C_GenerateKeyPair", err)
}

// pinNew proves a key just made and gives its pin.
func (u *unit) pinNew(k Key, public, private handle) (Pin, error) {
	if !k.Algorithm.Public() {
		return u.makePin(k, private)
	}
	at, err := u.attributes(public, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return "", err
	}
	pub, err := u.publicKey(public, ulong(at[0]))
	if err != nil {
		return "", err
	}
	tk := &tokenKey{Key: k, handle: private, pub: pub}
	if k.Purpose.agrees() {
		if err := u.proveAgreement(tk, agreementWays); err != nil {
			return "", fmt.Errorf("agree with the new key: %w", err)
		}
		return spkiPin(pub)
	}
	if _, err := u.e.signVerified(tk, selfTestDigest(), selfTestHash); err != nil {
		return "", fmt.Errorf("sign with the new key: %w", err)
	}
	return spkiPin(pub)
}
