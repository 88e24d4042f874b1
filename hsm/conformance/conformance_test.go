package conformance_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/conformance"
	"github.com/mintmark/mintmark/hsm/hsmtest/realtoken"
	"github.com/mintmark/mintmark/softhsm"
)

// on describes a token to the suite.
func on(tok *softhsm.Token) hsm.Config {
	return hsm.Config{
		Name: "main", Module: tok.Module, TokenLabel: tok.Label, PINFile: tok.PINFile,
		Keyring: &hsm.Keyring{Environment: "test"},
	}
}

// What each module has of what is asked, and what not: a capability that comes or goes is
// a change to look into. Everything not named here is there.
func TestModulesHaveWhatIsKnownOfThem(t *testing.T) {
	for _, module := range []struct {
		name string
		make func(t *testing.T) *softhsm.Token
		not  map[string]conformance.Outcome
	}{
		{"SoftHSM", func(t *testing.T) *softhsm.Token { return softhsm.New(t) }, map[string]conformance.Outcome{
			"OAEP, SHA-256":           conformance.No,
			"key derivation in-token": conformance.No,
		}},
		{"NSS", func(t *testing.T) *softhsm.Token { return realtoken.NSS(t) }, map[string]conformance.Outcome{
			"allowed mechanisms, and no copies": conformance.No,
			"keys were never outside":           conformance.No, // NSS does not keep LOCAL
			"other uses are refused":            conformance.No, // nor look at SIGN_RECOVER
		}},
	} {
		t.Run(module.name, func(t *testing.T) {
			r := conformance.Run(context.Background(), on(module.make(t)), conformance.Everything)
			var text strings.Builder
			r.Print(&text)
			t.Log(text.String())
			if err := r.Err(); err != nil {
				t.Error(err)
			}
			for _, c := range r.Results {
				want, known := module.not[c.Capability]
				if !known {
					want = conformance.Yes
				}
				if c.Outcome != want {
					t.Errorf("%s: %s (%s), want %s", c.Capability, c.Outcome, c.Note, want)
				}
				delete(module.not, c.Capability)
			}
			for c := range module.not {
				t.Errorf("%s was not tried", c)
			}
		})
	}
}
