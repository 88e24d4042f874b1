package hsm

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm/hsmtest/realtoken"
	"github.com/mintmark/mintmark/softhsm"
)

// onEveryModule runs a test on a token of each real module. They know different
// mechanisms, answer other codes and differ wherever the standard leaves room.
func onEveryModule(t *testing.T, test func(t *testing.T, on *softhsm.Token)) {
	t.Helper()
	t.Run("SoftHSM", func(t *testing.T) { test(t, softhsm.New(t)) })
	t.Run("NSS", func(t *testing.T) { test(t, newNSS(t)) })
}

// newNSS makes a token of NSS's softoken for one test, behind the counting module.
func newNSS(t testing.TB) *softhsm.Token {
	t.Helper()
	on := realtoken.NSS(t)
	shim(t, on)
	return on
}

// In the token means that nothing of the chain can be read: not the shared secret, not
// what is concatenated to it, not the AES key at its end, which seals and does no more.
func TestInTokenNothingOfTheChainCanBeRead(t *testing.T) {
	tok := open(t, newNSS(t), ringOf())
	err := inSession(tok, "derive", func(u *unit) error {
		public, private, err := u.ephemeralPair()
		if err != nil {
			return err
		}
		defer u.destroy(public, private)
		z, err := u.deriveZ(private, receiver(t).PublicKey().Bytes(), u.e.kdf)
		if err != nil {
			return err
		}
		defer u.destroy(z)
		between, err := u.deriveData(pkcs11.CKM_CONCATENATE_DATA_AND_BASE, z, kdfCounter)
		if err != nil {
			return err
		}
		defer u.destroy(between)
		key, err := u.deriveInToken(z, []byte("other information"))
		if err != nil {
			return err
		}
		defer u.destroy(key)
		for _, o := range []struct {
			name   string
			handle handle
			flags  string
		}{
			{"shared secret", z, "PRIVATE SENSITIVE MODIFIABLE DERIVE"},
			{"intermediate", between, "PRIVATE SENSITIVE MODIFIABLE DERIVE"},
			{"AES key", key, "PRIVATE SENSITIVE MODIFIABLE ENCRYPT"},
		} {
			requireCode(t, second(u.attributes(o.handle, pkcs11.CKA_VALUE)), pkcs11.CKR_ATTRIBUTE_SENSITIVE)
			if got := flagsOf(t, u, o.handle); got != o.flags {
				t.Errorf("%s is %s, want %s", o.name, got, o.flags)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	requireNothingLeft(t, tok)
}

// NSS refuses the narrowing attributes with a code that says nothing
// (CKR_GENERAL_ERROR). The key is made without them, once, with all its other flags
// (NSS does not keep LOCAL); it answers to its pin when the token is opened anew, and
// to no other.
func TestKeysMadeInNSSServeAfterReopening(t *testing.T) {
	on := newNSS(t)
	kept := strings.Replace(protected, " LOCAL", "", 1)
	ring := ringOf()
	maker := open(t, on, ring)
	for _, p := range Purposes() {
		key, narrowed, err := maker.Generate(context.Background(), NewKey{Name: "new-" + string(p), Purpose: p}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if narrowed {
			t.Errorf("%s: NSS is said to know the narrowing attributes", p)
		}
		ring.Keys = append(ring.Keys, key)
	}
	shut(t, maker)

	tok := open(t, on, ring)
	if len(tok.Unlisted()) != 0 {
		t.Errorf("made beside the keys: %v", tok.Unlisted())
	}
	for _, p := range Purposes() {
		key, err := tok.Active(p)
		if err != nil {
			t.Fatal(err)
		}
		class, value, flags := uint(secretKey), uint(pkcs11.CKA_VALUE), ""
		switch key.Algorithm {
		case TDEA:
			flags = " ENCRYPT"
			if out, err := tok.EncryptTDEA(context.Background(), key.Name, make([]byte, 8)); err != nil || len(out) != 8 {
				t.Errorf("encrypted %x, %v", out, err)
			}
		case RSA2048:
			class, value, flags = private, pkcs11.CKA_PRIVATE_EXPONENT, " SIGN"
			requireSigns(t, tok, key.Name)
		case P256:
			class, flags = private, " SIGN"
			if p.agrees() {
				flags = " DERIVE"
				requireAgrees(t, tok, key.Name)
				break
			}
			requireSigns(t, tok, key.Name)
		case AES256:
			flags = " ENCRYPT DECRYPT"
			requireSeals(t, tok, key.Name)
		case HMACSHA256:
			flags = " SIGN"
			if mac, err := tok.HMAC(context.Background(), key.Name, []byte("data")); err != nil || len(mac) != 32 {
				t.Errorf("HMAC is %x, %v", mac, err)
			}
		}
		operate(t, tok, func(u *unit) {
			found := withID(t, u, key, class)
			if len(found) != 1 {
				t.Fatalf("%d keys under the CKA_ID of %s, want 1", len(found), key.Name)
			}
			if got := flagsOf(t, u, found[0]); got != kept+flags {
				t.Errorf("%s is %s\nwant %s", key.Name, got, kept+flags)
			}
			requireCode(t, second(u.attributes(found[0], value)), pkcs11.CKR_ATTRIBUTE_SENSITIVE)
		})
	}
	shut(t, tok)

	for i, k := range ring.Keys {
		ring.Keys[i].Pins = map[string]Pin{member: otherPin(k.Pins[member])}
	}
	for _, k := range open(t, on, ring).Keys() {
		if k.Problem != KeyLost {
			t.Errorf("with another's pin %s is %q, want %q", k.Name, k.Problem, KeyLost)
		}
	}
}

// otherPin is a pin of the same form with another first byte.
func otherPin(p Pin) Pin {
	scheme, value, _ := strings.Cut(string(p), ":")
	first := "0"
	if value[:1] == first {
		first = "1"
	}
	return Pin(scheme + ":" + first + value[1:])
}
