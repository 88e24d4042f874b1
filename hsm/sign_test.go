package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

func TestSignaturesAreTheStandardsOwn(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	tok := open(t, on, ringOf(tav))
	key := hostRSA(t, 0)
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		h := hash.New()
		h.Write([]byte("message"))
		digest := h.Sum(nil)
		sig, err := tok.Sign(context.Background(), tav.Name, digest, hash)
		if err != nil {
			t.Fatal(err)
		}
		// RSASSA-PKCS1-v1_5 has one signature a key and message.
		want, err := rsa.SignPKCS1v15(nil, key, hash, digest)
		if err != nil || !bytes.Equal(sig, want) {
			t.Errorf("%v: signature is %x\nwant %x (%v)", hash, sig, want, err)
		}
	}
}

// ECDSA has many signatures a key and message, and any that verifies is one. Longer
// digests count with their first 32 bytes, whether a module knows that or not.
func TestECSignaturesVerify(t *testing.T) {
	test := func(t *testing.T, on *softhsm.Token) {
		maker := open(t, on, ringOf())
		key, _, err := maker.Generate(context.Background(), NewKey{Name: "proximity", Purpose: ProximityToken}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		shut(t, maker)
		tok := open(t, on, ringOf(key))
		pub, err := tok.Public(key.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			h := hash.New()
			h.Write([]byte("message"))
			digest := h.Sum(nil)
			sig, err := tok.Sign(context.Background(), key.Name, digest, hash)
			if err != nil {
				t.Fatal(err)
			}
			requireVerifies(t, pub, hash, digest, sig)
			digest[0] ^= 1
			if ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest, sig) {
				t.Errorf("%v: the signature is good for another digest", hash)
			}
		}
	}
	onEveryModule(t, test)
	t.Run("SoftHSM that takes 32 bytes only", func(t *testing.T) {
		on := softhsm.New(t)
		shim(t, on)
		misbehave(t, on, "strict")
		test(t, on)
	})
}

func TestDigestOfTheWrongLengthIsNotSigned(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	proximity := stockEC(t, on, "proximity", ProximityToken)
	tok := open(t, on, ringOf(tav, proximity))
	for _, tc := range []struct {
		name   string
		digest []byte
		hash   crypto.Hash
	}{
		{"empty", nil, crypto.SHA256},
		{"a SHA-1 digest as SHA-256", make([]byte, 20), crypto.SHA256},
		{"one byte short", make([]byte, 31), crypto.SHA256},
		{"one byte long", make([]byte, 33), crypto.SHA256},
		{"a SHA-256 digest as SHA-512", make([]byte, 32), crypto.SHA512},
		{"no hash", make([]byte, 32), crypto.Hash(0)},
		{"the message itself", []byte("message"), crypto.Hash(0)},
		{"a SHA-1 digest", make([]byte, 20), crypto.SHA1},
		{"a hash of the right length that crypto11 has no name for", make([]byte, 32), crypto.SHA3_256},
	} {
		for _, key := range []Key{tav, proximity} {
			t.Run(tc.name+", "+string(key.Algorithm), func(t *testing.T) {
				sig, err := tok.Sign(context.Background(), key.Name, tc.digest, tc.hash)
				if err == nil || sig != nil {
					t.Fatalf("signed: %x, %v", sig, err)
				}
				if _, ok := retryAfter(err); ok {
					t.Errorf("%v invites to try again", err)
				}
			})
		}
	}
	for _, key := range []Key{tav, proximity} {
		if sig, err := tok.Sign(context.Background(), key.Name, sha("message"), nil); err == nil {
			t.Errorf("%s: without options signed %x", key.Name, sig)
		}
		requireSigns(t, tok, key.Name)
	}
}

// PSS is refused before the token is asked, also where it would not refuse it: this key
// was imported without a list of what it may do. The key is none the worse for it.
func TestPSSIsRefused(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	calls := shim(t, on)
	tok := open(t, on, ringOf(tav))
	before := calls("C_Sign")
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	sig, err := tok.Sign(context.Background(), tav.Name, sha("message"), opts)
	if err == nil || sig != nil || !strings.Contains(err.Error(), "PSS") {
		t.Errorf("signed %x, %v", sig, err)
	}
	if _, ok := retryAfter(err); ok {
		t.Errorf("%v invites to try again", err)
	}
	if n := calls("C_Sign") - before; n != 0 {
		t.Errorf("the token was asked for %d signatures", n)
	}
	requireSigns(t, tok, tav.Name)
}

func TestManySignaturesAtOnce(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	tok := open(t, on, ringOf(tav), func(c *Config) { c.RSAConcurrency = 3 }) // fewer than callers
	want, err := rsa.SignPKCS1v15(nil, hostRSA(t, 0), crypto.SHA256, sha("message"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for range 4 {
				sig, err := tok.Sign(context.Background(), tav.Name, sha("message"), crypto.SHA256)
				if err != nil || !slices.Equal(sig, want) {
					t.Errorf("signature is %x, %v", sig, err)
				}
			}
		})
	}
	wg.Wait()
}
