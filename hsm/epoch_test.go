package hsm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

func fill(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// stock puts a signing key, an AES key and an HMAC key on the token and returns the
// keyring that lists them.
func stock(t *testing.T, on *softhsm.Token) (tav, vault, index Key) {
	t.Helper()
	change(t, on, func(u *unit) {
		tav = importRSA(t, u, entry("tav", TAVSigning), hostRSA(t, 0))
		vault = importSecret(t, u, entry("vault", CardVault), fill(1))
		index = importSecret(t, u, entry("index", CardIndex), fill(2))
	})
	return tav, vault, index
}

// use tries the one use of a key.
func use(tok *Token, k Key) error {
	ctx := context.Background()
	switch k.Purpose {
	case TAVSigning:
		return second(tok.Sign(ctx, k.Name, sha("message"), crypto.SHA256))
	case CardVault:
		return second(tok.EncryptGCM(ctx, k.Name, make([]byte, gcmIV), nil, []byte("card")))
	default:
		return second(tok.HMAC(ctx, k.Name, []byte("data")))
	}
}

// Whatever is wrong with one key is said of that key, and the others serve.
func TestTroubleWithOneKeyStaysWithIt(t *testing.T) {
	otherRSA := func(t *testing.T, u *unit, k Key) {
		importRSA(t, u, k, hostRSA(t, 1))
	}
	for _, tc := range []struct {
		name    string
		of      Purpose
		spoil   func(t *testing.T, u *unit, k Key) // on the token
		edit    func(k *Key)                       // in the keyring
		problem KeyProblem
	}{
		{name: "RSA pair deleted", of: TAVSigning, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, private, public) }},
		{name: "RSA private half deleted", of: TAVSigning, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, private) }},
		{name: "RSA public half deleted", of: TAVSigning, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, public) }},
		{name: "RSA pair replaced", of: TAVSigning, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, private, public); otherRSA(t, u, k) }},
		{name: "RSA private half replaced", of: TAVSigning, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, private)
				importRSAPrivate(t, u, k, hostRSA(t, 1))
			}},
		{name: "RSA public half replaced", of: TAVSigning, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, public)
				importRSAPublic(t, u, k, &hostRSA(t, 1).PublicKey)
			}},
		{name: "RSA private half replaced by one that may not sign", of: TAVSigning, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, private)
				importRSAPrivate(t, u, k, hostRSA(t, 0), pkcs11.NewAttribute(pkcs11.CKA_SIGN, false))
			}},
		{name: "RSA private half replaced by a secret key", of: TAVSigning, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, private)
				k.Algorithm = HMACSHA256
				importSecret(t, u, k, fill(9))
			}},
		{name: "RSA public half replaced by one of a kind we do not know", of: TAVSigning, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, public)
				createP384(t, u, k)
			}},
		{name: "second RSA pair under the CKA_ID", of: TAVSigning, problem: KeyAmbiguous, spoil: otherRSA},
		{name: "second RSA private half under the CKA_ID", of: TAVSigning, problem: KeyAmbiguous,
			spoil: func(t *testing.T, u *unit, k Key) { importRSAPrivate(t, u, k, hostRSA(t, 0)) }},
		{name: "second RSA public half under the CKA_ID", of: TAVSigning, problem: KeyAmbiguous,
			spoil: func(t *testing.T, u *unit, k Key) { importRSAPublic(t, u, k, &hostRSA(t, 1).PublicKey) }},
		{name: "RSA pin of another key", of: TAVSigning, problem: KeyLost,
			edit: func(k *Key) { k.Pins = map[string]Pin{member: pinSPKI + ":" + "00"} }},
		{name: "RSA key without a pin", of: TAVSigning, problem: KeyUnpinned,
			edit: func(k *Key) { k.Pins = nil }},
		{name: "RSA key pinned on another member only", of: TAVSigning, problem: KeyUnpinned,
			edit: func(k *Key) { k.Pins = map[string]Pin{"hsm-b": k.Pins[member]} }},

		{name: "AES key deleted", of: CardVault, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, secretKey) }},
		{name: "AES key replaced", of: CardVault, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, secretKey); importSecret(t, u, k, fill(9)) }},
		{name: "AES key replaced by an HMAC key", of: CardVault, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, secretKey)
				k.Algorithm = HMACSHA256
				importSecret(t, u, k, fill(1))
			}},
		{name: "second AES key under the CKA_ID", of: CardVault, problem: KeyAmbiguous,
			spoil: func(t *testing.T, u *unit, k Key) { importSecret(t, u, k, fill(1)) }},
		{name: "AES key of another entry's name", of: CardVault, problem: KeyLost, // the pin's associated data names it
			edit: func(k *Key) { k.Name = "vault-2" }},
		{name: "AES key without a pin", of: CardVault, problem: KeyUnpinned,
			edit: func(k *Key) { k.Pins = nil }},

		{name: "HMAC key deleted", of: CardIndex, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, secretKey) }},
		{name: "HMAC key replaced", of: CardIndex, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, secretKey); importSecret(t, u, k, fill(9)) }},
		{name: "HMAC key replaced by an AES key", of: CardIndex, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, secretKey)
				k.Algorithm = AES256
				importSecret(t, u, k, fill(2))
			}},
		{name: "HMAC key of another entry's name", of: CardIndex, problem: KeyLost,
			edit: func(k *Key) { k.Name = "index-2" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			on := softhsm.New(t)
			tav, vault, index := stock(t, on)
			keys := []Key{tav, vault, index}
			spoilt := slices.IndexFunc(keys, func(k Key) bool { return k.Purpose == tc.of })
			if tc.spoil != nil {
				change(t, on, func(u *unit) { tc.spoil(t, u, keys[spoilt]) })
			}
			if tc.edit != nil {
				tc.edit(&keys[spoilt])
			}
			// The spoilt key comes first, so that it could disturb the others.
			keys[0], keys[spoilt] = keys[spoilt], keys[0]

			tok := open(t, on, ringOf(keys...))
			for i, k := range keys {
				if i == 0 {
					requireKeyError(t, use(tok, k), k.Name, tc.problem)
					_, err := tok.Active(k.Purpose)
					requireKeyError(t, err, k.Name, tc.problem)
					_, err = tok.Public(k.Name)
					requireKeyError(t, err, k.Name, tc.problem)
					if got := tok.Keys()[i].Problem; got != tc.problem {
						t.Errorf("reported as %q, want %q", got, tc.problem)
					}
					continue
				}
				if err := use(tok, k); err != nil {
					t.Errorf("%s: %v", k.Name, err)
				}
				if got := tok.Keys()[i].Problem; got != "" {
					t.Errorf("%s is reported as %q", k.Name, got)
				}
			}
		})
	}
}

// createP384 puts the public half of an EC pair on a curve we do not use under k's
// CKA_ID.
func createP384(t *testing.T, u *unit, k Key) {
	t.Helper()
	_, _, err := u.e.ctx.GenerateKeyPair(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}),
		},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNameThatIsNotListedIsRefused(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	for _, p := range Purposes() {
		requireKeyError(t, use(tok, entry("nobody", p)), "nobody", KeyNotListed)
		_, err := tok.Active(p)
		requireKeyError(t, err, string(p), KeyNotListed)
	}
	_, err := tok.Key("nobody")
	requireKeyError(t, err, "nobody", KeyNotListed)
}

// A key of one purpose does no work of another kind, whatever name the caller gives.
func TestKeyDoesNoWorkOfAnotherKind(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	tok := open(t, on, ringOf(tav, vault, index))
	for _, k := range []Key{tav, vault, index} {
		for _, p := range Purposes() {
			if p == k.Purpose {
				continue
			}
			disguised := k
			disguised.Purpose = p
			if err := use(tok, disguised); err == nil {
				t.Errorf("%s did the work of %s", k.Name, p)
			}
		}
	}
	for _, k := range []Key{tav, vault, index} {
		if err := use(tok, k); err != nil {
			t.Errorf("%s afterwards: %v", k.Name, err)
		}
	}
}

// A retired key opens, verifies and finds what it made, and makes nothing new.
func TestRetiredKeyOnlyOpensAndVerifies(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	ctx, iv := context.Background(), make([]byte, gcmIV)

	before := open(t, on, ringOf(tav, vault, index))
	sealed, err := before.EncryptGCM(ctx, vault.Name, iv, nil, []byte("card"))
	if err != nil {
		t.Fatal(err)
	}
	mac, err := before.HMAC(ctx, index.Name, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	shut(t, before)

	for _, k := range []*Key{&tav, &vault, &index} {
		k.State = Retired
	}
	tok := open(t, on, ringOf(tav, vault, index))
	requireKeyError(t, use(tok, tav), tav.Name, KeyRetired)
	requireKeyError(t, use(tok, vault), vault.Name, KeyRetired)
	if pub, err := tok.Public(tav.Name); err != nil || !hostRSA(t, 0).PublicKey.Equal(pub) {
		t.Errorf("public key is %v, %v", pub, err)
	}
	if clear, err := tok.DecryptGCM(ctx, vault.Name, iv, nil, sealed); err != nil || string(clear) != "card" {
		t.Errorf("opened %q, %v", clear, err)
	}
	if got, err := tok.HMAC(ctx, index.Name, []byte("data")); err != nil || !bytes.Equal(got, mac) {
		t.Errorf("HMAC is %x, %v; want %x", got, err, mac)
	}
	for _, p := range Purposes() {
		_, err := tok.Active(p)
		requireKeyError(t, err, string(p), KeyNotListed)
	}
}

// A key that is next in line works, but new work does not choose it.
func TestNextKeyIsReadyAndNotChosen(t *testing.T) {
	on := softhsm.New(t)
	_, vault, _ := stock(t, on)
	var next Key
	change(t, on, func(u *unit) { next = importSecret(t, u, entry("vault-next", CardVault), fill(3)) })
	next.State = Next
	tok := open(t, on, ringOf(next, vault))
	if k, err := tok.Active(CardVault); err != nil || k.Name != vault.Name {
		t.Errorf("active is %s, %v", k.Name, err)
	}
	if _, err := tok.Key(next.Name); err != nil {
		t.Error(err)
	}
}

func TestKeysThatAreNotListedAreReportedAndUnused(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	tok := open(t, on, ringOf(index))
	var got []string
	for _, o := range tok.Unlisted() {
		got = append(got, o.Class+" "+o.Label+" "+o.ID)
	}
	want := []string{ClassPrivateKey + " tav " + tav.ID, ClassSecretKey + " vault " + vault.ID}
	if !slices.Equal(got, want) {
		t.Errorf("unlisted are %q\nwant %q", got, want)
	}
	requireKeyError(t, use(tok, tav), tav.Name, KeyNotListed)
	requireKeyError(t, use(tok, vault), vault.Name, KeyNotListed)
}

// An entry that joins the keyring after the token was opened has not been proved.
func TestKeyIsNotUsedBeforeItWasProved(t *testing.T) {
	on := softhsm.New(t)
	_, vault, index := stock(t, on)
	ring := ringOf(index)
	tok := open(t, on, ring)
	ring.Keys = append(ring.Keys, vault)
	requireKeyError(t, use(tok, vault), vault.Name, KeyNotListed)
	_, err := tok.Active(CardVault)
	requireKeyError(t, err, vault.Name, KeyNotListed)
	status := tok.Keys()
	if len(status) != 2 || status[0].Problem != "" || status[1].Problem != KeyNotListed {
		t.Errorf("keys are %+v", status)
	}
}

// Many keys cost one enumeration: none is left out when a search is answered in parts.
func TestManyKeysAreAllFound(t *testing.T) {
	on := softhsm.New(t)
	var ring []Key
	change(t, on, func(u *unit) {
		for i := range 300 {
			k := entry(fmt.Sprintf("index-%d", i), CardIndex)
			k.State = Next
			ring = append(ring, importSecret(t, u, k, sha(k.Name)))
		}
	})
	tok := open(t, on, ringOf(ring...))
	for _, s := range tok.Keys() {
		if s.Problem != "" {
			t.Errorf("%s %s", s.Name, s.Problem)
		}
	}
	if len(tok.Unlisted()) != 0 {
		t.Errorf("unlisted: %v", tok.Unlisted())
	}
}
