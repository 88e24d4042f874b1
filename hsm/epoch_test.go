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

// stockEC puts an EC signing key of a purpose on the token.
func stockEC(t *testing.T, on *softhsm.Token, name string, p Purpose) (key Key) {
	t.Helper()
	change(t, on, func(u *unit) { key = importEC(t, u, entry(name, p), freshEC(t)) })
	return key
}

// work of each kind that a key may be asked for.
var kinds = map[string]func(tok *Token, name string) error{
	"signing": func(tok *Token, name string) error {
		return second(tok.Sign(context.Background(), name, sha("message"), crypto.SHA256))
	},
	"encryption": func(tok *Token, name string) error {
		return second(tok.EncryptGCM(context.Background(), name, make([]byte, gcmIV), nil, []byte("card")))
	},
	"HMAC": func(tok *Token, name string) error {
		return second(tok.HMAC(context.Background(), name, []byte("data")))
	},
}

// kind is the one kind of work that a key of an algorithm is for.
func kind(a Algorithm) string {
	switch {
	case a.Public():
		return "signing"
	case a == AES256:
		return "encryption"
	default:
		return "HMAC"
	}
}

// use tries the one use of a key.
func use(tok *Token, k Key) error { return kinds[kind(k.Algorithm)](tok, k.Name) }

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

		{name: "EC pair deleted", of: ProximityToken, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, private, public) }},
		{name: "EC public half deleted", of: ProximityToken, problem: KeyMissing,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, public) }},
		{name: "EC pair replaced", of: ProximityToken, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, private, public)
				importEC(t, u, k, freshEC(t))
			}},
		{name: "EC pair replaced by an RSA pair", of: ProximityToken, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, private, public); otherRSA(t, u, k) }},
		{name: "EC private half replaced", of: ProximityToken, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, private)
				importECPrivate(t, u, k, freshEC(t))
			}},
		{name: "EC public half replaced", of: ProximityToken, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) {
				remove(t, u, k, public)
				importECPublic(t, u, k, &freshEC(t).PublicKey)
			}},
		{name: "EC public half replaced by one on another curve", of: ProximityToken, problem: KeyLost,
			spoil: func(t *testing.T, u *unit, k Key) { remove(t, u, k, public); createP384(t, u, k) }},
		{name: "second EC private half under the CKA_ID", of: ProximityToken, problem: KeyAmbiguous,
			spoil: func(t *testing.T, u *unit, k Key) { importECPrivate(t, u, k, freshEC(t)) }},
		{name: "EC key without a pin", of: ProximityToken, problem: KeyUnpinned,
			edit: func(k *Key) { k.Pins = nil }},

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
			keys := []Key{tav, vault, index, stockEC(t, on, "proximity", ProximityToken)}
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

// A key of one kind does no work of another, whatever name the caller gives. Purposes of
// the same kind are alike to the token; to keep them apart is for who chooses the key.
func TestKeyDoesNoWorkOfAnotherKind(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	keys := []Key{tav, vault, index, stockEC(t, on, "proximity", ProximityToken), stockEC(t, on, "tls", APITLS)}
	tok := open(t, on, ringOf(keys...))
	for _, k := range keys {
		for work, do := range kinds {
			if work == kind(k.Algorithm) {
				continue
			}
			if err := do(tok, k.Name); err == nil {
				t.Errorf("%s did %s", k.Name, work)
			}
		}
	}
	for _, k := range keys {
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
	requireKeyError(t, tok.SelfTest(ctx, tav.Name), tav.Name, KeyRetired)
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

// A key that is next in line is published, opens what another process may have made with
// it already, and makes nothing here: not chosen, and not by its name.
func TestNextKeyIsReadyAndMakesNothing(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	var nexts []Key
	change(t, on, func(u *unit) {
		nexts = []Key{
			importRSA(t, u, entry("tav-next", TAVSigning), hostRSA(t, 1)),
			importEC(t, u, entry("proximity-next", ProximityToken), freshEC(t)),
			importSecret(t, u, entry("vault-next", CardVault), fill(3)),
			importSecret(t, u, entry("index-next", CardIndex), fill(4)),
		}
	})
	elsewhere := open(t, on, ringOf(nexts...))
	ctx, iv := context.Background(), make([]byte, gcmIV)
	sealed, err := elsewhere.EncryptGCM(ctx, "vault-next", iv, nil, []byte("card"))
	if err != nil {
		t.Fatal(err)
	}
	shut(t, elsewhere)

	for i := range nexts {
		nexts[i].State = Next
	}
	tok := open(t, on, ringOf(append(nexts, tav, vault, index)...))
	for _, active := range []Key{tav, vault, index} {
		if k, err := tok.Active(active.Purpose); err != nil || k.Name != active.Name {
			t.Errorf("active is %s, %v", k.Name, err)
		}
	}
	for _, next := range nexts {
		if _, err := tok.Key(next.Name); err != nil {
			t.Error(err)
		}
		if next.Algorithm.Public() {
			pub, err := tok.Public(next.Name)
			if err != nil || pinOf(t, pub) != next.Pins[member] {
				t.Errorf("public key of %s is %v, %v", next.Name, pub, err)
			}
			requireKeyError(t, use(tok, next), next.Name, KeyNext)
			if err := tok.SelfTest(ctx, next.Name); err != nil {
				t.Errorf("self-test of %s: %v", next.Name, err)
			}
		}
	}
	requireKeyError(t, kinds["encryption"](tok, "vault-next"), "vault-next", KeyNext)
	if clear, err := tok.DecryptGCM(ctx, "vault-next", iv, nil, sealed); err != nil || string(clear) != "card" {
		t.Errorf("opened %q, %v", clear, err)
	}
	if err := kinds["HMAC"](tok, "index-next"); err != nil {
		t.Error(err)
	}
	_, err = tok.Active(ProximityToken)
	requireKeyError(t, err, string(ProximityToken), KeyNotListed)
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

// A module that gives a point bare has its EC keys found and proved, and not signed with:
// crypto11 does not read them. The others serve.
func TestKeyThatCryptoElevenCannotReadStaysAlone(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	proximity := stockEC(t, on, "a-proximity", ProximityToken) // the first to be tested
	shim(t, on)
	misbehave(t, on, "bare")
	tok := open(t, on, ringOf(proximity, tav, vault, index))
	requireKeyError(t, use(tok, proximity), proximity.Name, KeyUnreadable)
	if got := tok.Keys()[0].Problem; got != KeyUnreadable {
		t.Errorf("reported as %q", got)
	}
	for _, k := range []Key{tav, vault, index} {
		if err := use(tok, k); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
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
