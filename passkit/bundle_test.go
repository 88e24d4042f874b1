package passkit_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
	"github.com/mintmark/mintmark/passkit/passtest"
)

func TestTheManifestHasTheSHA1OfEveryOtherFile(t *testing.T) {
	b := bundle(t, passkit.Generic)
	b.Files["manifest.json"], b.Files["signature"] = []byte("old"), []byte("old")
	b.Files["de.lproj/pass.strings"] = []byte{}
	manifest, err := b.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var listed map[string]string
	if err := json.Unmarshal(manifest, &listed); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, content := range b.Files {
		if name != "manifest.json" && name != "signature" {
			sum := sha1.Sum(content)
			want[name] = hex.EncodeToString(sum[:])
		}
	}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(manifest, must(b.Manifest())) {
		t.Error("the manifest differs from call to call")
	}
}

func TestSameFilesTimeAndRSAKeyGiveSameBytes(t *testing.T) {
	b := bundle(t, passkit.BoardingPass)
	first, second := must(b.Sign(rsaSigner(), noon)), must(clone(b).Sign(rsaSigner(), noon))
	if !bytes.Equal(first, second) {
		t.Error("two passes differ")
	}
	if bytes.Equal(first, must(b.Sign(rsaSigner(), noon.Add(time.Second)))) {
		t.Error("the signing time is not in the pass")
	}
}

func TestAPassOfEveryStyleAndKeyIsSignedAndVerifies(t *testing.T) {
	ec := must(authority().Signer(ecKey()))
	for _, style := range passkit.Styles() {
		for name, s := range map[string]cms.Signer{"RSA-2048": rsaSigner(), "P-256": ec} {
			pkpass, err := bundle(t, style).Sign(s, noon)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := passkit.Open(pkpass)
			if err != nil {
				t.Fatal(err)
			}
			if r := passkit.Verify(opened, passkit.VerifyOptions{Roots: authority().Roots(), Now: noon}); !r.OK() {
				t.Errorf("%s with %s: %v", style, name, r)
			}
		}
	}
}

func TestWhatHasErrorsIsNotSigned(t *testing.T) {
	b := bundle(t, passkit.Generic, func(p *passkit.Pass) { p.Description, p.SerialNumber = "", "" })
	pkpass, err := b.Sign(rsaSigner(), noon)
	var refused *passkit.RefusedError
	if pkpass != nil || !errors.As(err, &refused) || !strings.Contains(err.Error(), "the first of 2 errors") {
		t.Fatalf("%v", err)
	}
	complete(t, refused.Findings)
	if _, err := bundle(t, passkit.Generic).Sign(must(authority().Signer(ecKey(), passtest.For("pass.other", "ABCDE12345"))), noon); !errors.As(err, &refused) {
		t.Errorf("signed with another pass type's certificate: %v", err)
	}
	warned := bundle(t, passkit.Generic, func(p *passkit.Pass) { p.StripColor = "#ffffff" })
	if _, err := warned.Sign(rsaSigner(), noon); err != nil {
		t.Errorf("a warning hindered: %v", err)
	}
	if _, err := (&passkit.Bundle{}).Sign(rsaSigner(), noon); !errors.As(err, &refused) {
		t.Errorf("an empty bundle: %v", err)
	}
}

func TestABundleWithANameThatNoArchiveMayHaveIsNotPacked(t *testing.T) {
	for _, name := range []string{"../x", "/x", `a\b`, "ICON.png", "pass.json/x"} {
		b := bundle(t, passkit.Generic)
		b.Files[name] = []byte("x")
		if _, err := b.Manifest(); !errors.Is(err, passkit.ErrName) {
			t.Errorf("%s: manifest: %v", name, err)
		}
		if _, err := b.Pack([]byte("{}"), nil, noon); !errors.Is(err, passkit.ErrName) {
			t.Errorf("%s: archive: %v", name, err)
		}
		if err := b.WriteFolder(t.TempDir()); !errors.Is(err, passkit.ErrName) {
			t.Errorf("%s: folder: %v", name, err)
		}
	}
}

func TestABuiltPassIsUnsignedAndCanBeSignedElsewhere(t *testing.T) {
	b := bundle(t, passkit.Coupon)
	opened := must(passkit.Open(must(b.Build(noon))))
	if _, ok := opened.Files["signature"]; ok {
		t.Fatal("it has a signature")
	}
	r := passkit.Verify(opened, passkit.VerifyOptions{Roots: authority().Roots()})
	if r.OK() || !cmp.Equal(r.Failed(), []passkit.Check{passkit.CheckSignature}) {
		t.Errorf("unsigned: %v", r)
	}
	signature := must(cms.SignDetached(opened.Files["manifest.json"], rsaSigner(), noon))
	signed := must(passkit.Open(must(opened.Pack(opened.Files["manifest.json"], signature, noon))))
	if r := passkit.Verify(signed, passkit.VerifyOptions{Roots: authority().Roots()}); !r.OK() {
		t.Error(r)
	}
}

func TestImagesAreChecked(t *testing.T) {
	png := func(w, h int) []byte { return must(passtest.PNG(w, h)) }
	type files = map[string][]byte
	for _, c := range []struct {
		name     string
		style    passkit.Style
		add      files
		remove   []string
		severity passkit.Severity
		place    string
	}{
		{"no icon", passkit.Generic, nil, []string{"icon.png", "icon@2x.png", "icon@3x.png"}, passkit.Error, "icon.png is missing"},
		{"an icon for one language only", passkit.Generic, files{"de.lproj/icon.png": png(38, 38)}, []string{"icon.png", "icon@2x.png", "icon@3x.png"}, passkit.Error, "icon.png is missing"},
		{"no large icon", passkit.Generic, nil, []string{"icon@3x.png"}, passkit.Warning, "icon@3x.png is missing"},
		{"JPEG under the name of PNG", passkit.Generic, files{"logo.png": []byte("\xff\xd8\xff\xe0")}, nil, passkit.Error, "logo.png"},
		{"a damaged header", passkit.Generic, files{"de.lproj/logo.png": png(9, 9)[:20]}, nil, passkit.Error, "de.lproj/logo.png"},
		{"larger than shown", passkit.Generic, files{"icon@2x.png": png(77, 76)}, nil, passkit.Warning, "icon@2x.png"},
		{"larger than can be decoded", passkit.Generic, files{"icon.png": png(5000, 1)}, nil, passkit.Error, "icon.png"},
		{"too many bytes", passkit.Generic, files{"logo.png": append(png(9, 9), make([]byte, 4<<20)...)}, nil, passkit.Warning, "logo.png"},
		{"PDF", passkit.Generic, files{"logo.pdf": []byte("%PDF")}, nil, passkit.Warning, "logo.pdf"},
		{"not of this style", passkit.Generic, files{"strip.png": png(9, 9)}, nil, passkit.Warning, "strip.png"},
		{"strip beside background", passkit.EventTicket, files{"strip.png": png(9, 9)}, nil, passkit.Warning, "strip beside background"},
		{"personalization logo alone", passkit.Generic, files{"personalizationLogo.png": png(9, 9)}, nil, passkit.Warning, "personalizationLogo has no effect"},
		{"an unknown name", passkit.Generic, files{"Icon.PNG.bak": png(9, 9)}, nil, passkit.Warning, "Icon.PNG.bak"},
		{"a scale that there is not", passkit.Generic, files{"logo@4x.png": png(9, 9)}, nil, passkit.Warning, "logo@4x.png"},
	} {
		b := bundle(t, c.style)
		for name, content := range c.add {
			b.Files[name] = content
		}
		for _, name := range c.remove {
			delete(b.Files, name)
		}
		found := b.Validate()
		complete(t, found)
		if at := about(found, c.place); len(at) != 1 || at[0].Severity != c.severity {
			t.Errorf("%s: want one %s about %s, have %v", c.name, c.severity, c.place, found)
		}
	}
	localised := bundle(t, passkit.Generic)
	localised.Files["pt-BR.lproj/logo@2x.png"] = png(320, 100)
	if found := localised.Validate(); len(found) > 0 {
		t.Errorf("a localised image of the right size: %v", found)
	}
}

func TestAPosterEventNeedsItsImage(t *testing.T) {
	b := bundle(t, passkit.EventTicket, func(p *passkit.Pass) { p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket} })
	if at := about(b.Validate(), "artwork.png is missing"); len(at) != 0 {
		t.Errorf("with a background: %v", at)
	}
	for _, name := range []string{"background.png", "background@2x.png", "background@3x.png"} {
		delete(b.Files, name)
	}
	if at := about(b.Validate(), "artwork.png is missing"); len(at) != 1 || at[0].Severity != passkit.Error {
		t.Errorf("without: %v", at)
	}
}

func TestPersonalization(t *testing.T) {
	withService := func(p *passkit.Pass) {
		p.WebServiceURL, p.AuthenticationToken = "https://example.com", "0123456789abcdef"
	}
	for _, c := range []struct {
		name, text, path string
		severity         passkit.Severity
	}{
		{"no fields", `{"description":"x"}`, "/requiredPersonalizationFields", passkit.Error},
		{"an unknown field", `{"description":"x","requiredPersonalizationFields":["PKPassPersonalizationFieldShoeSize"]}`, "/requiredPersonalizationFields/0", passkit.Error},
		{"a field twice", `{"description":"x","requiredPersonalizationFields":["PKPassPersonalizationFieldName","PKPassPersonalizationFieldName"]}`, "/requiredPersonalizationFields/1", passkit.Error},
		{"no description", `{"requiredPersonalizationFields":["PKPassPersonalizationFieldName"]}`, "/description", passkit.Error},
		{"markup", `{"description":"x","requiredPersonalizationFields":["PKPassPersonalizationFieldName"],"termsAndConditions":"<b>x</b>"}`, "/termsAndConditions", passkit.Warning},
		{"an unknown member", `{"description":"x","requiredPersonalizationFields":["PKPassPersonalizationFieldName"],"new":1}`, "/new", passkit.Warning},
		{"the wrong type", `{"description":["x"]}`, "/description", passkit.Error},
	} {
		b := bundle(t, passkit.StoreCard, withService)
		b.Files["personalization.json"] = []byte(c.text)
		found := b.Validate()
		complete(t, found)
		if at := about(found, "personalization.json"+c.path); len(at) != 1 || at[0].Severity != c.severity {
			t.Errorf("%s: %v", c.name, found)
		}
	}
	good := []byte(`{"requiredPersonalizationFields":["PKPassPersonalizationFieldName","PKPassPersonalizationFieldEmailAddress"],"description":"x","termsAndConditions":"<a href='https://example.com'>x</a>","new":[1]}`)
	p, _, err := passkit.ParsePersonalization(good)
	if err != nil || !bytes.Equal(must(p.Encode()), good) {
		t.Errorf("%v: %s", err, must(p.Encode()))
	}
	b := bundle(t, passkit.StoreCard, withService)
	b.Files["personalization.json"] = patched(good, `,"new":[1]`, "")
	if at := about(b.Validate(), "personalizationLogo.png is missing"); len(at) != 1 {
		t.Error("no warning without the logo")
	}
	b.Files["personalizationLogo.png"] = must(passtest.PNG(150, 40))
	if found := b.Validate(); len(found) > 0 {
		t.Errorf("a valid one: %v", found)
	}
	without := bundle(t, passkit.StoreCard)
	without.Files["personalization.json"] = b.Files["personalization.json"]
	if at := about(without.Validate(), "personalization.json"); !passkit.HasErrors(at) {
		t.Error("it may ask without a web service to send to")
	}
}

func TestAManifestIsNoPersonalizationToken(t *testing.T) {
	manifest := must(bundle(t, passkit.StoreCard).Manifest())
	for name, token := range map[string][]byte{
		"a manifest": manifest, "a small manifest": []byte(`{"a":"b"}`), "one in UTF-16": {0, '{', 0, '}'}, "nothing": nil, "257 bytes": bytes.Repeat([]byte("x"), 257),
	} {
		if err := passkit.CheckPersonalizationToken(token); !errors.Is(err, passkit.ErrPersonalizationToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := passkit.CheckPersonalizationToken(bytes.Repeat([]byte("x"), 256)); err != nil {
		t.Error(err)
	}
}

func TestAFolderIsReadAsItWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "card.pass")
	b := bundle(t, passkit.EventTicket)
	b.Files["de.lproj/pass.strings"] = passkit.Strings{"TITLE": "TITEL"}.Encode()
	if err := b.WriteFolder(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{".DS_Store": "x", "de.lproj/.hidden": "x", ".git/config": "x", "manifest.json": "{}", "signature": "x"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	read, err := passkit.ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.Files, read.Files); diff != "" {
		t.Error(diff)
	}
	if err := b.WriteFolder(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("replaced what was there: %v", err)
	}
}

func TestAFolderWithWhatIsNoFileIsRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Symlink(secret, filepath.Join(linked, "icon.png")); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Symlink(filepath.Dir(secret), filepath.Join(folder, "de.lproj")); err != nil {
		t.Fatal(err)
	}
	large := t.TempDir()
	if err := os.WriteFile(filepath.Join(large, "icon.png"), make([]byte, 16<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a link": linked, "a linked folder": folder, "a large file": large} {
		if _, err := passkit.ReadFolder(dir); !errors.Is(err, passkit.ErrFolder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := passkit.ReadFolder(filepath.Join(linked, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestPreflightSaysWhatIsWrongWithTheCertificate(t *testing.T) {
	a := authority()
	readerKey := must(passtest.ReaderKey())
	withNFC := func(p *passkit.Pass) { p.NFC = &passkit.NFC{Message: "1", EncryptionPublicKey: readerKey} }
	signer := func(options ...passtest.LeafOption) cms.Signer { return must(a.Signer(rsaKey(), options...)) }
	day := 24 * time.Hour
	older := must(passtest.New(noon, passtest.IntermediateValid(noon.Add(-400*day), noon.Add(10*day))))
	for _, c := range []struct {
		name     string
		signer   cms.Signer
		change   func(*passkit.Pass)
		at       time.Time
		severity passkit.Severity
		message  string
	}{
		{"none", cms.Signer{}, nil, noon, passkit.Error, "there is no certificate"},
		{"another pass type", signer(passtest.For("pass.com.example.other", passtest.Team)), nil, noon, passkit.Error, "is for pass.com.example.other, pass.json has pass.com.example.card"},
		{"another team", signer(passtest.For(passtest.PassType, "ZZZZZ99999")), nil, noon, passkit.Error, "of team ZZZZZ99999, pass.json has ABCDE12345"},
		{"no marker", signer(passtest.Marker("")), nil, noon, passkit.Error, "the certificate is for"},
		{"another marker", signer(passtest.Marker("pass.other")), nil, noon, passkit.Error, "the certificate is for"},
		{"not for passes", signer(passtest.NotForPasses()), nil, noon, passkit.Error, "is not for passes"},
		{"not yet valid", signer(), nil, noon.Add(-2 * time.Hour), passkit.Error, "pass certificate is not valid before"},
		{"ended", signer(), nil, noon.Add(400 * day), passkit.Error, "pass certificate ended on 2027-07-01"},
		{"ends in 90 days", signer(passtest.Valid(noon, noon.Add(89*day))), nil, noon, passkit.Warning, "pass certificate ends on"},
		{"intermediate ends soon", must(older.Signer(rsaKey())), nil, noon, passkit.Warning, "intermediate ends on"},
		{"intermediate ended", must(older.Signer(rsaKey())), nil, noon.Add(11 * day), passkit.Error, "intermediate ended"},
		{"another key", cms.Signer{Key: ecKey(), Certificate: rsaSigner().Certificate, Intermediates: rsaSigner().Intermediates}, nil, noon, passkit.Error, "the key is not the certificate's"},
		{"a P-384 key", must(a.Signer(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)))), nil, noon, passkit.Error, "nor P-256"},
		{"no intermediate", cms.Signer{Key: rsaKey(), Certificate: rsaSigner().Certificate}, nil, noon, passkit.Error, "intermediate that issued the pass certificate is missing"},
		{"nfc without its certificate", signer(), withNFC, noon, passkit.Error, "may not sign passes with nfc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changes := []func(*passkit.Pass){}
			if c.change != nil {
				changes = append(changes, c.change)
			}
			p, _, err := bundle(t, passkit.Generic, changes...).Pass()
			if err != nil {
				t.Fatal(err)
			}
			found := passkit.Preflight(p, c.signer, c.at)
			complete(t, found)
			if at := about(found, c.message); len(at) != 1 || at[0].Severity != c.severity {
				t.Errorf("want one %s with %q, have %v", c.severity, c.message, found)
			}
		})
	}
	p, _, err := bundle(t, passkit.Generic, withNFC).Pass()
	if err != nil {
		t.Fatal(err)
	}
	if found := passkit.Preflight(p, signer(passtest.NFC()), noon); len(found) > 0 {
		t.Errorf("a pass with its certificate: %v", found)
	}
}

func TestInspectTellsEverythingButSecrets(t *testing.T) {
	const token = "vxwxd7J8AlNNFPS8k0a0FfUFtq0ewzFdc"
	b := bundle(t, passkit.EventTicket, func(p *passkit.Pass) {
		p.WebServiceURL, p.AuthenticationToken = "https://example.com", token
		p.Barcodes[0].Message = "secret-barcode"
	})
	b.Files["de.lproj/pass.strings"] = passkit.Strings{"TITLE": "TITEL"}.Encode()
	s := passkit.Inspect(must(passkit.Open(must(b.Sign(rsaSigner(), noon)))))
	text := string(must(json.Marshal(s)))
	if strings.Contains(text, token) || strings.Contains(text, "secret-barcode") {
		t.Error("a secret is in it")
	}
	if s.PassTypeIdentifier != passtest.PassType || s.SerialNumber != "1" || s.WebServiceURL == "" || len(s.Unread) > 0 ||
		!cmp.Equal(s.Styles, []passkit.Style{passkit.EventTicket}) || !cmp.Equal(s.Languages, []string{"de"}) {
		t.Errorf("%+v", s)
	}
	if s.Signature == nil || !s.Signature.SigningTime.Equal(noon) || len(s.Signature.Certificates) != 2 ||
		s.Signature.Certificates[0].PassTypeIdentifier != passtest.PassType || s.Signature.Digest != "SHA-256" {
		t.Errorf("%+v", s.Signature)
	}
	sizes := map[string]string{}
	for _, f := range s.Files {
		sizes[f.Name] = fmt.Sprint(f.Width, "x", f.Height)
	}
	if sizes["icon@2x.png"] != "76x76" || sizes["signature"] != "0x0" {
		t.Errorf("%v", sizes)
	}
	broken := passkit.Inspect(&passkit.Bundle{Files: map[string][]byte{"pass.json": []byte("{"), "signature": []byte("x")}})
	if len(broken.Unread) != 2 || broken.Signature != nil {
		t.Errorf("%+v", broken)
	}
}

func BenchmarkSign(b *testing.B) {
	for name, s := range map[string]cms.Signer{"RSA-2048": rsaSigner(), "P-256": must(authority().Signer(ecKey()))} {
		pass := bundle(b, passkit.EventTicket)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := pass.Sign(s, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBuild is everything but the signature.
func BenchmarkBuild(b *testing.B) {
	pass := bundle(b, passkit.EventTicket)
	for b.Loop() {
		if _, err := pass.Build(noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	pkpass := must(bundle(b, passkit.EventTicket).Sign(rsaSigner(), noon))
	roots := authority().Roots()
	for b.Loop() {
		if !passkit.Verify(must(passkit.Open(pkpass)), passkit.VerifyOptions{Roots: roots}).OK() {
			b.Fatal("does not verify")
		}
	}
}
