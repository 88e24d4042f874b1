package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/pkcs11"
)

// Adopt finds the key with the CKA_ID id (hex), which somebody imported, proves that it
// does what its purpose asks for, and returns its keyring entry, pinned for this member.
// Like Generate it does not touch the keyring.
//
// The key's flags must be those that Generate gives a key of the purpose: one that can be
// read, or used for something else as well, is refused with ErrKeyFlags.
func (t *Token) Adopt(ctx context.Context, n NewKey, id string, now time.Time) (Key, error) {
	entry := n.entry(now)
	entry.ID, entry.Provenance = id, Imported
	if wrong := errors.Join(entry.check()...); wrong != nil {
		return Key{}, fmt.Errorf("adopt key: %w", wrong)
	}
	k, err := work(ctx, t, "adopt", func(u *unit) (Key, error) {
		k := entry
		k.Pins = map[string]Pin{}
		public, private, err := u.findPair(k)
		if err != nil {
			return Key{}, err
		}
		if err := u.checkFlags(k, private); err != nil {
			return Key{}, err
		}
		pin, err := u.pinNew(k, public, private)
		if err != nil {
			return Key{}, err
		}
		k.Pins[u.e.token.cfg.Name] = pin
		return k, nil
	})
	if err != nil {
		return Key{}, fmt.Errorf("adopt key %s: %w", n.Name, err)
	}
	return k, nil
}

// ErrKeyFlags is returned for a key whose flags allow more than its purpose.
var ErrKeyFlags = errors.New("the key's flags allow more than its purpose; import it anew")

// protection and uses are the flags that adoption looks at.
var (
	protection = map[uint]string{
		pkcs11.CKA_TOKEN: "TOKEN", pkcs11.CKA_PRIVATE: "PRIVATE",
		pkcs11.CKA_SENSITIVE: "SENSITIVE", pkcs11.CKA_EXTRACTABLE: "EXTRACTABLE",
	}
	uses = map[uint]string{
		pkcs11.CKA_ENCRYPT: "ENCRYPT", pkcs11.CKA_DECRYPT: "DECRYPT", pkcs11.CKA_WRAP: "WRAP", pkcs11.CKA_UNWRAP: "UNWRAP",
		pkcs11.CKA_SIGN: "SIGN", pkcs11.CKA_SIGN_RECOVER: "SIGN_RECOVER", pkcs11.CKA_VERIFY: "VERIFY",
		pkcs11.CKA_VERIFY_RECOVER: "VERIFY_RECOVER", pkcs11.CKA_DERIVE: "DERIVE",
	}
)

// checkFlags holds a key's flags against those of the template of its purpose. A public
// half proves nothing and hides nothing: what it may be used for is anybody's.
func (u *unit) checkFlags(k Key, private handle) error {
	given := map[uint]bool{}
	for _, a := range templateFor(k.Name, k.ckaID(), k.Purpose, k.Algorithm).private {
		given[a.Type] = len(a.Value) == 1 && a.Value[0] != 0
	}
	var wrong []string
	for typ, name := range protection {
		is, err := u.flag(private, typ)
		if err != nil {
			return err
		}
		if is != given[typ] {
			wrong = append(wrong, fmt.Sprintf("%s is %t", name, is))
		}
	}
	for typ, name := range uses {
		is, err := u.flag(private, typ)
		if err != nil {
			return err
		}
		if is && !given[typ] {
			wrong = append(wrong, name+" is true")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%w: %s", ErrKeyFlags, strings.Join(wrong, ", "))
}

// flag reads one flag of an object. One that objects of its class do not have is not set.
func (u *unit) flag(h handle, typ uint) (bool, error) {
	at, err := u.attributes(h, typ)
	var e *Error
	if errors.As(err, &e) && e.Code == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return len(at[0]) == 1 && at[0][0] != 0, nil
}

// findPair finds the one key under k's CKA_ID; public is 0 for a secret key.
func (u *unit) findPair(k Key) (public, private handle, err error) {
	objects, err := u.objects(idAttribute(k))
	if err != nil {
		return 0, 0, err
	}
	own := ClassSecretKey
	if k.Algorithm.Public() {
		own = ClassPrivateKey
	}
	var publics, privates int
	for _, o := range objects {
		switch o.Class {
		case ClassPublicKey:
			public, publics = o.handle, publics+1
		case own:
			private, privates = o.handle, privates+1
		}
	}
	switch {
	case privates == 0 || (k.Algorithm.Public() && publics == 0):
		return 0, 0, &KeyError{Name: k.Name, Problem: KeyMissing}
	case privates > 1 || publics > 1:
		return 0, 0, &KeyError{Name: k.Name, Problem: KeyAmbiguous}
	}
	return public, private, nil
}

func idAttribute(k Key) *pkcs11.Attribute { return pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()) }

// ImportTDEA puts a triple DES key of 24 bytes into the token and returns its keyring entry.
// It is for development and tests, where the other side of a zone key is simulated: a
// network's key is brought in as components, at the HSM, and taken over with Adopt.
func (t *Token) ImportTDEA(ctx context.Context, n NewKey, value []byte, now time.Time) (Key, error) {
	if t.keyring().Environment == "production" {
		return Key{}, errors.New("import key: a value is not taken in production; import components at the HSM and adopt the key")
	}
	n.Algorithm = TDEA
	entry := n.entry(now)
	entry.Provenance = Imported
	if wrong := errors.Join(entry.check()...); wrong != nil {
		return Key{}, fmt.Errorf("import key: %w", wrong)
	}
	if len(value) != 24 {
		return Key{}, fmt.Errorf("import key %s: a triple DES key has 24 bytes", n.Name)
	}
	k, err := run(ctx, t, t.ec, "import", func(e *epoch) (Key, error) {
		s, err := e.ctx.OpenSession(e.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return Key{}, ckr("C_OpenSession", err)
		}
		defer func() { _ = e.ctx.CloseSession(s) }()
		u := &unit{e: e, s: s}
		from := templateFor(entry.Name, entry.ckaID(), entry.Purpose, TDEA)
		template := append(from.private,
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DES3),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
		)
		h, err := e.ctx.CreateObject(s, append(template, from.narrowing()...))
		if err != nil { // not every module knows these
			h, err = e.ctx.CreateObject(s, template)
		}
		if err != nil {
			return Key{}, ckr("C_CreateObject", err)
		}
		pin, err := u.makePin(entry, h)
		if err != nil {
			return Key{}, err
		}
		k := entry
		k.Pins = map[string]Pin{e.token.cfg.Name: pin}
		return k, nil
	})
	if err != nil {
		return Key{}, fmt.Errorf("import key %s: %w", n.Name, err)
	}
	return k, nil
}
