package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/passkit/cms"
	"github.com/mintmark/mintmark/passkit/passtest"
)

var (
	noon    = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	content = []byte(`{"pass.json":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}`)
)

var authority = sync.OnceValue(func() *passtest.Authority {
	return must(passtest.New(noon))
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
var ecKey = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })

// signers are the two kinds of key that passes are signed with.
func signers() map[string]cms.Signer {
	return map[string]cms.Signer{
		"RSA-2048": must(authority().Signer(rsaKey())),
		"P-256":    must(authority().Signer(ecKey())),
	}
}

func sign(t *testing.T, s cms.Signer) []byte {
	t.Helper()
	der, err := cms.SignDetached(content, s, noon)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestWhatIsSignedVerifies(t *testing.T) {
	for name, s := range signers() {
		t.Run(name, func(t *testing.T) {
			signed, err := cms.Parse(sign(t, s))
			if err != nil {
				t.Fatal(err)
			}
			if err := signed.VerifyDetached(content); err != nil {
				t.Error(err)
			}
			if err := signed.VerifyDetached(append(content, ' ')); !errors.Is(err, cms.ErrContent) {
				t.Errorf("other content: %v", err)
			}
			if at, ok := signed.SigningTime(); !ok || !at.Equal(noon) {
				t.Errorf("signing time %v, %v", at, ok)
			}
			if c, err := signed.Signer(); err != nil || !c.Equal(s.Certificate) {
				t.Errorf("signer is not the leaf: %v", err)
			}
			if len(signed.Deviations) != 0 || signed.Hash() != crypto.SHA256 {
				t.Errorf("deviations %v, digest %v", signed.Deviations, signed.Hash())
			}
			if len(signed.Certificates) != 2 {
				t.Errorf("%d certificates, want leaf and intermediate", len(signed.Certificates))
			}
		})
	}
}

func TestTheIntermediateThatIssuedTheLeafIsPicked(t *testing.T) {
	s := signers()["RSA-2048"]
	right := s.Intermediates[0]
	impostor := must(passtest.New(noon)).Intermediate // the same name, another key
	s.Intermediates = []*x509.Certificate{impostor, authority().Root, right, s.Certificate}
	if got, err := s.Issuer(); err != nil || !got.Equal(right) {
		t.Errorf("picked %v, %v", got, err)
	}
	signed := must(cms.Parse(sign(t, s)))
	if slices.ContainsFunc(signed.Certificates, impostor.Equal) {
		t.Error("the impostor is in the signature")
	}
	s.Intermediates = []*x509.Certificate{impostor}
	if _, err := cms.SignDetached(content, s, noon); !errors.Is(err, cms.ErrSigner) {
		t.Errorf("signed without the issuer: %v", err)
	}
}

// lying is a token that answers with a signature over something else.
type lying struct{ crypto.Signer }

func (l lying) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	digest = bytes.Clone(digest)
	digest[0] ^= 1
	return l.Signer.Sign(r, digest, o)
}

var errToken = errors.New("token is gone")

// broken is a token that fails.
type broken struct{ crypto.Signer }

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errToken }

func TestWhatCannotBeSignedWithIsRefused(t *testing.T) {
	good := signers()["RSA-2048"]
	with := func(change func(*cms.Signer)) cms.Signer {
		s := good
		change(&s)
		return s
	}
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, c := range []struct {
		name   string
		signer cms.Signer
		now    time.Time
		want   error
	}{
		{"no key", with(func(s *cms.Signer) { s.Key = nil }), noon, cms.ErrSigner},
		{"no certificate", with(func(s *cms.Signer) { s.Certificate = nil }), noon, cms.ErrSigner},
		{"another RSA key", with(func(s *cms.Signer) { s.Key = must(rsa.GenerateKey(rand.Reader, 2048)) }), noon, cms.ErrSigner},
		{"a key of another kind", with(func(s *cms.Signer) { s.Key = ecKey() }), noon, cms.ErrSigner},
		{"P-384", must(authority().Signer(p384)), noon, cms.ErrSigner},
		{"a token that signs something else", with(func(s *cms.Signer) { s.Key = lying{s.Key} }), noon, cms.ErrSignature},
		{"a token that fails", with(func(s *cms.Signer) { s.Key = broken{s.Key} }), noon, errToken},
	} {
		if der, err := cms.SignDetached(content, c.signer, c.now); !errors.Is(err, c.want) || der != nil {
			t.Errorf("%s: %v, %d bytes", c.name, err, len(der))
		}
	}
	if _, err := cms.SignDetached(content, good, time.Time{}); err == nil {
		t.Error("signed without a time")
	}
}

func TestEveryFlippedByteOfTheSignerInfoIsFound(t *testing.T) {
	for name, s := range signers() {
		der := sign(t, s)
		info := decode(t, der).SignerInfo[0]
		for _, part := range [][]byte{info.Attributes.Bytes, info.Signature, info.ID.Serial.Bytes} {
			at := bytes.LastIndex(der, part)
			for i := range part {
				damaged := bytes.Clone(der)
				damaged[at+i] ^= 0x01
				signed, err := cms.Parse(damaged)
				if err == nil {
					err = signed.VerifyDetached(content)
				}
				if err == nil {
					t.Errorf("%s: byte %d of %x… may be flipped", name, i, part[:4])
				}
			}
		}
	}
}

func TestWhatIsNotSuchASignatureIsRefused(t *testing.T) {
	der := sign(t, signers()["P-256"])
	indefinite := append([]byte{0x30, 0x80}, append(bytes.Clone(der[4:]), 0, 0)...)
	padded := append([]byte{0x30, 0x83, 0, der[2], der[3]}, der[4:]...)
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"BER, indefinite":   indefinite,
		"BER, padded":       padded,
		"a byte after it":   append(bytes.Clone(der), 0),
		"not signedData":    bytes.Replace(der, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3}, 1),
		"attribute twice":   bytes.Replace(der, []byte{0xf7, 0x0d, 1, 9, 5}, []byte{0xf7, 0x0d, 1, 9, 3}, 1),
		"larger than a MiB": make([]byte, 1<<20+1),
	} {
		if _, err := cms.Parse(b); !errors.Is(err, cms.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range der {
		if _, err := cms.Parse(der[:n]); !errors.Is(err, cms.ErrMalformed) {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range signers() {
		f.Add(must(cms.SignDetached(content, s, noon)))
	}
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		signed, err := cms.Parse(der)
		if err != nil {
			if !errors.Is(err, cms.ErrMalformed) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		if signed.VerifyDetached(content) == nil {
			if c, err := signed.Signer(); err != nil || c == nil {
				t.Fatal("verified without a signer")
			}
		}
	})
}

func BenchmarkSignDetached(b *testing.B) {
	for name, s := range signers() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := cms.SignDetached(content, s, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
