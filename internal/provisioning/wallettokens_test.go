package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
)

// another is another user of the same client; network the provider that speaks for all.
var another, network = func() (provisioning.Caller, provisioning.Caller) {
	a, n := owner, owner
	a.Subject = "user-2"
	n.Issuer, n.Subject, n.AnyOwner = "https://network.example", "service", true
	return a, n
}()

// token is what the network tells of a token of owner's.
func token(reference, card string, status provisioning.TokenStatus) provisioning.Token {
	return provisioning.Token{Owner: owner.Owner, Reference: reference, ExternalCardID: card, Status: status}
}

func (w *world) tell(t provisioning.Token) provisioning.Token {
	w.Helper()
	put, err := w.svc.PutToken(context.Background(), network, t)
	if err != nil {
		w.Fatal(err)
	}
	return put
}

func search(references ...string) provisioning.TokenSearch {
	return provisioning.TokenSearch{WalletType: provisioning.ApplePay, References: references}
}

func (w *world) searched(who provisioning.Caller, q provisioning.TokenSearch) string {
	w.Helper()
	found, err := w.svc.SearchTokens(context.Background(), who, q)
	if err != nil {
		w.Fatal(err)
	}
	var all []string
	for _, t := range found {
		all = append(all, t.Reference+" "+string(t.Status))
	}
	return strings.Join(all, ", ")
}

// What the network tells is kept with its history, found by its owner alone, and refused
// where it cannot be. Each call is on record, and nothing of the network's texts.
func TestRegistryOfWalletTokens(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	first := w.tell(token("phone", "demo-mastercard-1", provisioning.TokenInactive))
	w.clock.Add(time.Second)
	again := w.tell(token("phone", "demo-mastercard-1", provisioning.TokenInactive))
	if first.Revision != 1 || !again.Changed.Equal(first.Changed) || again.Revision != 1 {
		t.Errorf("told twice: %+v, %+v", first, again)
	}
	w.tell(token("phone", "demo-mastercard-1", provisioning.TokenActive))
	if _, err := w.svc.PutToken(ctx, network, token("phone", "demo-mastercard-1", provisioning.TokenInactive)); !errors.Is(err, provisioning.ErrTransition) {
		t.Errorf("inactive after active: %v", err)
	}
	w.requireLog(
		"operation", "operation", "operation", // intent and result in one
		"refusal wallet-tokens.put impossible-transition",
	)
	history, err := w.svc.TokenHistory(ctx, network, "phone")
	if err != nil || len(history) != 2 || history[0].Status != provisioning.TokenInactive || history[1].Status != provisioning.TokenActive || !history[1].Activated.Equal(history[1].Changed) {
		t.Errorf("history %+v, %v", history, err)
	}

	w.tell(token("watch", "demo-mastercard-1", provisioning.TokenInactive))
	w.tell(provisioning.Token{Owner: another.Owner, Reference: "theirs", ExternalCardID: "card-9", Status: provisioning.TokenActive})
	w.tell(provisioning.Token{Owner: owner.Owner, Reference: "odd", Status: "PENDING"})
	for _, tc := range []struct {
		who   provisioning.Caller
		named []string
		group bool
		want  string
	}{
		{owner, []string{"watch", "phone"}, false, "watch INACTIVE, phone ACTIVE"},
		{owner, []string{"phone", "phone", "unknown", "theirs", "odd", "a b", "", "\x00"}, false, "phone ACTIVE, odd PENDING"},
		{owner, []string{"odd", "phone", "watch"}, true, "odd PENDING, watch INACTIVE"},
		{another, []string{"phone", "watch", "theirs"}, false, "theirs ACTIVE"},
		{network, []string{"phone", "theirs"}, false, "phone ACTIVE, theirs ACTIVE"},
		{owner, nil, false, ""},
	} {
		q := search(tc.named...)
		q.GroupByCard, q.References = tc.group, append([]string{}, q.References...)
		if got := w.searched(tc.who, q); got != tc.want {
			t.Errorf("%s of %q: %s, want %s", tc.who.Subject, tc.named, got, tc.want)
		}
	}
	other := network
	other.Tenant = "other bank"
	if got := w.searched(other, search("phone", "theirs")); got != "" {
		t.Errorf("another tenant finds %s", got)
	}
	for name, try := range map[string]func() error{
		"for another owner": func() error { _, err := w.svc.PutToken(ctx, another, token("new", "card", "ACTIVE")); return err },
		"of another, as its own": func() error {
			tk := token("phone", "card", "ACTIVE")
			tk.Owner = another.Owner
			_, err := w.svc.PutToken(ctx, another, tk)
			return err
		},
		"another's history": func() error { _, err := w.svc.TokenHistory(ctx, another, "phone"); return err },
		"an unknown one's":  func() error { _, err := w.svc.TokenHistory(ctx, network, "unknown"); return err },
	} {
		if err := try(); !errors.Is(err, provisioning.ErrUnknownToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var field *provisioning.FieldError
	for _, q := range []provisioning.TokenSearch{{References: []string{"phone"}}, {WalletType: provisioning.ApplePay}, search(make([]string, provisioning.MaxReferences+1)...)} {
		if _, err := w.svc.SearchTokens(ctx, owner, q); !errors.As(err, &field) {
			t.Errorf("%v: %v", q.WalletType, err)
		}
	}
	if _, err := w.svc.SearchTokens(ctx, owner, provisioning.TokenSearch{WalletType: "GOOGLE_PAY", References: []string{}}); !errors.Is(err, provisioning.ErrWalletType) {
		t.Errorf("another wallet: %v", err)
	}
	for _, e := range w.entries() {
		for _, text := range []string{"phone", "watch", "PENDING", "demo-mastercard"} {
			if strings.Contains(string(e.Body), text) {
				t.Errorf("on record is %s: %s", text, e.Body)
			}
		}
	}
	w.manyTellAtOnce()
}

// manyTellAtOnce has a token's state told by many: each telling is one revision or refused,
// and none is lost from the history.
func (w *world) manyTellAtOnce() {
	w.Helper()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			tk := token("crowd", "demo-mastercard-2", provisioning.TokenActive)
			tk.Process = fmt.Sprint(i)
			var later interface{ RetryAfter() time.Duration }
			for {
				_, err := w.svc.PutToken(context.Background(), network, tk)
				if err == nil {
					return
				}
				if !errors.As(err, &later) {
					w.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	history, err := w.svc.TokenHistory(context.Background(), network, "crowd")
	if err != nil || len(history) != 8 || history[7].Revision != 8 {
		w.Errorf("%d states, %v", len(history), err)
	}
}

// decide stores a decision about a card of owner's, on every device.
func (w *world) decide(card string, color path.Color, required ...path.Requirement) {
	w.Helper()
	ctx := context.Background()
	who := owner
	in := record.Intent{Operation: record.DecideProvisioning, Tenant: who.Tenant}
	ticket, err := w.rec.Open(in)
	if err != nil {
		w.Fatal(err)
	}
	lookup, err := w.hands.Gate.CardIndex(ctx, ticket, who.Tenant, card)
	if err != nil {
		w.Fatal(err)
	}
	now := w.clock.Now()
	d := provisioning.Decision{ID: uuid.NewString(), Owner: who.Owner, Card: lookup, Apple: color, Path: color, Required: required, At: now, Until: now.Add(time.Hour)}
	if _, err := w.rec.Conclude(ctx, ticket, record.Done(), d); err != nil {
		w.Fatal(err)
	}
}

// step is a requirement that nothing but a passcode fulfils.
var step = path.Requirement{Rule: "apple-orange-0g", AnyOf: []path.Step{path.OneTimePasscode}}

func (w *world) listed(q provisioning.TokenSearch) string {
	w.Helper()
	cards, err := w.svc.SearchCards(context.Background(), owner, q)
	if err != nil {
		w.Fatal(err)
	}
	var all []string
	for _, c := range cards {
		line := c.ExternalCardID + " " + string(c.Status)
		for _, t := range c.Tokens {
			line += " " + t.Reference + ":" + string(t.WalletStatus())
		}
		all = append(all, line)
	}
	slices.Sort(all) // they were all stored at one time
	return strings.Join(all, ", ")
}

// A wallet extension is told the owner's cards that may be added, and how they stand on phone
// and watch: all that fits the product, the date, the enablement and the decision.
func TestCardsThatAWalletMayOffer(t *testing.T) {
	products := append(provisioning.DefaultProducts(), provisioning.Product{Name: "gold", Title: "Gold", Network: provisioning.Mastercard, Configuration: 1, Activation: provisioning.ActivationTAV})
	w := newWorld(t, func(c *provisioning.Config) { c.Products, c.EnabledUnlessSet = products, false })
	ctx := context.Background()
	if _, err := w.svc.SearchCards(ctx, owner, search("phone")); !errors.Is(err, provisioning.ErrNotEnabled) {
		t.Errorf("where nobody has enabled anything: %v", err)
	}
	if _, err := w.sign(w.request("demo-mastercard-1", "00000001")); !errors.Is(err, provisioning.ErrNotEnabled) {
		t.Errorf("sealed where nobody has enabled anything: %v", err)
	}
	w.requireLog("refusal cards.search product-not-enabled", "refusal sign-card product-not-enabled")
	w.enable(provisioning.EnablementRule{Percentage: 100})

	w.tell(token("phone", "demo-mastercard-1", provisioning.TokenInactive))
	w.tell(token("watch", "demo-mastercard-1", provisioning.TokenActive))
	w.tell(token("old", "demo-mastercard-2", provisioning.TokenDeactivated))
	w.tell(provisioning.Token{Owner: another.Owner, Reference: "theirs", ExternalCardID: "demo-maestro-1", Status: provisioning.TokenActive})
	const none = "demo-maestro-1 notAdded, demo-mastercard-1 notAdded, demo-mastercard-2 notAdded"
	for named, want := range map[string]string{
		"":            none,
		"theirs x":    none,
		"watch":       strings.Replace(none, "card-1 notAdded", "card-1 active watch:active", 1),
		"watch phone": strings.Replace(none, "card-1 notAdded", "card-1 requiresActivation watch:active phone:requiresActivation", 1),
		"old":         strings.Replace(none, "2 notAdded", "2 notAdded old:notAdded", 1),
	} {
		q := search(strings.Fields(named)...)
		if q.References == nil {
			q.References = []string{}
		}
		if got := w.listed(q); got != want {
			t.Errorf("with %q: %s, want %s", named, got, want)
		}
	}
	cards, err := w.svc.SearchCards(ctx, owner, search("phone"))
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	i := slices.IndexFunc(cards, func(c provisioning.WalletCard) bool { return c.ExternalCardID == "demo-mastercard-2" })
	cards[i].Name.Reveal(func(n []byte) { name = string(n) })
	if got := cards[i]; got.Title != "Mastercard" || got.Last4 != "4444" || name != demos[1].name || got.Network != provisioning.Mastercard {
		t.Errorf("shown as %+v, %s", got, name)
	}

	w.onlyThoseThatMayBeAdded()
	w.decide("demo-mastercard-1", path.Red)
	if got := w.listed(search("phone")); strings.Contains(got, "demo-mastercard-1") || !strings.Contains(got, "demo-mastercard-2") {
		t.Errorf("after a decline: %s", got)
	}
}

// enable sets the enablement of owner's tenant.
func (w *world) enable(rules ...provisioning.EnablementRule) {
	w.Helper()
	operator := provisioning.Caller{Owner: provisioning.Owner{Tenant: owner.Tenant}, RequestID: "admin"}
	if _, err := w.svc.PutEnablement(context.Background(), operator, rules); err != nil {
		w.Fatal(err)
	}
}

func (w *world) onlyThoseThatMayBeAdded() {
	w.Helper()
	ctx := context.Background()
	gold := w.card(demo{pan: "5105105105105100", expiration: "11/39", name: "Jean Pommier"})
	gold.Product = "gold"
	for _, id := range []string{"gold-1", "5204245250001488"} { // the second looks like a card number
		if _, err := w.svc.StoreCard(ctx, owner, id, gold); err != nil {
			w.Fatal(err)
		}
	}
	if got := w.listed(search("phone")); !strings.Contains(got, "gold-1 notAdded") || strings.Contains(got, "5204245250001488") || strings.Count(got, ",") != 3 {
		w.Errorf("listed %s", got)
	}
	w.enable(provisioning.EnablementRule{Product: "gold", Percentage: 100}, provisioning.EnablementRule{BINFrom: "555555", BINTo: "555555", Percentage: 100})
	if got := w.listed(search("phone")); got != "demo-mastercard-2 notAdded, gold-1 notAdded" {
		w.Errorf("with two kinds enabled: %s", got)
	}
	out, err := w.sign(w.request("demo-mastercard-1", "00000002"))
	requireNothing(w, out)
	if !errors.Is(err, provisioning.ErrNotEnabled) {
		w.Errorf("sealed a card that is not enabled: %v", err)
	}
	w.mustSign(w.request("gold-1", "00000003"))
	w.enable(provisioning.EnablementRule{BINFrom: "400000", BINTo: "400000", Percentage: 100})
	if _, err := w.svc.SearchCards(ctx, owner, search("phone")); !errors.Is(err, provisioning.ErrNotEnabled) {
		w.Errorf("with none of them enabled: %v", err)
	}
	w.enable(provisioning.EnablementRule{Percentage: 100})
	w.clock.Add(14 * 365 * 24 * time.Hour) // gold-1 has expired
	if got := w.listed(search("phone")); strings.Contains(got, "gold-1") || !strings.Contains(got, "demo-mastercard-1") {
		w.Errorf("expired: %s", got)
	}
	for _, e := range w.entries() {
		for _, pan := range append([]string{"520424", "555555"}, demos[0].pan) {
			if strings.Contains(chance.ReplaceAllString(string(e.Body), ""), pan) {
				w.Errorf("on record is %s: %s", pan, e.Body)
			}
		}
	}
	if !slices.Contains(w.log(), "refusal cards.search product-not-enabled") {
		w.Errorf("the log: %s", cmp.Diff(nil, w.log()))
	}
}
