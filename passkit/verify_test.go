package passkit_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// flip changes the last bit of a byte that part has in the file.
func flip(t *testing.T, b *passkit.Bundle, file string, part []byte, offset int) {
	t.Helper()
	at := bytes.LastIndex(b.Files[file], part)
	if at < 0 || len(part) == 0 {
		t.Fatalf("%s does not have it", file)
	}
	changed := bytes.Clone(b.Files[file])
	changed[at+offset] ^= 1
	b.Files[file] = changed
}

func TestEachDamageIsNamed(t *testing.T) {
	const (
		hash, signature, chain = passkit.CheckHash, passkit.CheckSignature, passkit.CheckChain
		identifier, clock      = passkit.CheckIdentifier, passkit.CheckTime
	)
	day := 24 * time.Hour
	a, stranger := authority(), must(passtest.New(noon))
	short := must(passtest.New(noon, passtest.IntermediateValid(noon.Add(-time.Hour), noon.Add(10*day))))
	good := signedBundle(t, rsaSigner(), noon)
	signingTime := must(asn1.Marshal(noon))
	damaged := func(damage func(*passkit.Bundle)) *passkit.Bundle {
		b := clone(good)
		damage(b)
		return b
	}
	for _, c := range []struct {
		name   string
		pass   *passkit.Bundle
		failed []passkit.Check
	}{
		{"nothing", good, nil},

		{"a file changed", damaged(func(b *passkit.Bundle) { flip(t, b, "icon.png", b.Files["icon.png"], 40) }), []passkit.Check{hash}},
		{"pass.json changed", damaged(func(b *passkit.Bundle) { b.Files["pass.json"] = append(b.Files["pass.json"], ' ') }), []passkit.Check{hash}},
		{"a file added", damaged(func(b *passkit.Bundle) { b.Files["strip.png"] = []byte("x") }), []passkit.Check{hash}},
		{"a file removed", damaged(func(b *passkit.Bundle) { delete(b.Files, "logo.png") }), []passkit.Check{hash}},

		{"a hash in the manifest changed", damaged(func(b *passkit.Bundle) {
			flip(t, b, "manifest.json", []byte(`"icon.png":"`), len(`"icon.png":"`))
		}), []passkit.Check{hash, signature}},
		{"the manifest written otherwise", damaged(func(b *passkit.Bundle) { b.Files["manifest.json"] = append(b.Files["manifest.json"], '\n') }), []passkit.Check{signature}},
		{"a file and its hash changed", damaged(func(b *passkit.Bundle) {
			b.Files["icon.png"] = must(passtest.PNG(38, 38))
			b.Files["manifest.json"] = must(b.Manifest())
		}), []passkit.Check{signature}},
		{"no manifest", damaged(func(b *passkit.Bundle) { delete(b.Files, "manifest.json") }), []passkit.Check{hash}},

		{"the signature's value changed", damaged(func(b *passkit.Bundle) {
			s := b.Files["signature"]
			flip(t, b, "signature", s[len(s)-100:], 50)
		}), []passkit.Check{signature}},
		{"a signed attribute changed", damaged(func(b *passkit.Bundle) { flip(t, b, "signature", signingTime, len(signingTime)-2) }), []passkit.Check{signature}},
		{"the signature cut off", damaged(func(b *passkit.Bundle) { b.Files["signature"] = b.Files["signature"][:1000] }), []passkit.Check{signature}},
		{"no signature", damaged(func(b *passkit.Bundle) { delete(b.Files, "signature") }), []passkit.Check{signature}},
		{"the signature of another pass", damaged(func(b *passkit.Bundle) {
			b.Files["signature"] = must(cms.SignDetached([]byte("{}"), rsaSigner(), noon))
		}), []passkit.Check{signature}},
		{"the certificate exchanged", damaged(func(b *passkit.Bundle) {
			b.Files["signature"] = swapKey(t, b.Files["signature"], rsaKey(), must(rsa.GenerateKey(rand.Reader, 2048)))
		}), []passkit.Check{signature, chain}},

		{"somebody else's chain", signedBundle(t, must(stranger.Signer(rsaKey())), noon), []passkit.Check{chain}},
		{"a certificate that is not for passes", signedBundle(t, must(a.Signer(rsaKey(), passtest.NotForPasses())), noon), []passkit.Check{chain}},

		{"another pass type's certificate", signedBundle(t, must(a.Signer(rsaKey(), passtest.For("pass.com.example.other", passtest.Team))), noon), []passkit.Check{identifier}},
		{"another team's certificate", signedBundle(t, must(a.Signer(rsaKey(), passtest.For(passtest.PassType, "ZZZZZ99999"))), noon), []passkit.Check{identifier}},
		{"a certificate without the marker", signedBundle(t, must(a.Signer(rsaKey(), passtest.Marker(""))), noon), []passkit.Check{identifier}},
		{"a certificate with another marker", signedBundle(t, must(a.Signer(rsaKey(), passtest.Marker("pass.com.example.other"))), noon), []passkit.Check{identifier}},

		{"signed before the certificate", signedBundle(t, rsaSigner(), noon.Add(-2*time.Hour)), []passkit.Check{clock}},
		{"signed after the certificate", signedBundle(t, rsaSigner(), noon.Add(400*day)), []passkit.Check{clock}},
		{"signed after the intermediate", signedBundle(t, must(short.Signer(rsaKey())), noon.Add(20*day)), []passkit.Check{chain, clock}},
		{"signed in the future", signedBundle(t, rsaSigner(), noon.Add(2*day)), []passkit.Check{clock}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := noon.Add(day)
			if c.name == "signed after the certificate" || c.name == "signed after the intermediate" {
				now = noon.Add(500 * day)
			}
			r := passkit.Verify(c.pass, passkit.VerifyOptions{Roots: a.Roots(), Now: now})
			if diff := cmp.Diff(c.failed, r.Failed()); diff != "" {
				t.Errorf("%s\n%v", diff, r)
			}
			if r.OK() != (len(c.failed) == 0) || len(r.Results) != 5 {
				t.Errorf("OK is %v with %v", r.OK(), r)
			}
			for _, res := range r.Results {
				if res.Status != passkit.Passed && (res.Message == "" || res.Remedy == "") {
					t.Errorf("incomplete: %+v", res)
				}
			}
		})
	}
}

// Whatever byte of the file is changed: the archive is refused, the damage is found, or
// it is in what no file's content depends on (a date, a bit of the signature's wrapping).
func TestNoChangedFileIsAccepted(t *testing.T) {
	pkpass := must(bundle(t, passkit.Generic).Sign(rsaSigner(), noon))
	want := must(passkit.Open(pkpass))
	delete(want.Files, "signature")
	opened := 0
	for i := 0; i < len(pkpass); i += 3 {
		damaged := bytes.Clone(pkpass)
		damaged[i] ^= 0x10
		b, err := passkit.Open(damaged)
		if err != nil {
			continue
		}
		opened++
		if passkit.Verify(b, passkit.VerifyOptions{Roots: authority().Roots()}).OK() {
			if delete(b.Files, "signature"); !cmp.Equal(want.Files, b.Files) {
				t.Errorf("byte %d may be changed", i)
			}
		}
	}
	if opened == 0 {
		t.Error("every damage breaks the archive; nothing was verified")
	}
}

// swapKey puts another key into the leaf that is in a signature, in place of its own.
func swapKey(t *testing.T, signature []byte, old, other *rsa.PrivateKey) []byte {
	t.Helper()
	if !bytes.Contains(signature, old.N.Bytes()) {
		t.Fatal("the key is not in the signature")
	}
	return bytes.Replace(signature, old.N.Bytes(), other.N.Bytes(), 1)
}

func TestWithoutRootsNothingIsTrusted(t *testing.T) {
	r := passkit.Verify(signedBundle(t, rsaSigner(), noon), passkit.VerifyOptions{Now: noon})
	if r.OK() || r.Results[2].Status != passkit.NotChecked {
		t.Error(r)
	}
	if r := passkit.Verify(signedBundle(t, rsaSigner(), noon), passkit.VerifyOptions{Roots: passkit.AppleRoots()}); !cmp.Equal(r.Failed(), []passkit.Check{passkit.CheckChain}) {
		t.Errorf("a simulated chain below Apple's root: %v", r)
	}
}

func TestAPassStaysGoodAfterItsCertificateEnded(t *testing.T) {
	r := passkit.Verify(signedBundle(t, rsaSigner(), noon), passkit.VerifyOptions{Roots: authority().Roots(), Now: noon.AddDate(5, 0, 0)})
	if !r.OK() || len(r.Results[4].Notes) != 1 || !strings.Contains(r.Results[4].Notes[0], "ended") {
		t.Error(r)
	}
}

func TestAReportIsReadableByPeopleAndPrograms(t *testing.T) {
	b := signedBundle(t, rsaSigner(), noon)
	b.Files["icon.png"] = []byte("x")
	r := passkit.Verify(b, passkit.VerifyOptions{Roots: authority().Roots()})
	var read passkit.Report
	if err := json.Unmarshal(must(json.Marshal(r)), &read); err != nil || !cmp.Equal(r, read) {
		t.Errorf("%v: %s", err, cmp.Diff(r, read))
	}
	if s := r.Results[0].String(); !strings.HasPrefix(s, "hash: failed: changed since the manifest was made: icon.png; ") {
		t.Error(s)
	}
}

// opensslSigned is a pass that openssl signed.
func opensslSigned(t *testing.T, b *passkit.Bundle, s cms.Signer, args ...string) *passkit.Bundle {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if kind != "" {
			der = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		}
		if err := os.WriteFile(path, der, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	manifest, out := must(b.Manifest()), filepath.Join(dir, "signature")
	args = append(args, "-sign", "-binary", "-outform", "DER", "-out", out,
		"-in", write("manifest.json", "", manifest),
		"-signer", write("leaf.pem", "CERTIFICATE", s.Certificate.Raw),
		"-inkey", write("key.pem", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(s.Key))),
		"-certfile", write("wwdr.pem", "CERTIFICATE", s.Intermediates[0].Raw))
	if msg, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %s", msg)
	}
	return must(passkit.Open(must(b.Pack(manifest, must(os.ReadFile(out)), noon))))
}

func TestPassesSignedElsewhereVerify(t *testing.T) {
	now := time.Now() // openssl signs at the machine's time
	a := must(passtest.New(now))
	for _, c := range []struct {
		name   string
		args   []string
		failed []passkit.Check
		note   string
	}{
		{"openssl cms", []string{"cms", "-md", "sha256"}, nil, ""},
		{"openssl smime", []string{"smime", "-md", "sha256"}, nil, ""},
		{"with SHA-1", []string{"smime", "-md", "sha1"}, nil, "SHA-1"},
		{"without a signing time", []string{"cms", "-noattr"}, []passkit.Check{passkit.CheckTime}, "no signed attributes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := opensslSigned(t, bundle(t, passkit.Generic), must(a.Signer(rsaKey())), c.args...)
			r := passkit.Verify(b, passkit.VerifyOptions{Roots: a.Roots(), Now: now.Add(time.Minute)})
			if !cmp.Equal(r.Failed(), c.failed) || c.note != "" && !strings.Contains(r.Results[1].String(), c.note) {
				t.Error(r)
			}
			b.Files["icon.png"] = []byte("x")
			if r := passkit.Verify(b, passkit.VerifyOptions{Roots: a.Roots()}); !slices.Contains(r.Failed(), passkit.CheckHash) {
				t.Errorf("damage is not found: %v", r)
			}
		})
	}
}

func TestOpensslAcceptsOurPasses(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority().Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(b *passkit.Bundle) ([]byte, error) {
		for _, name := range []string{"manifest.json", "signature"} {
			if err := os.WriteFile(filepath.Join(dir, name), b.Files[name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", "signature", "-content", "manifest.json",
			"-binary", "-CAfile", root, "-purpose", "any", "-attime", strconv.FormatInt(noon.Unix(), 10), "-out", os.DevNull)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	for name, s := range map[string]cms.Signer{"RSA-2048": rsaSigner(), "P-256": must(authority().Signer(ecKey()))} {
		b := signedBundle(t, s, noon)
		if out, err := verify(b); err != nil {
			t.Errorf("%s: %s", name, out)
		}
		flip(t, b, "manifest.json", []byte(`"pass.json":"`), len(`"pass.json":"`))
		if _, err := verify(b); err == nil {
			t.Errorf("%s: openssl accepts a changed manifest", name)
		}
	}
}

func TestTheIntermediateKnownHereIsIssuedByTheRootKnownHere(t *testing.T) {
	for _, c := range passkit.AppleIntermediates() {
		_, err := c.Verify(x509.VerifyOptions{Roots: passkit.AppleRoots(), CurrentTime: noon, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil || !c.IsCA {
			t.Errorf("%s: %v", c.Subject, err)
		}
	}
}

func TestCertificatesAreReadInPEMAndDER(t *testing.T) {
	leaf, wwdr := rsaSigner().Certificate, authority().Intermediate
	two := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: wwdr.Raw})...)
	if got, err := passkit.ParseCertificates(two); err != nil || len(got) != 2 || !got[0].Equal(leaf) || !got[1].Equal(wwdr) {
		t.Errorf("PEM: %v, %v", got, err)
	}
	if got, err := passkit.ParseCertificates(leaf.Raw); err != nil || len(got) != 1 {
		t.Errorf("DER: %v, %v", got, err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	for name, b := range map[string][]byte{"a key": key, "nothing": nil, "a text": []byte("-----BEGIN nothing")} {
		if got, err := passkit.ParseCertificates(b); err == nil {
			t.Errorf("%s is read as %v", name, got)
		}
	}
	want := passkit.Marks{PassTypeIdentifier: passtest.PassType, TeamIdentifier: passtest.Team, Marker: passtest.PassType, ForPasses: true}
	if got := passkit.ReadMarks(leaf); got != want {
		t.Errorf("%+v", got)
	}
	if got := passkit.ReadMarks(wwdr); got.ForPasses || got.PassTypeIdentifier != "" {
		t.Errorf("%+v", got)
	}
}
