package hsm

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// requireAgrees requires that a static key gives what crypto/ecdh and SHA-256 give.
func requireAgrees(t *testing.T, tok *Token, name string) {
	t.Helper()
	pub, err := tok.Public(name)
	if err != nil {
		t.Fatal(err)
	}
	to, err := pub.(interface {
		ECDH() (*ecdh.PublicKey, error)
	}).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	peer := receiver(t)
	z, err := peer.ECDH(to)
	if err != nil {
		t.Fatal(err)
	}
	info := []byte("other information")
	want := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 1}, z, info))
	got, err := tok.AgreeKey(context.Background(), name, peer.PublicKey(), info)
	if err != nil || !bytes.Equal(got, want[:]) {
		t.Fatalf("agreed on %x, %v; want %x", got, err, want)
	}
	requireNothingLeft(t, tok)
}

func TestStaticKeyAgreesAsTheStandardLibraryDoes(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		key := stockEC(t, on, "transport", CardTransport)
		for _, state := range []State{Active, Next, Retired} {
			key.State = state
			tok := open(t, on, ringOf(key))
			requireAgrees(t, tok, key.Name)
			if err := use(tok, key); err == nil {
				t.Error("a transport key signed")
			}
			shut(t, tok)
		}
	})
}

// A private half that is not the pinned public one's gives a wrong secret, which nothing
// would notice but the known answer.
func TestStaticKeyWhoseHalvesDoNotMatchIsLost(t *testing.T) {
	on := softhsm.New(t)
	key := entry("transport", CardTransport)
	change(t, on, func(u *unit) {
		pinned := freshEC(t)
		importECPublic(t, u, key, &pinned.PublicKey)
		importECPrivate(t, u, key, freshEC(t))
		key.Pins = map[string]Pin{member: pinOf(t, &pinned.PublicKey)}
	})
	tok := open(t, on, ringOf(key))
	_, err := tok.AgreeKey(context.Background(), key.Name, receiver(t).PublicKey(), []byte("info"))
	requireKeyError(t, err, key.Name, KeyLost)
}

func TestOnlyATransportKeyAgrees(t *testing.T) {
	on := softhsm.New(t)
	signs := stockEC(t, on, "signs", ProximityToken)
	tok := open(t, on, ringOf(signs))
	if k, err := tok.AgreeKey(context.Background(), signs.Name, receiver(t).PublicKey(), []byte("info")); err == nil {
		t.Errorf("a signing key agreed on %x", k)
	}
	if k, err := tok.AgreeKey(context.Background(), signs.Name, nil, []byte("info")); err == nil {
		t.Errorf("agreed with nobody on %x", k)
	}
}

// The token's triple DES is the standard library's, and its pin begins with the key check
// value that networks write into their letters.
func TestTripleDESIsTheStandardLibrarysAndPinnedByItsCheckValue(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		value, _ := hex.DecodeString("0123456789abcdef" + "fedcba9876543210" + "0123456789abcdef") // K1K2K1
		zone := entry("zone", VisaZone)
		change(t, on, func(u *unit) { zone = importSecret(t, u, zone, value) })
		if !strings.HasPrefix(string(zone.Pins[member]), "tdea-kcv:08d7b4") { // the known check value of this key
			t.Errorf("pin is %s", zone.Pins[member])
		}
		tok := open(t, on, ringOf(zone))
		clear := []byte("pan=4260640000000001;expiry=1249;datetime=20261122120000")[:56]
		got, err := tok.EncryptTDEA(context.Background(), zone.Name, clear)
		if err != nil {
			t.Fatal(err)
		}
		block, err := des.NewTripleDESCipher(value)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, len(clear))
		cipher.NewCBCEncrypter(block, make([]byte, 8)).CryptBlocks(want, clear)
		if !bytes.Equal(got, want) {
			t.Errorf("encrypted %x\nwant      %x", got, want)
		}
		for _, n := range []int{0, 7, 57} {
			if out, err := tok.EncryptTDEA(context.Background(), zone.Name, make([]byte, n)); err == nil {
				t.Errorf("%d bytes were encrypted: %x", n, out)
			}
		}
	})
}

func TestAnotherTripleDESKeyIsLost(t *testing.T) {
	on := softhsm.New(t)
	zone := entry("zone", VisaZone)
	change(t, on, func(u *unit) {
		zone = importSecret(t, u, zone, bytes.Repeat([]byte{1, 2, 4}, 8))
	})
	// The same check value with another digest is another key, too.
	pin := []byte(zone.Pins[member])
	pin[len(pin)-1] ^= 1
	other := zone
	other.Pins = map[string]Pin{member: Pin(pin)}
	tok := open(t, on, ringOf(other))
	_, err := tok.EncryptTDEA(context.Background(), zone.Name, make([]byte, 8))
	requireKeyError(t, err, zone.Name, KeyLost)
}

func TestImportedKeyIsAdoptedWithItsPin(t *testing.T) {
	on := softhsm.New(t)
	zone, transport, jwt := entry("zone", VisaZone), entry("transport", CardTransport), entry("otp", NetworkOTP)
	change(t, on, func(u *unit) {
		zone = importSecret(t, u, zone, bytes.Repeat([]byte{7, 2, 4}, 8))
		transport = importEC(t, u, transport, freshEC(t))
		jwt = importRSA(t, u, jwt, hostRSA(t, 0))
	})
	tok := open(t, on, ringOf())
	for _, k := range []Key{zone, transport, jwt} {
		got, err := tok.Adopt(context.Background(), NewKey{Name: k.Name, Purpose: k.Purpose}, k.ID, time.Now())
		if err != nil || got.Pins[member] != k.Pins[member] || got.Provenance != Imported || got.ID != k.ID {
			t.Errorf("adopted %+v, %v; want %+v", got, err, k)
		}
	}
	_, err := tok.Adopt(context.Background(), NewKey{Name: "none", Purpose: VisaZone}, "00ff", time.Now())
	requireKeyError(t, err, "none", KeyMissing)
}

// A key that can be read, or used for something else as well, is not taken over.
func TestImportedKeyThatMayDoMoreIsNotAdopted(t *testing.T) {
	for name, more := range map[string]*pkcs11.Attribute{
		"EXTRACTABLE is true": pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		"SENSITIVE is false":  pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		"DECRYPT is true":     pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		"WRAP is true":        pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
		"UNWRAP is true":      pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
	} {
		t.Run(name, func(t *testing.T) {
			on, zone := softhsm.New(t), entry("zone", VisaZone)
			change(t, on, func(u *unit) {
				var template []*pkcs11.Attribute
				for _, a := range templateFor(zone.Name, zone.ckaID(), zone.Purpose, zone.Algorithm).private {
					if a.Type == more.Type {
						a = more
					}
					template = append(template, a)
				}
				create(t, u, append(template,
					pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
					pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DES3),
					pkcs11.NewAttribute(pkcs11.CKA_VALUE, bytes.Repeat([]byte{7, 2, 4}, 8)),
				)...)
			})
			_, err := open(t, on, ringOf()).Adopt(context.Background(), NewKey{Name: zone.Name, Purpose: VisaZone}, zone.ID, time.Now())
			if !errors.Is(err, ErrKeyFlags) || !strings.HasSuffix(err.Error(), ": "+name) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestValueIsNotImportedInProduction(t *testing.T) {
	ring := ringOf()
	ring.Environment = "production"
	tok := open(t, softhsm.New(t), ring)
	if k, err := tok.ImportTDEA(context.Background(), NewKey{Name: "zone", Purpose: VisaZone}, bytes.Repeat([]byte{7, 2, 4}, 8), time.Now()); err == nil {
		t.Errorf("imported %+v", k)
	}
}

// Several networks have keys of their own, which schemes name.
func TestSeveralNetworkKeysMayBeActive(t *testing.T) {
	a, b := entry("otp-a", NetworkOTP), entry("otp-b", NetworkOTP)
	if err := ringOf(a, b).check(); err != nil {
		t.Error(err)
	}
	if err := ringOf(entry("zone-a", VisaZone), entry("zone-b", VisaZone)).check(); err == nil {
		t.Error("two active zone keys were taken")
	}
}

// Associated data are the caller's, for the ephemeral key that was made.
func TestSealingTakesAssociatedData(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		tok := open(t, on, ringOf())
		to, iv, info := receiver(t), []byte("unique nonce"), []byte("info")
		aad := func(point []byte) []byte { return append([]byte("for "), point...) }
		out, err := tok.AgreeAndSeal(context.Background(), Sealing{
			Peer: to.PublicKey(), IV: iv, Plaintext: []byte("text"), AAD: aad,
			OtherInfo: func([]byte) []byte { return info },
		})
		if err != nil {
			t.Fatal(err)
		}
		point, err := ecdh.P256().NewPublicKey(out.EphemeralPublicKey)
		if err != nil {
			t.Fatal(err)
		}
		z, err := to.ECDH(point)
		if err != nil {
			t.Fatal(err)
		}
		k := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 1}, z, info))
		got, err := hostGCM(t, k[:]).Open(nil, iv, out.Ciphertext, aad(out.EphemeralPublicKey))
		if err != nil || string(got) != "text" {
			t.Errorf("opened %q, %v", got, err)
		}
	})
}
