package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
)

// templates are the checks of what the token makes of the attributes that keys are
// generated with.
func templates() []check {
	return []check{
		{"keys cannot be read", always, hidesValues},
		{"keys have their flags and no other use", always, keepsFlags},
		{"keys were never outside", nil, everInside},
		{"other uses are refused", nil, refusesOtherUses},
		{"allowed mechanisms, and no copies", nil, narrows},
	}
}

// made are the keys that the service generated, in the order of their names.
func (b *bench) made() (all []string) {
	for what, k := range b.keys {
		if k.Provenance == hsm.Generated && what != victim {
			all = append(all, what)
		}
	}
	slices.Sort(all)
	return all
}

// own is the half of a key that must not be seen: its class and the attribute of its value.
func own(a hsm.Algorithm) (class, value uint) {
	switch {
	case a == hsm.P256:
		return pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_VALUE
	case a.Public():
		return pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_PRIVATE_EXPONENT
	default:
		return pkcs11.CKO_SECRET_KEY, pkcs11.CKA_VALUE
	}
}

// each looks at the half that must not be seen of every key that was generated.
func (b *bench) each(look func(h hand, k hsm.Key, o pkcs11.ObjectHandle) error) error {
	if len(b.made()) == 0 {
		return untried("no key was made")
	}
	return b.raw.do(func(h hand) error {
		var wrong []error
		for _, what := range b.made() {
			k := b.keys[what]
			class, _ := own(k.Algorithm)
			o, err := h.half(class, idOf(k))
			if err == nil {
				err = look(h, k, o)
			}
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", what, err))
			}
		}
		return errors.Join(wrong...)
	})
}

func hidesValues(_ context.Context, b *bench) (string, error) {
	codes := map[string]bool{}
	err := b.each(func(h hand, k hsm.Key, o pkcs11.ObjectHandle) error {
		_, attribute := own(k.Algorithm)
		value, err := h.read(o, attribute)
		if err == nil && len(value) > 0 {
			return errors.New("its value was read")
		}
		_, code := class(err)
		codes[code] = true
		return nil
	})
	return join(codes), err
}

func join(set map[string]bool) string {
	var all []string
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// flagsOf are those that keepsFlags looks at.
var flagsOf = []struct {
	attribute uint
	name      string
}{
	{pkcs11.CKA_TOKEN, "TOKEN"}, {pkcs11.CKA_PRIVATE, "PRIVATE"}, {pkcs11.CKA_SENSITIVE, "SENSITIVE"},
	{pkcs11.CKA_EXTRACTABLE, "EXTRACTABLE"}, {pkcs11.CKA_MODIFIABLE, "MODIFIABLE"},
	{pkcs11.CKA_ENCRYPT, "ENCRYPT"}, {pkcs11.CKA_DECRYPT, "DECRYPT"}, {pkcs11.CKA_WRAP, "WRAP"}, {pkcs11.CKA_UNWRAP, "UNWRAP"},
	{pkcs11.CKA_SIGN, "SIGN"}, {pkcs11.CKA_SIGN_RECOVER, "SIGN_RECOVER"}, {pkcs11.CKA_VERIFY, "VERIFY"}, {pkcs11.CKA_DERIVE, "DERIVE"},
}

// flags are the names of the flags that are set. One that the token does not have is not.
func (h hand) flags(o pkcs11.ObjectHandle) string {
	var set []string
	for _, f := range flagsOf {
		if v, err := h.read(o, f.attribute); err == nil && len(v) == 1 && v[0] != 0 {
			set = append(set, f.name)
		}
	}
	return strings.Join(set, " ")
}

// usesOf are the uses that a key is made for.
func usesOf(k hsm.Key) string {
	switch {
	case k.Purpose == hsm.CardTransport:
		return "DERIVE"
	case k.Algorithm == hsm.AES256:
		return "ENCRYPT DECRYPT"
	case k.Algorithm == hsm.TDEA:
		return "ENCRYPT"
	default:
		return "SIGN"
	}
}

func keepsFlags(_ context.Context, b *bench) (string, error) {
	return "", b.each(func(h hand, k hsm.Key, o pkcs11.ObjectHandle) error {
		if got, want := h.flags(o), "TOKEN PRIVATE SENSITIVE "+usesOf(k); got != want {
			return fmt.Errorf("%s instead of %s", got, want)
		}
		return nil
	})
}

func everInside(_ context.Context, b *bench) (string, error) {
	return "LOCAL, ALWAYS_SENSITIVE, NEVER_EXTRACTABLE", b.each(func(h hand, _ hsm.Key, o pkcs11.ObjectHandle) error {
		for name, attribute := range map[string]uint{
			"LOCAL": pkcs11.CKA_LOCAL, "ALWAYS_SENSITIVE": pkcs11.CKA_ALWAYS_SENSITIVE, "NEVER_EXTRACTABLE": pkcs11.CKA_NEVER_EXTRACTABLE,
		} {
			if v, err := h.read(o, attribute); err != nil || len(v) != 1 || v[0] == 0 {
				return errors.New("not " + name)
			}
		}
		return nil
	})
}

// refusesOtherUses asks keys for what their flags do not allow.
func refusesOtherUses(_ context.Context, b *bench) (string, error) {
	codes := map[string]bool{}
	err := b.each(func(h hand, k hsm.Key, o pkcs11.ObjectHandle) error {
		var err error
		switch {
		case k.Purpose == hsm.CardTransport:
			if err = h.SignInit(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, o); err == nil {
				_, err = h.Sign(h.s, make([]byte, 32))
			}
		case k.Algorithm == hsm.RSA2048:
			if err = h.SignRecoverInit(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}, o); err == nil {
				_, err = h.SignRecover(h.s, make([]byte, 32))
			}
		case k.Algorithm == hsm.TDEA:
			if err = h.DecryptInit(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_DES3_CBC, make([]byte, 8))}, o); err == nil {
				_, err = h.Decrypt(h.s, make([]byte, 32))
			}
		default:
			return nil
		}
		if err == nil {
			return errors.New("it does more than it was made for")
		}
		_, code := class(err)
		codes[code] = true
		return nil
	})
	return join(codes), err
}

func narrows(_ context.Context, b *bench) (string, error) {
	if b.generated == 0 {
		return "", untried("no key was made")
	}
	if b.narrowed < b.generated {
		return "", fmt.Errorf("taken for %d of %d keys", b.narrowed, b.generated)
	}
	return "CKA_ALLOWED_MECHANISMS and CKA_COPYABLE", nil
}
