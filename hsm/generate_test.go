package hsm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// flags are the boolean attributes of a key, by name.
var flags = []struct {
	name string
	typ  uint
}{
	{"TOKEN", pkcs11.CKA_TOKEN},
	{"PRIVATE", pkcs11.CKA_PRIVATE},
	{"SENSITIVE", pkcs11.CKA_SENSITIVE},
	{"ALWAYS_SENSITIVE", pkcs11.CKA_ALWAYS_SENSITIVE},
	{"EXTRACTABLE", pkcs11.CKA_EXTRACTABLE},
	{"NEVER_EXTRACTABLE", pkcs11.CKA_NEVER_EXTRACTABLE},
	{"LOCAL", pkcs11.CKA_LOCAL},
	{"MODIFIABLE", pkcs11.CKA_MODIFIABLE},
	{"COPYABLE", pkcs11.CKA_COPYABLE},
	{"ENCRYPT", pkcs11.CKA_ENCRYPT},
	{"DECRYPT", pkcs11.CKA_DECRYPT},
	{"SIGN", pkcs11.CKA_SIGN},
	{"SIGN_RECOVER", pkcs11.CKA_SIGN_RECOVER},
	{"VERIFY", pkcs11.CKA_VERIFY},
	{"VERIFY_RECOVER", pkcs11.CKA_VERIFY_RECOVER},
	{"WRAP", pkcs11.CKA_WRAP},
	{"UNWRAP", pkcs11.CKA_UNWRAP},
	{"DERIVE", pkcs11.CKA_DERIVE},
}

// flagsOf reads which flags of an object are true. An attribute that objects of this
// class do not have is not true.
func flagsOf(t *testing.T, u *unit, h handle) string {
	t.Helper()
	var set []string
	for _, f := range flags {
		at, err := u.attributes(h, f.typ)
		var e *Error
		if errors.As(err, &e) && e.Code == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		if len(at[0]) == 1 && at[0][0] == 1 {
			set = append(set, f.name)
		}
	}
	return strings.Join(set, " ")
}

const (
	protected = "TOKEN PRIVATE SENSITIVE ALWAYS_SENSITIVE NEVER_EXTRACTABLE LOCAL"
	secretKey = pkcs11.CKO_SECRET_KEY
	private   = pkcs11.CKO_PRIVATE_KEY
	public    = pkcs11.CKO_PUBLIC_KEY
)

// Each purpose's key is made in the token with exactly the flags of its one use, is
// pinned, and after the keyring lists it and the token is opened anew it does its work
// and nothing else.
func TestKeyMadeForAPurposeServesThatPurposeOnly(t *testing.T) {
	on := softhsm.New(t)
	file := filepath.Join(t.TempDir(), "keyring.yaml")
	now := time.Date(2026, 11, 22, 23, 30, 0, 0, time.FixedZone("", -3600)) // the 23rd in UTC
	type want struct {
		class     uint
		flags     string // of the private or secret key
		mechanism uint   // the only one allowed
		keyGen    uint
		values    []uint // what must not be readable
		use       func(t *testing.T, tok *Token, name string)
	}
	signs := func(t *testing.T, tok *Token, name string) { requireSigns(t, tok, name) }
	rsaKey := want{private, protected + " SIGN", pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN,
		[]uint{pkcs11.CKA_PRIVATE_EXPONENT, pkcs11.CKA_PRIME_1, pkcs11.CKA_PRIME_2, pkcs11.CKA_EXPONENT_1, pkcs11.CKA_EXPONENT_2, pkcs11.CKA_COEFFICIENT}, signs}
	ecKey := want{private, protected + " SIGN", pkcs11.CKM_ECDSA, pkcs11.CKM_EC_KEY_PAIR_GEN, []uint{pkcs11.CKA_VALUE}, signs}
	macKey := want{secretKey, protected + " SIGN", pkcs11.CKM_SHA256_HMAC, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, []uint{pkcs11.CKA_VALUE},
		func(t *testing.T, tok *Token, name string) {
			if _, err := tok.HMAC(context.Background(), name, []byte("data")); err != nil {
				t.Fatal(err)
			}
		}}
	cases := []struct {
		purpose Purpose
		want
	}{
		{TAVSigning, rsaKey},
		{MerchantJWT, rsaKey},
		{ProximityToken, ecKey},
		{APITLS, ecKey},
		{AuditCheckpoint, ecKey},
		{AuditReport, ecKey},
		{NetworkOTP, rsaKey},
		{ConnectorJWS, ecKey},
		{CardTransport, want{private, protected + " DERIVE", pkcs11.CKM_ECDH1_DERIVE, pkcs11.CKM_EC_KEY_PAIR_GEN, []uint{pkcs11.CKA_VALUE}, requireAgrees}},
		{VisaZone, want{secretKey, protected + " ENCRYPT", pkcs11.CKM_DES3_CBC, pkcs11.CKM_DES3_KEY_GEN, []uint{pkcs11.CKA_VALUE},
			func(t *testing.T, tok *Token, name string) {
				if _, err := tok.EncryptTDEA(context.Background(), name, make([]byte, 56)); err != nil {
					t.Fatal(err)
				}
			}}},
		{Pass, rsaKey},
		{CardVault, want{secretKey, protected + " ENCRYPT DECRYPT", pkcs11.CKM_AES_GCM, pkcs11.CKM_AES_KEY_GEN, []uint{pkcs11.CKA_VALUE}, requireSeals}},
		{CardIndex, macKey},
		{Passcode, macKey},
	}
	if len(cases) != len(Purposes()) {
		t.Fatalf("%d purposes are tried here, and there are %v", len(cases), Purposes())
	}

	ring := ringOf()
	maker := open(t, on, ringOf())
	for _, tc := range cases {
		name := "new-" + string(tc.purpose)
		key, narrowed, err := maker.Generate(context.Background(), NewKey{Name: name, Purpose: tc.purpose}, now)
		if err != nil {
			t.Fatal(err)
		}
		if !narrowed {
			t.Errorf("%s: the token did not take the allowed mechanisms", name)
		}
		if key.Name != name || key.Purpose != tc.purpose || key.Algorithm != tc.purpose.DefaultAlgorithm() ||
			key.Provenance != Generated || key.State != Active || key.Created != "2026-11-23" || len(key.Pins) != 1 {
			t.Errorf("entry is %+v", key)
		}
		if _, err := maker.Key(name); err == nil {
			t.Errorf("%s is usable before the keyring lists it", name)
		}
		ring.Keys = append(ring.Keys, key)
	}
	if err := ring.Save(file); err != nil {
		t.Fatal(err)
	}
	shut(t, maker)

	reviewed, err := LoadKeyring(file)
	if err != nil {
		t.Fatal(err)
	}
	tok := open(t, on, reviewed)
	if len(tok.Unlisted()) != 0 {
		t.Errorf("unlisted: %v", tok.Unlisted())
	}
	for _, tc := range cases {
		t.Run(string(tc.purpose), func(t *testing.T) {
			key, err := tok.Active(tc.purpose)
			if err != nil {
				t.Fatal(err)
			}
			tc.use(t, tok, key.Name)
			operate(t, tok, func(u *unit) {
				found := withID(t, u, key, tc.class)
				if len(found) != 1 {
					t.Fatalf("%d keys under the CKA_ID, want 1", len(found))
				}
				h := found[0]
				if got := flagsOf(t, u, h); got != tc.flags {
					t.Errorf("flags are %s\nwant      %s", got, tc.flags)
				}
				at, err := u.attributes(h, pkcs11.CKA_ALLOWED_MECHANISMS, pkcs11.CKA_KEY_GEN_MECHANISM, pkcs11.CKA_LABEL)
				if err != nil {
					t.Fatal(err)
				}
				if len(at[0]) != 8 || ulong(at[0]) != tc.mechanism || ulong(at[1]) != tc.keyGen || string(at[2]) != key.Name {
					t.Errorf("allowed mechanisms %x, made by %x, label %s", at[0], at[1], at[2])
				}
				for _, v := range tc.values {
					requireCode(t, second(u.attributes(h, v)), pkcs11.CKR_ATTRIBUTE_SENSITIVE)
				}
				requireCannotBeLoosened(t, u, h, tc.purpose.agrees())
			})
		})
	}
	for _, p := range []Purpose{TAVSigning, ProximityToken} {
		t.Run("public half for "+string(p), func(t *testing.T) {
			key, err := tok.Active(p)
			if err != nil {
				t.Fatal(err)
			}
			operate(t, tok, func(u *unit) {
				if got := flagsOf(t, u, withID(t, u, key, public)[0]); got != "TOKEN LOCAL COPYABLE VERIFY" {
					t.Errorf("flags are %s", got)
				}
			})
			pub, err := tok.Public(key.Name)
			if err != nil || pinOf(t, pub) != key.Pins[member] {
				t.Errorf("public key is %v, %v, pinned by %s", pub, err, key.Pins[member])
			}
			switch k := pub.(type) {
			case *rsa.PublicKey:
				if k.N.BitLen() != 2048 || k.E != 65537 {
					t.Errorf("RSA key of %d bits with exponent %d", k.N.BitLen(), k.E)
				}
			case *ecdsa.PublicKey:
				if k.Curve != elliptic.P256() {
					t.Errorf("EC key on %s", k.Params().Name)
				}
			}
		})
	}
}

// A purpose with several lengths of key gets each of them.
func TestMerchantKeyHasTheLengthAskedFor(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	for algorithm, bits := range map[Algorithm]int{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096} {
		key, _, err := tok.Generate(context.Background(), NewKey{Name: "jwt-" + strings.ToLower(string(algorithm)), Purpose: MerchantJWT, Algorithm: algorithm}, time.Now())
		if err != nil || key.Algorithm != algorithm {
			t.Fatalf("entry is %+v, %v", key, err)
		}
		operate(t, tok, func(u *unit) {
			pub, err := u.publicKey(withID(t, u, key, public)[0], pkcs11.CKK_RSA)
			if err != nil || pub.(*rsa.PublicKey).N.BitLen() != bits || pinOf(t, pub) != key.Pins[member] {
				t.Errorf("%s: public key is %v, %v", algorithm, pub, err)
			}
		})
	}
}

func second[A any](_ A, err error) error { return err }

// requireCode requires that a PKCS#11 call answered this code.
func requireCode(t *testing.T, err error, want uint) {
	t.Helper()
	var e *Error
	if !errors.As(ckr("call", err), &e) || e.Code != want {
		t.Errorf("error is %v, want %v", err, pkcs11.Error(want))
	}
}

// requireCannotBeLoosened tries what an intruder with the PIN would try. agrees says that
// agreeing is the key's own use.
func requireCannotBeLoosened(t *testing.T, u *unit, h handle, agrees bool) {
	t.Helper()
	for _, f := range flags {
		err := u.e.ctx.SetAttributeValue(u.s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(f.typ, true)})
		if err == nil {
			t.Errorf("%s could be set", f.name)
		}
	}
	loose := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, true)}
	if _, err := u.e.ctx.CopyObject(u.s, h, loose); err == nil {
		t.Error("the key could be copied")
	}
	for _, other := range []*pkcs11.Mechanism{
		pkcs11.NewMechanism(pkcs11.CKM_SHA512_HMAC, nil),
		pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32)),
	} {
		if err := u.e.ctx.SignInit(u.s, []*pkcs11.Mechanism{other}, h); err == nil {
			t.Errorf("mechanism 0x%x, which is not allowed, was taken", other.Mechanism)
		}
	}
	if _, err := u.deriveZ(h, receiver(t).PublicKey().Bytes(), kdf{way: kdfReadAndWipe}); err == nil && !agrees {
		t.Error("the key agreed on another")
	}
}

// requireSeals requires that the AES key called name opens what it sealed.
func requireSeals(t *testing.T, tok *Token, name string) {
	t.Helper()
	iv := []byte("unique nonce")
	sealed, err := tok.EncryptGCM(context.Background(), name, iv, []byte("row 7"), []byte("card"))
	if err != nil {
		t.Fatal(err)
	}
	clear, err := tok.DecryptGCM(context.Background(), name, iv, []byte("row 7"), sealed)
	if err != nil || !bytes.Equal(clear, []byte("card")) {
		t.Fatalf("opened %q, %v", clear, err)
	}
}

func TestNameIsGivenOnce(t *testing.T) {
	on := softhsm.New(t)
	now := time.Now()
	tok := open(t, on, ringOf(entry("listed", CardVault)))
	made, _, err := tok.Generate(context.Background(), NewKey{Name: "made", Purpose: CardIndex}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		key     string
		purpose Purpose
	}{
		{"a name in the keyring", "listed", CardVault},
		{"a name on the token", "made", CardIndex},
		{"a name on the token, for another purpose", "made", CardVault},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := tok.Generate(context.Background(), NewKey{Name: tc.key, Purpose: tc.purpose}, now)
			if !errors.Is(err, ErrKeyExists) {
				t.Fatalf("error is %v, want ErrKeyExists", err)
			}
		})
	}
	operate(t, tok, func(u *unit) {
		all, err := u.objects()
		if err != nil || len(all) != 1 || all[0].ID != made.ID {
			t.Errorf("keys on the token: %v, %v; want only %s", all, err, made.ID)
		}
	})
}

func TestKeyThatTheKeyringCouldNotHoldIsNotMade(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	for _, n := range []NewKey{
		{Name: "", Purpose: CardVault},
		{Name: "Upper", Purpose: CardVault},
		{Name: "k", Purpose: "unknown"},
		{Name: "k"},
		{Name: "k", Purpose: TAVSigning, Algorithm: AES256},
		{Name: "k", Purpose: TAVSigning, Algorithm: RSA3072},
		{Name: "k", Purpose: MerchantJWT, Algorithm: P256},
		{Name: "k", Purpose: ProximityToken, Algorithm: RSA2048},
		{Name: "k", Purpose: APITLS, Algorithm: RSA2048},
		{Name: "k", Purpose: CardVault, State: "asleep"},
	} {
		if _, _, err := tok.Generate(context.Background(), n, time.Now()); err == nil {
			t.Errorf("%+v was made", n)
		}
	}
	operate(t, tok, func(u *unit) {
		if all, err := u.objects(); err != nil || len(all) != 0 {
			t.Errorf("keys on the token: %v, %v", all, err)
		}
	})
}

// Keys of equal name and purpose made on two tokens are different keys.
func TestKeysAreNotMadeTwice(t *testing.T) {
	on := softhsm.New(t)
	other, err := on.Add("other")
	if err != nil {
		t.Fatal(err)
	}
	var keys []Key
	for _, token := range []*softhsm.Token{on, other} {
		k, _, err := open(t, token, ringOf()).Generate(context.Background(), NewKey{Name: "index", Purpose: CardIndex, State: Next}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if id, err := hex.DecodeString(k.ID); err != nil || len(id) != 16 || k.State != Next {
			t.Errorf("entry is %+v", k)
		}
		keys = append(keys, k)
	}
	if keys[0].ID == keys[1].ID || keys[0].Pins[member] == keys[1].Pins[member] {
		t.Errorf("two keys are alike: %+v", keys)
	}
}
