package provisioning_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// No test leaves a request behind.
func TestMain(m *testing.M) { leaktest.Main(m) }

func TestServiceIsNotMadeFromAWrongConfiguration(t *testing.T) {
	w := newWorld(t)
	good := func() provisioning.Config {
		return provisioning.Config{
			Chain: &provisioning.ChainPolicy{}, Recorder: audit.New(w.store, w.clock.Now), Gate: w.hands, Cards: w.store, Decisions: w.store, Verified: w.store, Tokens: w.store, Flags: w.store, Now: w.clock.Now,
			Lease: lease, TAV: provisioning.TAVConfig{Version: signer.TAVv3, Validity: time.Minute},
		}
	}
	if _, err := provisioning.New(good()); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*provisioning.Config)
		says   []string
	}{
		"no chain":                {func(c *provisioning.Config) { c.Chain = nil }, []string{"chain"}},
		"no recorder":             {func(c *provisioning.Config) { c.Recorder = nil }, []string{"recorder"}},
		"no gate":                 {func(c *provisioning.Config) { c.Gate = nil }, []string{"gate"}},
		"no cards":                {func(c *provisioning.Config) { c.Cards = nil }, []string{"cards"}},
		"no tokens":               {func(c *provisioning.Config) { c.Tokens = nil }, []string{"tokens"}},
		"no flags":                {func(c *provisioning.Config) { c.Flags = nil }, []string{"flags"}},
		"no clock":                {func(c *provisioning.Config) { c.Now = nil }, []string{"now"}},
		"no lease":                {func(c *provisioning.Config) { c.Lease = 0 }, []string{"lease"}},
		"lease before now":        {func(c *provisioning.Config) { c.Lease = -time.Second }, []string{"lease"}},
		"no TAV version":          {func(c *provisioning.Config) { c.TAV.Version = "" }, []string{"TAV version"}},
		"TAV version 2":           {func(c *provisioning.Config) { c.TAV.Version = "2" }, []string{`TAV version "2"`}},
		"version 4 without alias": {func(c *provisioning.Config) { c.TAV.Version = signer.TAVv4 }, []string{"key alias"}},
		"no validity":             {func(c *provisioning.Config) { c.TAV.Validity = 0 }, []string{"TAV validity"}},
		"validity of 31 days":     {func(c *provisioning.Config) { c.TAV.Validity = 31 * 24 * time.Hour }, []string{"TAV validity", "720h"}},
		"everything":              {func(c *provisioning.Config) { *c = provisioning.Config{} }, []string{"chain", "lease", "TAV version", "TAV validity"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good()
			tc.change(&cfg)
			svc, err := provisioning.New(cfg)
			if svc != nil || err == nil {
				t.Fatalf("made %v, %v", svc, err)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %s", err, s)
				}
			}
		})
	}
}

func TestStoredCardIsTheCallersFromThenOn(t *testing.T) {
	w := newWorld(t)
	d := demo{"new-card", "5105105105105100", "11/39", "Jean Pommier"}
	who := owner
	who.Subject = "user-2"
	row, err := w.svc.StoreCard(context.Background(), who, d.id, w.card(d))
	if err != nil {
		t.Fatal(err)
	}
	w.requireLog("intent cards.store", done)
	var in struct{ Refs map[string]string }
	if err := json.Unmarshal(w.entries()[0].Body, &in); err != nil || in.Refs["card"] != row || len(row) != 36 {
		t.Errorf("row %q, recorded %q, %v", row, in.Refs["card"], err)
	}
	out, err := w.svc.SignCard(context.Background(), who, w.request(d.id, "00000001"))
	if err != nil || !strings.Contains(string(w.open(out)), d.pan) {
		t.Errorf("its owner does not get it: %v", err)
	}
	if _, err := w.sign(w.request(d.id, "00000002")); !errors.Is(err, provisioning.ErrUnknownCard) {
		t.Errorf("another gets %v", err)
	}
}

func TestCardStoredAgainTakesTheOldOnesPlace(t *testing.T) {
	w := newWorld(t)
	d := demo{demos[0].id, "5105105105105100", "11/39", "Jean Pommier"}
	if _, err := w.svc.StoreCard(context.Background(), owner, d.id, w.card(d)); err != nil {
		t.Fatal(err)
	}
	payload := string(w.open(w.mustSign(w.request(d.id, "ea85a73a"))))
	if !strings.Contains(payload, d.pan) || strings.Contains(payload, demos[0].pan) {
		t.Errorf("the payload is %s", payload)
	}
}

func TestCardThatBreaksTheRulesIsNotStored(t *testing.T) {
	w := newWorld(t)
	calls := w.token.Calls()
	for name, tc := range map[string]struct {
		id     string
		change func(*provisioning.Card)
		want   error // nil: a FieldError
	}{
		"no id":        {"", func(*provisioning.Card) {}, nil},
		"id of blanks": {"  ", func(*provisioning.Card) {}, nil},
		"no number":    {"card", func(c *provisioning.Card) { c.PAN = secret.PAN{} }, provisioning.ErrCardData},
		"no name":      {"card", func(c *provisioning.Card) { c.Name = secret.Text{} }, provisioning.ErrCardData},
		"MMYY":         {"card", func(c *provisioning.Card) { c.Expiration = secret.NewText("1249") }, provisioning.ErrCardData},
		"product":      {"card", func(c *provisioning.Card) { c.Product = "amex" }, &provisioning.CardError{Reason: provisioning.CardProduct}},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.card(demos[0])
			tc.change(&c)
			id, err := w.svc.StoreCard(context.Background(), owner, tc.id, c)
			var field *provisioning.FieldError
			if id != "" || (tc.want == nil && !errors.As(err, &field)) || (tc.want != nil && !errors.Is(err, tc.want) && (err == nil || err.Error() != tc.want.Error())) {
				t.Errorf("stored as %q, %v", id, err)
			}
		})
	}
	w.requireLog()
	if n := w.token.Calls() - calls; n != 0 {
		t.Errorf("the token was asked %d times", n)
	}
}

func TestTroubleWhileStoringStoresNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(w *world) (mend func())
		log   []string
	}{
		"no intent": {func(w *world) func() { return w.failEntries(audit.KindIntent) }, nil},
		"no index": {func(w *world) func() {
			w.hands.before["CardIndex"] = func() error { return errAway }
			return func() { clear(w.hands.before) }
		}, []string{"intent cards.store", failed}},
		"no seal": {func(w *world) func() {
			w.hands.before["SealVault"] = func() error { return errAway }
			return func() { clear(w.hands.before) }
		}, []string{"intent cards.store", failed}},
		"no result": {func(w *world) func() { return w.failEntries(audit.KindResult) }, []string{"intent cards.store"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := demo{"new-card", "5105105105105100", "11/39", "Jean Pommier"}
			mend := tc.fault(w)
			id, err := w.svc.StoreCard(context.Background(), owner, d.id, w.card(d))
			requireRetry(t, err)
			if id != "" {
				t.Errorf("stored as %q", id)
			}
			mend()
			w.requireLog(tc.log...)
			if _, err := w.sign(w.request(d.id, "00000001")); !errors.Is(err, provisioning.ErrUnknownCard) {
				t.Errorf("the card is there: %v", err)
			}
			if _, err := w.svc.StoreCard(context.Background(), owner, d.id, w.card(d)); err != nil {
				t.Fatal(err)
			}
			w.mustSign(w.request(d.id, "00000001"))
		})
	}
}
