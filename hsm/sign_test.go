package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"slices"
	"sync"
	"testing"

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

func TestDigestOfTheWrongLengthIsNotSigned(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	tok := open(t, on, ringOf(tav))
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
	} {
		t.Run(tc.name, func(t *testing.T) {
			sig, err := tok.Sign(context.Background(), tav.Name, tc.digest, tc.hash)
			if err == nil || sig != nil {
				t.Fatalf("signed: %x, %v", sig, err)
			}
			if _, ok := retryAfter(err); ok {
				t.Errorf("%v invites to try again", err)
			}
		})
	}
	requireSigns(t, tok, tav.Name)
}

// The key's mechanisms are the token's business too: PSS is refused by a key that was
// made for PKCS#1 v1.5.
func TestSchemeThatTheKeyDoesNotAllowIsRefused(t *testing.T) {
	on := softhsm.New(t)
	var key Key
	change(t, on, func(u *unit) {
		key = importRSA(t, u, entry("tav", TAVSigning), hostRSA(t, 0))
		remove(t, u, key, private)
		importRSAPrivate(t, u, key, hostRSA(t, 0), templateFor(key.Name, key.ckaID(), RSA2048).narrowing()...)
	})
	tok := open(t, on, ringOf(key))
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	_, err := tok.Sign(context.Background(), key.Name, sha("message"), opts)
	var e *Error
	if !errors.As(err, &e) || e.Class() != ClassRequest {
		t.Fatalf("error is %v, want an *Error of class request", err)
	}
	requireSigns(t, tok, key.Name)
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
