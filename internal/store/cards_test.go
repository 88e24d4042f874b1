package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/provisioning"
)

// newCard is a row of a tenant's user.
func newCard(tenant, lookup, id string) provisioning.CardRow {
	return provisioning.CardRow{
		Owner: provisioning.Owner{Tenant: tenant, Issuer: "https://" + tenant, Subject: "user"},
		ID:    id, Lookup: []byte(lookup), Key: "vault-1", IV: []byte("iv of " + id), Sealed: []byte("sealed " + id), Created: noon,
	}
}

func TestCardIsFoundInItsTenantAlone(t *testing.T) { onEach(t, testCardIsFoundInItsTenantAlone) }

func testCardIsFoundInItsTenantAlone(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	mustAppend(t, s, newCard("bank", "card", "row-1"), newCard("other bank", "card", "row-1"), newCard("bank", "second", "row-2"))
	for _, tc := range []struct {
		tenant, lookup string
		id             string // empty: unknown
	}{
		{"bank", "card", "row-1"},
		{"bank", "second", "row-2"},
		{"other bank", "card", "row-1"},
		{"other bank", "second", ""},
		{"third bank", "card", ""},
		{"", "card", ""},
		{"bank", "", ""},
		{"bank", "CARD", ""},
	} {
		got, err := s.FindCard(context.Background(), newCard(tc.tenant, "", "").Owner, []byte(tc.lookup))
		only, onlyErr := s.FindOnlyCard(context.Background(), tc.tenant, []byte(tc.lookup))
		if diff := cmp.Diff(got, only); diff != "" || errors.Is(err, provisioning.ErrUnknownCard) != errors.Is(onlyErr, provisioning.ErrUnknownCard) {
			t.Errorf("%q, %q: as the only one %s, %v", tc.tenant, tc.lookup, diff, onlyErr)
		}
		if tc.id == "" {
			if !errors.Is(err, provisioning.ErrUnknownCard) {
				t.Errorf("%q, %q: found %+v, %v", tc.tenant, tc.lookup, got, err)
			}
			continue
		}
		want := newCard(tc.tenant, tc.lookup, tc.id)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q, %q: %v, %s", tc.tenant, tc.lookup, err, diff)
		}
	}
}

func TestCardStoredAgainTakesTheOldOnesPlace(t *testing.T) {
	onEach(t, testCardStoredAgainTakesTheOldOnesPlace)
}

func testCardStoredAgainTakesTheOldOnesPlace(t *testing.T, e engine) {
	s, path := e.openNew(t)
	mustAppend(t, s, newCard("bank", "card", "row-1"), newCard("other bank", "card", "row-1"))
	again := newCard("bank", "card", "row-2")
	again.Key = "vault-2"
	mustAppend(t, s, again)
	got, err := s.FindOnlyCard(context.Background(), "bank", []byte("card"))
	if diff := cmp.Diff(again, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if rows := rowsOf(t, e.beside(t, path), "SELECT tenant || ' ' || id FROM cards ORDER BY 1"); !slices.Equal(rows, []string{"bank row-2", "other bank row-1"}) {
		t.Errorf("rows are %q", rows)
	}
	// A row's id is its own: it is in the associated data of what is sealed in it.
	requireUnavailable(t, appendEntry(t, s, newCard("bank", "another", "row-2")))
}

// Two owners of a tenant may call cards alike: each finds and replaces his own, and who may
// use all owners' cards finds neither while there are two.
func TestOwnersMayCallCardsAlike(t *testing.T) { onEach(t, testOwnersMayCallCardsAlike) }

func testOwnersMayCallCardsAlike(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	first, sub, iss := newCard("bank", "card", "row-1"), newCard("bank", "card", "row-2"), newCard("bank", "card", "row-3")
	sub.Owner.Subject, iss.Owner.Issuer = "somebody else", "somebody else"
	only := func(want string) {
		t.Helper()
		got, err := s.FindOnlyCard(t.Context(), "bank", []byte("card"))
		if got.ID != want || (err == nil) != (want != "") || want == "" && !errors.Is(err, provisioning.ErrUnknownCard) {
			t.Errorf("the only one is %q, %v; want %q", got.ID, err, want)
		}
	}
	mustAppend(t, s, first)
	only("row-1")
	mustAppend(t, s, sub)
	mustAppend(t, s, iss)
	again := sub
	again.ID, again.Sealed = "row-4", []byte("again")
	mustAppend(t, s, again)
	for _, want := range []provisioning.CardRow{first, again, iss} {
		got, err := s.FindCard(t.Context(), want.Owner, []byte("card"))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v, %s", err, diff)
		}
	}
	only("")
	mustAppend(t, s, provisioning.CardRemoval{Tenant: "bank", ID: "row-4"})
	mustAppend(t, s, provisioning.CardRemoval{Tenant: "bank", ID: "row-3"})
	only("row-1")
}

// A row that was replaced, removed or moved since it was read is left alone.
func TestCardMovesToAnotherKeyOnlyAsItWasRead(t *testing.T) {
	onEach(t, testCardMovesToAnotherKeyOnlyAsItWasRead)
}

func testCardMovesToAnotherKeyOnlyAsItWasRead(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	row := newCard("bank", "card", "row-1")
	mustAppend(t, s, row, newCard("other bank", "card", "row-1"))
	moved := row
	moved.Key, moved.IV, moved.Sealed = "vault-2", []byte("another iv"), []byte("sealed anew")
	move := provisioning.CardMove{CardRow: moved, From: row.Key, FromIV: row.IV}
	mustAppend(t, s, move)
	got, err := s.FindOnlyCard(context.Background(), "bank", row.Lookup)
	if diff := cmp.Diff(moved, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if err := appendTo(s, move); !errors.Is(err, provisioning.ErrCardChanged) {
		t.Errorf("moved twice: %v", err)
	}
	left, err := s.CardsNotUnder(context.Background(), "vault-2", provisioning.CardRow{}, 10)
	if err != nil || len(left) != 1 || left[0].Owner.Tenant != "other bank" {
		t.Errorf("left is %+v, %v", left, err)
	}
	waiting := notice("n", time.Time{})
	waiting.Body.Key = "vault-2"
	mustAppend(t, s, waiting)
	if cards, notices, err := s.SealedUnder(context.Background(), "vault-2"); err != nil || cards != 1 || notices != 1 {
		t.Errorf("%d cards and %d notices are under it, %v", cards, notices, err)
	}
	if left, err := s.CardsNotUnder(context.Background(), "vault-2", left[0], 10); err != nil || len(left) != 0 {
		t.Errorf("behind it is %+v, %v", left, err)
	}
	mustAppend(t, s, provisioning.CardRemoval{Tenant: "bank", ID: "row-1"})
	if err := appendTo(s, provisioning.CardRemoval{Tenant: "bank", ID: "row-1"}); !errors.Is(err, provisioning.ErrUnknownCard) {
		t.Errorf("removed twice: %v", err)
	}
}

// Two messages may have one jti. Whichever claims it, the row stays until the last of them is
// dead: forgotten with the first, the second could be replayed.
func TestEncryptedCardIsRememberedForAsLongAsAnyWithItsIDLives(t *testing.T) {
	onEach(t, testEncryptedCardIsRememberedForAsLongAsAnyWithItsIDLives)
}

func testEncryptedCardIsRememberedForAsLongAsAnyWithItsIDLives(t *testing.T, e engine) {
	for name, test := range map[string]struct{ first, second time.Duration }{
		"the second lives longer": {5 * time.Minute, 15 * time.Minute},
		"the first lives longer":  {15 * time.Minute, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := e.openNew(t)
			claim := func(now time.Time, life time.Duration) *provisioning.MessageClaim {
				return &provisioning.MessageClaim{Tenant: "bank", ID: [32]byte{1}, Now: now, Until: now.Add(time.Minute), Expires: now.Add(life)}
			}
			first, second := claim(noon, test.first), claim(noon, test.second)
			mustAppend(t, s, first)
			mustAppend(t, s, first.End(false))
			mustAppend(t, s, second)
			mustAppend(t, s, second.End(true))
			again := claim(noon.Add(15*time.Minute-time.Millisecond), time.Minute)
			if err := appendTo(s, again); !errors.Is(err, provisioning.ErrMessageUsed) {
				t.Errorf("before its end: %v", err)
			}
		})
	}
}

// Of any number of uses of an encrypted card one counts; a lease that ran out does not hold
// the next one up, and whoever had it is fenced out.
func TestEncryptedCardIsUsedOnce(t *testing.T) { onEach(t, testEncryptedCardIsUsedOnce) }

func testEncryptedCardIsUsedOnce(t *testing.T, e engine) {
	s, path := e.openNew(t)
	claim := func(id byte, now time.Time) *provisioning.MessageClaim {
		return &provisioning.MessageClaim{Tenant: "bank", ID: [32]byte{id}, Now: now, Until: now.Add(time.Minute), Expires: now.Add(time.Hour)}
	}
	first := claim(1, noon)
	mustAppend(t, s, first)
	if err := appendTo(s, claim(1, noon.Add(59*time.Second))); !errors.Is(err, provisioning.ErrMessageUsed) {
		t.Errorf("claimed twice: %v", err)
	}
	if err := appendTo(s, provisioning.MessageUse{Claim: *claim(1, noon)}); !errors.Is(err, provisioning.ErrMessageUsed) {
		t.Errorf("used while claimed: %v", err)
	}
	late := claim(1, noon.Add(time.Minute))
	mustAppend(t, s, late)
	if err := appendTo(s, first.End(true)); !errors.Is(err, provisioning.ErrMessageUsed) {
		t.Errorf("ended by whoever lost it: %v", err)
	}
	mustAppend(t, s, late.End(false))
	mustAppend(t, s, provisioning.MessageUse{Claim: *claim(1, noon.Add(2*time.Minute))})
	for id, want := range map[byte]bool{1: true, 2: false} {
		if used, err := s.MessageUsed(context.Background(), "bank", [32]byte{id}); err != nil || used != want {
			t.Errorf("message %d: %t, %v", id, used, err)
		}
	}
	if err := appendTo(s, claim(1, noon.Add(3*time.Minute))); !errors.Is(err, provisioning.ErrMessageUsed) {
		t.Errorf("used twice: %v", err)
	}
	other := claim(1, noon)
	other.Tenant = "other bank"
	mustAppend(t, s, other)
	mustAppend(t, s, claim(3, noon.Add(48*time.Hour))) // which forgets what has expired
	if rows := rowsOf(t, e.beside(t, path), "SELECT tenant FROM used_messages ORDER BY 1"); !slices.Equal(rows, []string{"bank"}) {
		t.Errorf("rows are %q", rows)
	}
}
