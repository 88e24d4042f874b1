package passes_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
	"github.com/mintmark/mintmark/passkit/webservice"
)

const asks = `{"requiredPersonalizationFields":["PKPassPersonalizationFieldName"],"description":"Join"}`

// rewards puts a pass that asks to be personalised.
func (w *world) rewards(serial string) passes.Stored {
	w.Helper()
	sum, err := w.svc.PutFile(w.ctx, issuer, ecType.Tenant, []byte(asks))
	if err != nil {
		w.Fatal(err)
	}
	doc := card(1)
	doc.Files = passes.Files{passkit.FilePersonalization: sum}
	return w.put(pass(ecType, serial), doc)
}

var says = webservice.Personalization{Token: "8a1f6c0d", Info: jsontext.Value(`{"givenName":"Alex"}`)}

func TestPassIsPersonalizedOnceAndAsksNoMore(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.rewards("1")
	w.register(p, "device", "a")
	if got, err := w.fetch(p, time.Time{}); err != nil || !w.asks(got) {
		t.Fatalf("asks nothing from the beginning: %v", err)
	}
	var won, lost atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			signature, err := w.svc.Personalize(w.ctx, p.ID, "r", says)
			switch {
			case errors.Is(err, passes.ErrPersonalized):
				lost.Add(1)
			case err != nil:
				t.Error(err)
			default:
				won.Add(1)
				signed, err := cms.Parse(signature)
				if err == nil {
					err = signed.VerifyDetached([]byte(says.Token))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || lost.Load() != 7 {
		t.Errorf("%d of 8 were signed for", won.Load())
	}
	stored, err := w.svc.Get(w.ctx, p.ID)
	if err != nil || string(stored.Personal) != string(says.Info) || stored.Version != 2 {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if got, err := w.fetch(p, time.Time{}); err != nil || w.asks(got) {
		t.Errorf("still asks: %v", err)
	}
	if w.count(`SELECT COUNT(*) FROM pass_pushes`) != 1 {
		t.Error("the device is not told")
	}
}

func (w *world) asks(p passes.Pkpass) bool {
	w.Helper()
	b, err := passkit.Open(p.Content)
	if err != nil {
		w.Fatal(err)
	}
	_, ok := b.Files[passkit.FilePersonalization]
	return ok
}

// What is signed has the form of a pass's signature: whoever gets a manifest signed has
// forged a pass.
func TestManifestIsNoPersonalizationToken(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.rewards("1")
	got, err := w.fetch(p, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := passkit.Open(got.Content)
	if err != nil {
		t.Fatal(err)
	}
	before := w.token.CallsOf("sign")
	for _, token := range []string{string(b.Files[passkit.FileManifest]), "{}", `{"a":"b"}`, " \n{}", strings.Repeat("x", 257), ""} {
		_, err := w.svc.Personalize(w.ctx, p.ID, "r", webservice.Personalization{Token: token, Info: says.Info})
		if !errors.Is(err, passkit.ErrPersonalizationToken) {
			t.Errorf("token of %d bytes: %v", len(token), err)
		}
	}
	if w.token.CallsOf("sign") != before {
		t.Error("the token was asked")
	}
	if _, err := w.svc.Personalize(w.ctx, p.ID, "r", says); err != nil {
		t.Errorf("a token after them: %v", err)
	}
	if _, err := w.svc.Personalize(w.ctx, p.ID, "r", says); !errors.Is(err, passes.ErrPersonalized) {
		t.Errorf("again: %v", err)
	}
	for _, reason := range []string{"not-a-token", "personalized"} {
		if w.count(`SELECT COUNT(*) FROM audit_entries WHERE body LIKE '%"' || ? || '"%'`, reason) == 0 {
			t.Errorf("no refusal for %s on record", reason)
		}
	}
}

func TestOnlyWhatAsksIsPersonalized(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(1))
	for _, id := range []passes.ID{p.ID, pass(ecType, "none"), pass(rsaType, "1"), pass(passes.TypeID{Tenant: "x", Type: "y"}, "1")} {
		if _, err := w.svc.Personalize(w.ctx, id, "r", says); !errors.Is(err, passes.ErrUnauthorized) {
			t.Errorf("%v: %v", id, err)
		}
	}
}

// A process that dies between claim and signature leaves a claim that ends with its lease.
func TestClaimOfADeadProcessEndsWithItsLease(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.rewards("1")
	if _, err := w.db.Exec(`UPDATE passes SET personal_state = 'claimed', personal_fence = 1, personal_until = ?`, start.Add(time.Minute).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.svc.Personalize(w.ctx, p.ID, "r", says); !errors.Is(err, passes.ErrPersonalized) {
		t.Errorf("within the lease: %v", err)
	}
	w.clock.Add(time.Minute)
	if _, err := w.svc.Personalize(w.ctx, p.ID, "r", says); err != nil {
		t.Errorf("after it: %v", err)
	}
}
