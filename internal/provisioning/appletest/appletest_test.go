package appletest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newIssued(t *testing.T, options ...LeafOption) *Issued {
	t.Helper()
	apple, err := New(now)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := apple.Leaf(options...)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// The vector's recipient key is not public; its ephemeral key is, and ECDH gives
// both sides the same Z. So every step is checked from the other end.
func TestVectorV1OpensFromTheEphemeralSide(t *testing.T) {
	v := VectorV1
	ephemeral, err := ecdh.P256().NewPrivateKey(v.EphemeralPrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	static, err := ecdh.P256().NewPublicKey(v.StaticPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	z, err := ephemeral.ECDH(static)
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(v.KDFInput)
	for name, pair := range map[string][2][]byte{
		"ephemeral public key": {ephemeral.PublicKey().Bytes(), v.EphemeralPublicKey},
		"Z":                    {z, v.SharedSecret},
		"KDF input":            {kdfInput(z, v.EphemeralPublicKey), v.KDFInput},
		"AES key":              {key[:], v.AESKey},
		"IV":                   {make([]byte, 12), v.IV},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: got %x, want %x", name, pair[0], pair[1])
		}
	}
	plain, err := openShared(z, v.EphemeralPublicKey, v.Encrypted)
	if err != nil || !bytes.Equal(plain, v.Plaintext) {
		t.Errorf("opened %q, %v", plain, err)
	}
	if base64.StdEncoding.EncodeToString(v.EphemeralPublicKey) != v.EphemeralPublicKeyBase64 || base64.StdEncoding.EncodeToString(v.Encrypted) != v.EncryptedBase64 {
		t.Error("the Base64 forms are not those of the bytes")
	}
}

// sealFor seals with the vector's steps written out once more, as the other side.
func sealFor(t *testing.T, to *ecdh.PublicKey, plain []byte) (point, encrypted []byte) {
	t.Helper()
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	z, err := ephemeral.ECDH(to)
	if err != nil {
		t.Fatal(err)
	}
	point = ephemeral.PublicKey().Bytes()
	input := append([]byte("\x00\x00\x00\x01"), z...)
	input = append(append(input, "\x0did-aes256-GCMApple"...), point...)
	key := sha256.Sum256(input)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return point, gcm.Seal(nil, make([]byte, 12), plain, nil)
}

func TestOpenGivesThePayloadToItsRecipientOnly(t *testing.T) {
	issued, other := newIssued(t), newIssued(t)
	key, err := issued.LeafKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	point, encrypted := sealFor(t, key.PublicKey(), []byte(`{"version":"1"}`))
	if plain, err := issued.Open(point, encrypted); err != nil || string(plain) != `{"version":"1"}` {
		t.Fatalf("opened %q, %v", plain, err)
	}
	otherPoint, _ := sealFor(t, key.PublicKey(), nil)
	flipped := bytes.Clone(encrypted)
	flipped[0] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another recipient":   func() ([]byte, error) { return other.Open(point, encrypted) },
		"another ephemeral":   func() ([]byte, error) { return issued.Open(otherPoint, encrypted) },
		"a changed byte":      func() ([]byte, error) { return issued.Open(point, flipped) },
		"no tag":              func() ([]byte, error) { return issued.Open(point, encrypted[:15]) },
		"nothing":             func() ([]byte, error) { return issued.Open(point, nil) },
		"a compressed point":  func() ([]byte, error) { return issued.Open(append([]byte{2}, point[1:33]...), encrypted) },
		"a point off curve":   func() ([]byte, error) { return issued.Open(append([]byte{4}, make([]byte, 64)...), encrypted) },
		"a leaf on P-384":     func() ([]byte, error) { return newIssued(t, P384()).Open(point, encrypted) },
		"a leaf without keys": func() ([]byte, error) { return newIssued(t, RSA()).Open(point, encrypted) },
	} {
		if plain, err := open(); !errors.Is(err, ErrOpen) || plain != nil {
			t.Errorf("%s: opened %q, %v", name, plain, err)
		}
	}
}

func TestChainHasTheShapeOfApples(t *testing.T) {
	i := newIssued(t)
	if i.Root.SignatureAlgorithm != x509.ECDSAWithSHA384 || i.Sub.SignatureAlgorithm != x509.ECDSAWithSHA256 || i.Leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("signed with %s, %s and %s", i.Root.SignatureAlgorithm, i.Sub.SignatureAlgorithm, i.Leaf.SignatureAlgorithm)
	}
	if i.Leaf.KeyUsage != x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement || i.Leaf.IsCA || !i.Leaf.BasicConstraintsValid || len(i.Leaf.ExtKeyUsage) != 0 {
		t.Error("the leaf's usage is not Apple's")
	}
	if i.LeafKey.Curve != elliptic.P256() || !i.LeafKey.PublicKey.Equal(i.Leaf.PublicKey) {
		t.Error("the leaf's key is not on P-256, or is another")
	}
	if len(i.Leaf.UnhandledCriticalExtensions) != 1 || !i.Leaf.UnhandledCriticalExtensions[0].Equal(oidMarker) {
		t.Errorf("unhandled and critical: %v", i.Leaf.UnhandledCriticalExtensions)
	}
	for _, ext := range i.Leaf.Extensions {
		if ext.Id.Equal(oidMarker) && !bytes.Equal(ext.Value, asn1.NullBytes) {
			t.Errorf("the marker's value is %x", ext.Value)
		}
	}
	for _, cert := range []*x509.Certificate{i.Root, i.Sub, i.Leaf} {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) || cert.Subject.Organization[0] != "mintmark simulation, not Apple" {
			t.Errorf("%s is not valid now, or does not say what it is", cert.Subject)
		}
	}
}

func TestDirectoryIsReopened(t *testing.T) {
	dir := t.TempDir() + "/apple"
	if _, err := ReadDir(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want fs.ErrNotExist", err)
	}
	issued := newIssued(t)
	for range 2 { // the second time over the first
		if err := issued.WriteDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	again, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !again.LeafKey.Equal(issued.LeafKey) || !again.Root.Equal(issued.Root) || !bytes.Equal(again.ChainPEM(), issued.ChainPEM()) {
		t.Error("what was read is not what was written")
	}
	files := FilesIn(dir)
	st, err := os.Stat(files.LeafKey)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", st.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

func TestDamagedDirectoryIsRefused(t *testing.T) {
	issued, other := newIssued(t), newIssued(t)
	for name, damage := range map[string]func(t *testing.T, f, others Files){
		"another root": func(t *testing.T, f, others Files) { move(t, others.RootCert, f.RootCert) },
		"another sub":  func(t *testing.T, f, others Files) { move(t, others.SubCert, f.SubCert) },
		"another leaf": func(t *testing.T, f, others Files) { move(t, others.LeafCert, f.LeafCert) },
		"another key":  func(t *testing.T, f, others Files) { move(t, others.LeafKey, f.LeafKey) },
		"key for leaf": func(t *testing.T, f, _ Files) { move(t, f.LeafKey, f.LeafCert) },
		"leaf for key": func(t *testing.T, f, _ Files) { move(t, f.LeafCert, f.LeafKey) },
		"empty key":    func(t *testing.T, f, _ Files) { write(t, f.LeafKey, "") },
		"a broken key": func(t *testing.T, f, _ Files) {
			write(t, f.LeafKey, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")
		},
		"a broken leaf": func(t *testing.T, f, _ Files) {
			write(t, f.LeafCert, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, others := t.TempDir(), t.TempDir()
			if err := errors.Join(issued.WriteDir(dir), other.WriteDir(others)); err != nil {
				t.Fatal(err)
			}
			damage(t, FilesIn(dir), FilesIn(others))
			if got, err := ReadDir(dir); err == nil || got != nil {
				t.Error("read")
			}
		})
	}
	if err := newIssued(t, RSA()).WriteDir(t.TempDir()); err == nil {
		t.Error("an RSA leaf was written")
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
