package conformance_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/conformance"
	"github.com/mintmark/mintmark/hsm/hsmtest/realtoken"
	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/softhsm"
)

// No run leaves a goroutine behind.
func TestMain(m *testing.M) { leaktest.Main(m) }

// on describes a token to the suite.
func on(tok *softhsm.Token) hsm.Config {
	return hsm.Config{
		Name: "main", Module: tok.Module, TokenLabel: tok.Label, PINFile: tok.PINFile,
		CallTimeout: 5 * time.Minute, // RSA keys are made, on whatever machine it is
		Keyring:     &hsm.Keyring{Environment: "test"},
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

// keysOn opens the token for a look at all keys on it, which no keyring lists, after it has
// made more of them.
func keysOn(t *testing.T, tok *softhsm.Token, more ...string) (labels []string) {
	t.Helper()
	opened, err := hsm.Open(context.Background(), quiet(on(tok)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range more {
		if _, _, err := opened.Generate(context.Background(), hsm.NewKey{Name: name, Purpose: hsm.CardIndex}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range opened.Unlisted() {
		labels = append(labels, o.Label)
	}
	if err := opened.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return labels
}

func quiet(cfg hsm.Config) hsm.Config {
	cfg.Log = slog.New(slog.DiscardHandler)
	return cfg
}

// interrupted is a context that ends when it has been looked at a number of times: an
// operator's interrupt in the middle.
type interrupted struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

func (c *interrupted) Err() error {
	if c.left.Add(-1) == 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// However a run ends, and whatever an earlier one has left, only the keys that are not
// its own remain.
func TestNothingOfARunIsLeft(t *testing.T) {
	tok := softhsm.New(t)
	keysOn(t, tok, "index", "mintmark", conformance.Prefix+"killed")
	for _, after := range []int64{1, 8, 20} {
		ctx := &interrupted{}
		ctx.Context, ctx.cancel = context.WithCancel(context.Background())
		ctx.left.Store(after)
		if r := conformance.Run(ctx, on(tok), conformance.Everything); r.Error == "" || r.Err() == nil {
			t.Errorf("interrupted at look %d, and a full report: %d results", after, len(r.Results))
		}
		if got := keysOn(t, tok); slices.ContainsFunc(got, func(l string) bool {
			return strings.HasPrefix(l, conformance.Prefix) && l != conformance.Prefix+"killed"
		}) {
			t.Errorf("interrupted at look %d: left %v", after, got)
		}
	}
	r := conformance.Run(context.Background(), on(tok), conformance.Everything)
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	got := keysOn(t, tok)
	slices.Sort(got)
	if want := []string{"index", "mintmark"}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// What is needed and not there is an error; the same of what is not needed is none.
func TestOnlyWhatIsNeededIsMissed(t *testing.T) {
	r := conformance.Report{Member: "main", Results: []conformance.Result{
		{Capability: "a", Outcome: conformance.Untried}, {Capability: "b", Outcome: conformance.No}, {Capability: "c", Needed: true, Outcome: conformance.Yes},
	}}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	for _, o := range []conformance.Outcome{conformance.No, conformance.Untried} {
		r.Results[0] = conformance.Result{Capability: "a", Needed: true, Outcome: o}
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), "a: "+string(o)) {
			t.Errorf("needed and %s: %v", o, err)
		}
	}
}
