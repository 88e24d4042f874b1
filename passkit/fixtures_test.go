package passkit_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
	"github.com/mintmark/mintmark/passkit/passtest"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// One simulated Apple and one key of each kind serve all tests: making them costs most.
var (
	authority = sync.OnceValue(func() *passtest.Authority { return must(passtest.New(noon)) })
	rsaKey    = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey     = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	rsaSigner = sync.OnceValue(func() cms.Signer { return must(authority().Signer(rsaKey())) })
)

// templates are drawn once: images cost more than the rest of a test.
var templates = sync.OnceValue(func() map[passkit.Style]*passkit.Bundle {
	made := map[passkit.Style]*passkit.Bundle{}
	for _, s := range passkit.Styles() {
		made[s] = must(passtest.Bundle(s))
		for name, content := range made[s].Files {
			made[s].Files[name] = slices.Clip(content) // a test that appends must not write into another's
		}
	}
	return made
})

// bundle is a valid pass, with the changes made to its pass.json.
func bundle(t testing.TB, s passkit.Style, changes ...func(*passkit.Pass)) *passkit.Bundle {
	t.Helper()
	b := clone(templates()[s])
	if len(changes) > 0 {
		p, _, err := b.Pass()
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			change(p)
		}
		if err := b.SetPass(p); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// signedBundle is a signed pass read back, with a signer of its own if given.
func signedBundle(t testing.TB, s cms.Signer, at time.Time) *passkit.Bundle {
	t.Helper()
	b := bundle(t, passkit.EventTicket)
	manifest, err := b.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := cms.SignDetached(manifest, s, at)
	if err != nil {
		t.Fatal(err)
	}
	pkpass, err := b.Pack(manifest, signature, at)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := passkit.Open(pkpass)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func clone(b *passkit.Bundle) *passkit.Bundle {
	return &passkit.Bundle{Files: maps.Clone(b.Files)}
}

// about are the findings at a place: file and path, or the message if both are empty.
func about(found []passkit.Finding, place string) (at []passkit.Finding) {
	for _, f := range found {
		if f.File+f.Path == place || f.File == "" && f.Path == "" && strings.Contains(f.Message, place) {
			at = append(at, f)
		}
	}
	return at
}

// complete fails for a finding that does not say what is wrong and what to do.
func complete(t *testing.T, found []passkit.Finding) {
	t.Helper()
	for _, f := range found {
		if f.Message == "" || f.Remedy == "" || f.Severity != passkit.Error && f.Severity != passkit.Warning {
			t.Errorf("incomplete finding: %+v", f)
		}
	}
}
