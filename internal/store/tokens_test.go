package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
)

// walletToken is a revision of a token.
func walletToken(reference string, revision int64) provisioning.Token {
	return provisioning.Token{
		Owner:     provisioning.Owner{Tenant: "bank", Issuer: "iss", Subject: "sub"},
		Reference: reference, CardReference: "F", ExternalCardID: "card-1", DeviceID: "d", Status: "ACTIVE", Path: "GREEN", Process: "p",
		ID: "id-" + reference, Activated: noon, Revision: revision, Changed: noon.Add(time.Duration(revision) * time.Second),
	}
}

// A state takes the place of the one that it was made from, and of no other; each stays in
// the history; and what is read is what was written.
func TestWalletTokenFollowsTheOneThatWasRead(t *testing.T) {
	onEach(t, testWalletTokenFollowsTheOneThatWasRead)
}

func testWalletTokenFollowsTheOneThatWasRead(t *testing.T, e engine) {
	ctx := context.Background()
	s, _ := e.openNew(t)
	first, second, third := walletToken("a", 1), walletToken("a", 2), walletToken("a", 3)
	first.Activated, first.Status = time.Time{}, "INACTIVE"
	third.CardReference, third.ExternalCardID, third.DeviceID, third.Path, third.Process = "", "", "", "", ""
	for i, st := range []struct {
		put   provisioning.TokenPut
		taken bool
	}{
		{provisioning.TokenPut{Token: second, Was: 1}, true}, // there is none
		{provisioning.TokenPut{Token: first}, false},
		{provisioning.TokenPut{Token: first}, true}, // there is one
		{provisioning.TokenPut{Token: third, Was: 2}, true},
		{provisioning.TokenPut{Token: second, Was: 1}, false},
		{provisioning.TokenPut{Token: second, Was: 1}, true},
		{provisioning.TokenPut{Token: third, Was: 2}, false},
	} {
		if err := appendEntry(t, s, st.put); errors.Is(err, provisioning.ErrTokenChanged) != st.taken || (err != nil) != st.taken {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	theirs := walletToken("a", 1)
	theirs.Tenant = "other bank"
	mustAppend(t, s, provisioning.TokenPut{Token: theirs}, provisioning.TokenPut{Token: walletToken("b", 1)})
	history, err := s.TokenHistory(ctx, "bank", "a")
	if err != nil {
		t.Fatal(err)
	}
	same(t, []provisioning.Token{first, second, third}, history)
	for _, end := range []int64{0, 0, 1, 7} { // the second and the last have ended
		mustAppend(t, s, provisioning.TokenAttempt{Tenant: "bank", Reference: "a", Attempt: end})
	}
	third.Attempt = 2
	for reference, want := range map[string][]provisioning.Token{"a": {third}, "b": {walletToken("b", 1)}, "c": nil, "A": nil, "": nil} {
		got, err := s.FindTokens(ctx, "bank", []string{reference, "x'; --"})
		if err != nil {
			t.Fatal(err)
		}
		same(t, want, got)
	}
	if got, err := s.FindTokens(ctx, "bank", nil); err != nil || got != nil {
		t.Errorf("of none: %v, %v", got, err)
	}
	if got, err := s.FindTokens(ctx, "bank", strings.Split(strings.Repeat("a ", 100)+"b", " ")); err != nil || len(got) != 2 {
		t.Errorf("of a hundred: %v, %v", got, err)
	}
}

// Of an enablement the last counts; one that was made from another than the last is refused.
func TestEnablementFollowsTheLast(t *testing.T) { onEach(t, testEnablementFollowsTheLast) }

func testEnablementFollowsTheLast(t *testing.T, e engine) {
	ctx := context.Background()
	s, path := e.openNew(t)
	of := func(tenant string, revision int64, rules ...provisioning.EnablementRule) provisioning.EnablementPut {
		return provisioning.EnablementPut{Enablement: provisioning.Enablement{Tenant: tenant, Revision: revision, Changed: noon, Rules: rules}}
	}
	rules := []provisioning.EnablementRule{{Product: "gold", BINFrom: "520424", BINTo: "520425", Percentage: 10}, {Percentage: 100}}
	none, err := s.Enablement(ctx, "bank")
	if err != nil || none.Revision != 0 || none.Any() {
		t.Errorf("of nobody: %+v, %v", none, err)
	}
	mustAppend(t, s, of("bank", 1, rules...))
	mustAppend(t, s, of("other bank", 1))
	got, err := s.Enablement(ctx, "bank")
	if err != nil {
		t.Fatal(err)
	}
	same(t, rules, got.Rules)
	if err := appendEntry(t, s, of("bank", 1)); !errors.Is(err, provisioning.ErrEnablementChanged) {
		t.Errorf("the same revision again: %v", err)
	}
	mustAppend(t, s, of("bank", 2))
	if got, err := s.Enablement(ctx, "bank"); err != nil || got.Revision != 2 || len(got.Rules) != 0 || !got.Changed.Equal(noon) {
		t.Errorf("the second: %+v, %v", got, err)
	}
	same(t, []string{"bank 1", "bank 2", "other bank 1"}, rowsOf(t, e.beside(t, path), "SELECT tenant || ' ' || revision FROM enablements ORDER BY 1"))
}

// An owner's cards are those of its tenant, iss and sub, the oldest first.
func TestCardsOfAnOwner(t *testing.T) { onEach(t, testCardsOfAnOwner) }

func testCardsOfAnOwner(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	owner := provisioning.Owner{Tenant: "bank", Issuer: "iss", Subject: "sub"}
	card := func(o provisioning.Owner, id string, age time.Duration) provisioning.CardRow {
		return provisioning.CardRow{Owner: o, ID: id, Lookup: []byte(id), Key: "vault", IV: []byte("iv"), Sealed: []byte("s-" + id), Created: noon.Add(-age)}
	}
	second, first, third := card(owner, "a", 2*time.Hour), card(owner, "b", 3*time.Hour), card(owner, "c", time.Hour)
	mustAppend(t, s, second, first, third,
		card(provisioning.Owner{Tenant: "bank", Issuer: "iss", Subject: "other"}, "d", 0),
		card(provisioning.Owner{Tenant: "bank", Issuer: "other", Subject: "sub"}, "e", 0),
		card(provisioning.Owner{Tenant: "other", Issuer: "iss", Subject: "sub"}, "f", 0))
	for limit, want := range map[int][]provisioning.CardRow{5: {first, second, third}, 2: {first, second}} {
		got, err := s.CardsOf(context.Background(), owner, limit)
		if err != nil {
			t.Fatal(err)
		}
		same(t, want, got)
	}
}

// What the log's verification reads of wallet tokens and enablements is what their entries say,
// on either engine.
func TestRowsOfTokensAndEnablementsAreNamedAsTheirEntriesAre(t *testing.T) {
	onEach(t, testRowsOfTokensAndEnablementsAreNamedAsTheirEntriesAre)
}

func testRowsOfTokensAndEnablementsAreNamedAsTheirEntriesAre(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	first, second := walletToken("a", 1), walletToken("a", 2)
	first.Activated = time.Time{}
	flag := provisioning.Enablement{Tenant: "bank", Revision: 1, Changed: noon, Rules: []provisioning.EnablementRule{{Product: "gold", Percentage: 10}}}
	text, err := flag.RulesText()
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, provisioning.TokenPut{Token: first}, provisioning.EnablementPut{Enablement: flag})
	mustAppend(t, s, provisioning.TokenPut{Token: second, Was: 1})
	var got []audit.BusinessRow
	if err := s.BusinessRows(context.Background(), func(r audit.BusinessRow) error {
		got = append(got, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	state := func(k provisioning.Token) audit.BusinessRow {
		return audit.BusinessRow{Kind: audit.WalletTokenState, Tenant: "bank", ID: audit.RowOf(k.ID, k.StateSHA256()), At: k.Changed}
	}
	same(t, []audit.BusinessRow{
		state(first), state(second), state(second),
		{Kind: audit.WalletToken, Tenant: "bank", ID: "id-a", At: second.Changed, Version: 2},
		{Kind: audit.Enablement, Tenant: "bank", ID: audit.RowOf("1", provisioning.RulesSHA256(text)), At: noon},
	}, got)
}
