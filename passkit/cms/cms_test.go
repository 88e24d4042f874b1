package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// signedData is the structure as encoding/asn1 reads it: another reader than ours.
type signedData struct {
	Version    int
	Digests    []algorithm `asn1:"set"`
	Content    struct{ Type asn1.ObjectIdentifier }
	Certs      asn1.RawValue `asn1:"optional,tag:0"`
	SignerInfo []struct {
		Version int
		ID      struct {
			Issuer asn1.RawValue
			Serial asn1.RawValue
		}
		Digest     algorithm
		Attributes asn1.RawValue `asn1:"tag:0"`
		Algorithm  algorithm
		Signature  []byte
	} `asn1:"set"`
}

type algorithm struct {
	ID         asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

func decode(t *testing.T, der []byte) signedData {
	t.Helper()
	var outer struct {
		Type asn1.ObjectIdentifier
		Data signedData `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		t.Fatalf("not DER: %v, %d bytes left", err, len(rest))
	}
	return outer.Data
}

// attributes are the signed attributes, each in DER, in the order in which they stand.
func attributes(t *testing.T, der []byte) [][]byte {
	t.Helper()
	rest := decode(t, der).SignerInfo[0].Attributes.Bytes
	var found [][]byte
	for len(rest) > 0 {
		var a asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			t.Fatal(err)
		}
		found = append(found, a.FullBytes)
	}
	return found
}

func TestTheFormIsThatOfApplesPasses(t *testing.T) {
	null := []byte{5, 0}
	for name, want := range map[string]struct {
		algorithm  string
		parameters []byte
	}{
		"RSA-2048": {"1.2.840.113549.1.1.1", null},
		"P-256":    {"1.2.840.10045.4.3.2", nil},
	} {
		t.Run(name, func(t *testing.T) {
			der := sign(t, signers()[name])
			d := decode(t, der)
			info := d.SignerInfo[0]
			if d.Version != 1 || info.Version != 1 {
				t.Errorf("versions %d and %d, want 1", d.Version, info.Version)
			}
			const sha256 = "2.16.840.1.101.3.4.2.1"
			if d.Digests[0].ID.String() != sha256 || info.Digest.ID.String() != sha256 || info.Digest.Parameters.FullBytes != nil {
				t.Errorf("digest %v, %v", d.Digests, info.Digest)
			}
			if info.Algorithm.ID.String() != want.algorithm || !bytes.Equal(info.Algorithm.Parameters.FullBytes, want.parameters) {
				t.Errorf("signature algorithm %v %x", info.Algorithm.ID, info.Algorithm.Parameters.FullBytes)
			}
			as := attributes(t, der)
			if len(as) != 3 || !slices.IsSortedFunc(as, bytes.Compare) {
				t.Errorf("%d attributes, in DER order: %v", len(as), slices.IsSortedFunc(as, bytes.Compare))
			}
		})
	}
}

func TestSameInputTimeAndRSAKeyGiveSameBytes(t *testing.T) {
	s := signers()["RSA-2048"]
	if !bytes.Equal(sign(t, s), sign(t, s)) {
		t.Error("two signatures differ")
	}
	sameSecond := must(cms.SignDetached(content, s, noon.Add(time.Second-1).In(time.FixedZone("", 3600))))
	if !bytes.Equal(sign(t, s), sameSecond) {
		t.Error("a fraction of a second or the zone changes the signature")
	}
}

func TestSigningTimeChangesItsTypeIn2050(t *testing.T) {
	for _, c := range []struct {
		at  time.Time
		tag byte
	}{
		{time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), 23}, // UTCTime
		{time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), 24},      // GeneralizedTime
		{time.Date(2050, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), 23},
	} {
		der := must(cms.SignDetached(content, signers()["RSA-2048"], c.at))
		for _, a := range attributes(t, der) {
			var attribute struct {
				ID     asn1.ObjectIdentifier
				Values []asn1.RawValue `asn1:"set"`
			}
			if _, err := asn1.Unmarshal(a, &attribute); err != nil {
				t.Fatal(err)
			}
			if attribute.ID.String() == "1.2.840.113549.1.9.5" && attribute.Values[0].Tag != int(c.tag) {
				t.Errorf("%v has tag %d, want %d", c.at, attribute.Values[0].Tag, c.tag)
			}
		}
		if at, _ := must(cms.Parse(der)).SigningTime(); !at.Equal(c.at) {
			t.Errorf("%v reads back as %v", c.at, at)
		}
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

// openssl runs the tool. The tests need it; tools/ensure.sh installs it.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func writeFile(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(kind string, der ...[]byte) []byte {
	var out []byte
	for _, d := range der {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	return out
}

func TestOpensslAcceptsWhatIsSignedAndRefusesDamage(t *testing.T) {
	for name, s := range signers() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root := writeFile(t, dir, "root.pem", pemOf("CERTIFICATE", authority().Root.Raw))
			verify := func(content, signature []byte) (string, error) {
				return openssl(t, "cms", "-verify", "-inform", "DER",
					"-in", writeFile(t, dir, "signature", signature), "-content", writeFile(t, dir, "manifest.json", content),
					"-binary", "-CAfile", root, "-purpose", "any", "-attime", strconv.FormatInt(noon.Unix(), 10), "-out", os.DevNull)
			}
			der := sign(t, s)
			if out, err := verify(content, der); err != nil {
				t.Fatalf("openssl refuses: %s", out)
			}
			if _, err := verify(append(content, '\n'), der); err == nil {
				t.Error("openssl accepts another content")
			}
			// Every byte from the signed attributes to the end matters.
			info := decode(t, der).SignerInfo[0]
			for _, part := range [][]byte{info.Attributes.Bytes, info.Signature} {
				at := bytes.Index(der, part)
				for _, i := range []int{at + 3, at + len(part) - 1} {
					damaged := bytes.Clone(der)
					damaged[i] ^= 1
					if _, err := verify(content, damaged); err == nil {
						t.Errorf("openssl accepts a flipped bit at %d", i)
					}
				}
			}
		})
	}
}

func TestSignaturesOfOthersAreRead(t *testing.T) {
	dir := t.TempDir()
	s := signers()["RSA-2048"]
	key := writeFile(t, dir, "key.pem", pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(s.Key))))
	leaf := writeFile(t, dir, "leaf.pem", pemOf("CERTIFICATE", s.Certificate.Raw))
	wwdr := writeFile(t, dir, "wwdr.pem", pemOf("CERTIFICATE", s.Intermediates[0].Raw))
	manifest := writeFile(t, dir, "manifest.json", content)
	for _, c := range []struct {
		name string
		args []string
		want []cms.Deviation
	}{
		{"openssl cms", []string{"cms", "-md", "sha256"}, nil},
		{"openssl smime", []string{"smime", "-md", "sha256"}, nil},
		{"SHA-1", []string{"cms", "-md", "sha1"}, []cms.Deviation{cms.WeakDigest}},
		{"SHA-384", []string{"cms", "-md", "sha384"}, nil},
		{"SHA-512", []string{"cms", "-md", "sha512"}, nil},
		{"signer by key identifier", []string{"cms", "-keyid"}, nil},
		{"without attributes", []string{"cms", "-noattr"}, []cms.Deviation{cms.NoSignedAttributes}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(dir, "signature")
			args := append(c.args, "-sign", "-binary", "-in", manifest, "-signer", leaf, "-inkey", key, "-certfile", wwdr, "-outform", "DER", "-out", out)
			if msg, err := openssl(t, args...); err != nil {
				t.Fatal(msg)
			}
			signed, err := cms.Parse(must(os.ReadFile(out)))
			if err != nil {
				t.Fatal(err)
			}
			if err := signed.VerifyDetached(content); err != nil {
				t.Error(err)
			}
			if err := signed.VerifyDetached(content[1:]); err == nil {
				t.Error("another content verifies")
			}
			if !slices.Equal(signed.Deviations, c.want) {
				t.Errorf("deviations %v, want %v", signed.Deviations, c.want)
			}
		})
	}
}

// reorder writes the signed attributes in another order and signs them so, as tools do
// that do not sort; or leaves the signature, which was over the sorted ones.
func reorder(t *testing.T, s cms.Signer, signAgain bool) []byte {
	t.Helper()
	der := sign(t, s)
	as := attributes(t, der)
	turned := slices.Concat(as[2], as[0], as[1])
	out := bytes.Replace(der, slices.Concat(as...), turned, 1)
	if signAgain {
		set, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: turned})
		if err != nil {
			t.Fatal(err)
		}
		h := crypto.SHA256.New()
		h.Write(set)
		signature := must(s.Key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256))
		out = bytes.Replace(out, decode(t, der).SignerInfo[0].Signature, signature, 1)
	}
	return out
}

func TestAttributesInAnotherOrderVerifyAndAreReported(t *testing.T) {
	for _, signAgain := range []bool{true, false} {
		signed, err := cms.Parse(reorder(t, signers()["RSA-2048"], signAgain))
		if err != nil {
			t.Fatal(err)
		}
		if err := signed.VerifyDetached(content); err != nil {
			t.Errorf("signed as sent: %v: %v", signAgain, err)
		}
		if !slices.Contains(signed.Deviations, cms.AttributesUnordered) {
			t.Errorf("deviations %v", signed.Deviations)
		}
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

func TestAnEnclosedContentIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := signers()["RSA-2048"]
	out := filepath.Join(dir, "signature")
	if msg, err := openssl(t, "cms", "-sign", "-nodetach", "-binary", "-outform", "DER", "-out", out,
		"-in", writeFile(t, dir, "manifest.json", content),
		"-signer", writeFile(t, dir, "leaf.pem", pemOf("CERTIFICATE", s.Certificate.Raw)),
		"-inkey", writeFile(t, dir, "key.pem", pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(s.Key))))); err != nil {
		t.Fatal(msg)
	}
	_, err := cms.Parse(must(os.ReadFile(out)))
	if !errors.Is(err, cms.ErrMalformed) || !strings.Contains(err.Error(), "detached") {
		t.Error(err)
	}
}

func TestWithoutTheSignersCertificateNothingVerifies(t *testing.T) {
	dir := t.TempDir()
	s := signers()["RSA-2048"]
	out := filepath.Join(dir, "signature")
	if msg, err := openssl(t, "cms", "-sign", "-nocerts", "-binary", "-outform", "DER", "-out", out,
		"-in", writeFile(t, dir, "manifest.json", content),
		"-signer", writeFile(t, dir, "leaf.pem", pemOf("CERTIFICATE", s.Certificate.Raw)),
		"-inkey", writeFile(t, dir, "key.pem", pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(s.Key))))); err != nil {
		t.Fatal(msg)
	}
	signed, err := cms.Parse(must(os.ReadFile(out)))
	if err != nil {
		t.Fatal(err)
	}
	if err := signed.VerifyDetached(content); !errors.Is(err, cms.ErrNoSigner) {
		t.Error(err)
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
