package cms_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/passkit/cms"
)

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
