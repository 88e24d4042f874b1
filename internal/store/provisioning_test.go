package store_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// newClaim claims the nonce called name at a time, for a while.
func newClaim(name string, now time.Time, lease time.Duration) *provisioning.NonceClaim {
	return &provisioning.NonceClaim{Tenant: "bank", ID: sha256.Sum256([]byte(name)), Now: now, Until: now.Add(lease)}
}

// The states a nonce goes through, and who gets it: each step is a claim or the end of
// an earlier claim, with what comes of it.
func TestNonceHasOneClaimantAtATime(t *testing.T) { onEach(t, testNonceHasOneClaimantAtATime) }

func testNonceHasOneClaimantAtATime(t *testing.T, e engine) {
	const lease = time.Minute
	type step struct {
		after time.Duration // since noon
		do    string        // "claim", or "free" or "use" of the claim called of
		of    string
		as    string // the name of a claim that is made
		fence int64  // of a claim that is made
		used  bool   // ErrNonceUsed instead
	}
	for name, steps := range map[string][]step{
		"new": {
			{do: "claim", as: "A", fence: 1},
		},
		"claimed again": {
			{do: "claim", as: "A", fence: 1},
			{do: "claim", used: true},
			{after: lease - time.Millisecond, do: "claim", used: true},
		},
		"lease over: taken over": {
			{do: "claim", as: "A", fence: 1},
			{after: lease, do: "claim", as: "B", fence: 2},
			{after: 2*lease - time.Millisecond, do: "claim", used: true},
			{after: 2 * lease, do: "claim", as: "C", fence: 3},
		},
		"freed: claimed again, the fence goes on": {
			{do: "claim", as: "A", fence: 1},
			{do: "free", of: "A"},
			{do: "claim", as: "B", fence: 2},
			{do: "free", of: "B"},
			{do: "claim", as: "C", fence: 3},
		},
		"used: never again": {
			{do: "claim", as: "A", fence: 1},
			{do: "use", of: "A"},
			{do: "claim", used: true},
			{after: 1000 * time.Hour, do: "claim", used: true},
		},
		"old claim cannot end a newer one": {
			{do: "claim", as: "A", fence: 1},
			{after: lease, do: "claim", as: "B", fence: 2},
			{after: lease, do: "use", of: "A", used: true},
			{after: lease, do: "free", of: "A", used: true},
			{after: lease, do: "claim", used: true},
			{after: lease, do: "use", of: "B"},
		},
		"freed claim ends once": {
			{do: "claim", as: "A", fence: 1},
			{do: "free", of: "A"},
			{do: "free", of: "A", used: true},
			{do: "use", of: "A", used: true},
			{do: "claim", as: "B", fence: 2},
			{do: "use", of: "A", used: true},
			{do: "use", of: "B"},
		},
		"used claim ends once": {
			{do: "claim", as: "A", fence: 1},
			{do: "use", of: "A"},
			{do: "use", of: "A", used: true},
			{do: "free", of: "A", used: true},
			{do: "claim", used: true},
		},
		"late, and nobody came: it ends well": {
			{do: "claim", as: "A", fence: 1},
			{after: 10 * lease, do: "use", of: "A"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := e.openNew(t)
			claims := map[string]*provisioning.NonceClaim{}
			committed := 0
			for i, st := range steps {
				var change record.Change
				c := newClaim("nonce", noon.Add(st.after), lease)
				switch st.do {
				case "claim":
					change = c
				default:
					change = provisioning.NonceEnd{Claim: *claims[st.of], Used: st.do == "use"}
				}
				err := appendEntry(t, s, change)
				if st.used != errors.Is(err, provisioning.ErrNonceUsed) || (err != nil) != st.used {
					t.Fatalf("step %d: %s gives %v", i, st.do, err)
				}
				if err == nil {
					committed++
				}
				if st.as != "" {
					if c.Fence != st.fence {
						t.Fatalf("step %d: fence %d, want %d", i, c.Fence, st.fence)
					}
					claims[st.as] = c
				}
				if all := entries(t, s); len(all) != committed {
					t.Fatalf("step %d: %d entries, want %d", i, len(all), committed)
				}
			}
		})
	}
}

func TestNoncesOfTwoTenantsAreTwo(t *testing.T) { onEach(t, testNoncesOfTwoTenantsAreTwo) }

func testNoncesOfTwoTenantsAreTwo(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	a, b := newClaim("nonce", noon, time.Minute), newClaim("nonce", noon, time.Minute)
	b.Tenant = "other bank"
	mustAppend(t, s, a)
	mustAppend(t, s, b)
	// Neither ends the other's.
	mustAppend(t, s, provisioning.NonceEnd{Claim: *a, Used: true})
	mustAppend(t, s, provisioning.NonceEnd{Claim: *b})
	b = newClaim("nonce", noon, time.Minute)
	b.Tenant = "other bank"
	mustAppend(t, s, b)
	if b.Fence != 2 {
		t.Errorf("fence %d, want 2", b.Fence)
	}
}

func TestEndOfANonceThatNobodyClaimedIsRefused(t *testing.T) {
	onEach(t, testEndOfANonceThatNobodyClaimedIsRefused)
}

func testEndOfANonceThatNobodyClaimedIsRefused(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	for _, used := range []bool{false, true} {
		if err := appendEntry(t, s, provisioning.NonceEnd{Claim: *newClaim("nonce", noon, time.Minute), Used: used}); !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("used %v: %v", used, err)
		}
	}
	mustAppend(t, s, newClaim("nonce", noon, time.Minute))
}

func TestOfManyClaimsAtOnceOneWins(t *testing.T) { onEach(t, testOfManyClaimsAtOnceOneWins) }

func testOfManyClaimsAtOnceOneWins(t *testing.T, e engine) {
	const claimants = 200
	s, _ := e.openNew(t)
	errs, claims := make([]error, claimants), make([]*provisioning.NonceClaim, claimants)
	var all sync.WaitGroup
	for i := range claimants {
		claims[i] = newClaim("nonce", noon, time.Minute)
		all.Go(func() { errs[i] = appendTo(s, claims[i]) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		t.Fatal("nobody won")
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("claimant %d beside the winner: %v", i, err)
		}
	}
	if claims[winner].Fence != 1 || len(entries(t, s)) != 1 {
		t.Errorf("fence %d and %d entries, want one of each", claims[winner].Fence, len(entries(t, s)))
	}
}

// unknownChange is a change of a domain that the store was never told of.
type unknownChange struct{}

func (unknownChange) IsChange() {}

func TestOneChangeThatFailsUndoesAll(t *testing.T) { onEach(t, testOneChangeThatFailsUndoesAll) }

func testOneChangeThatFailsUndoesAll(t *testing.T, e engine) {
	s, path := e.openNew(t)
	used := newClaim("used", noon, time.Minute)
	mustAppend(t, s, used)
	mustAppend(t, s, provisioning.NonceEnd{Claim: *used, Used: true})
	held := newClaim("held", noon, time.Minute)
	mustAppend(t, s, held)
	card := newCard("bank", "card", "row")
	db := e.beside(t, path)
	before := contents(t, e, db)

	for name, tc := range map[string]struct {
		changes []record.Change
		check   func(error) bool
	}{
		"claim of a used nonce after a card": {
			[]record.Change{card, newClaim("used", noon, time.Minute)},
			func(err error) bool { return errors.Is(err, provisioning.ErrNonceUsed) },
		},
		"claim of a used nonce after another claim and an end": {
			[]record.Change{newClaim("new", noon, time.Minute), provisioning.NonceEnd{Claim: *held, Used: true}, newClaim("used", noon, time.Minute)},
			func(err error) bool { return errors.Is(err, provisioning.ErrNonceUsed) },
		},
		"the same nonce twice": {
			[]record.Change{newClaim("new", noon, time.Minute), newClaim("new", noon, time.Minute)},
			func(err error) bool { return errors.Is(err, provisioning.ErrNonceUsed) },
		},
		"a change that the store does not know": {
			[]record.Change{card, unknownChange{}},
			func(err error) bool { return err != nil },
		},
		"a claim by value, which could not carry its fence back": {
			[]record.Change{card, claimByValue{newClaim("new", noon, time.Minute)}},
			func(err error) bool { return err != nil },
		},
		"a token and its day, and then a used nonce": {
			[]record.Change{newUse("token", noon, time.Minute), use("a", "2026-11-22", 1), newClaim("used", noon, time.Minute)},
			func(err error) bool { return errors.Is(err, provisioning.ErrNonceUsed) },
		},
		"a card without a look-up value": {
			[]record.Change{newClaim("new", noon, time.Minute), provisioning.CardRow{ID: "x"}},
			func(err error) bool {
				var later interface{ RetryAfter() time.Duration }
				return errors.As(err, &later)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := appendEntry(t, s, tc.changes...); !tc.check(err) {
				t.Errorf("error is %v", err)
			}
			if diff := cmp.Diff(before, contents(t, e, db)); diff != "" {
				t.Errorf("the database changed: %s", diff)
			}
		})
	}
}

// claimByValue hides the claim that it embeds from the store.
type claimByValue struct{ *provisioning.NonceClaim }

// An entry that cannot be written takes its changes with it: there is no output and no
// claim without a record.
func TestEntryThatFailsUndoesItsChanges(t *testing.T) { onEach(t, testEntryThatFailsUndoesItsChanges) }

func testEntryThatFailsUndoesItsChanges(t *testing.T, e engine) {
	s, path := e.openNew(t)
	db := e.beside(t, path)
	e.failEntries(t, db, audit.KindResult)
	before := contents(t, e, db)
	result := entry(`{}`)
	result.Kind = audit.KindResult
	err := s.Append(context.Background(), result, []record.Change{newCard("bank", "card", "row"), newClaim("nonce", noon, time.Minute)})
	requireUnavailable(t, err)
	if errors.Unwrap(err) == nil {
		t.Error("the cause is not kept for the log")
	}
	if diff := cmp.Diff(before, contents(t, e, db)); diff != "" {
		t.Errorf("the database changed: %s", diff)
	}
}

// contents is everything in the domains' tables.
func contents(t testing.TB, e engine, db *sql.DB) []string {
	t.Helper()
	return append(firstContents(t, e, db), rowsOfAll(t, e, db,
		"SELECT 'token ' || hex(claim) || iss || state || fence || lease_until || expires_at FROM used_tokens ORDER BY 1",
		"SELECT 'quota ' || iss || day || used FROM merchant_quotas ORDER BY 1",
	)...)
}

// firstContents is everything in the tables that there were from the beginning.
func firstContents(t testing.TB, e engine, db *sql.DB) []string {
	t.Helper()
	return rowsOfAll(t, e, db,
		"SELECT 'entry ' || seq || kind || body FROM audit_entries ORDER BY 1",
		"SELECT 'nonce ' || tenant || hex(claim) || state || fence || lease_until FROM apple_nonces ORDER BY 1",
		"SELECT 'card ' || tenant || id || hex(lookup) || owner_iss || owner_sub || vault_key || hex(iv) || hex(sealed) || created_at FROM cards ORDER BY 1",
	)
}

func rowsOfAll(t testing.TB, e engine, db *sql.DB, queries ...string) []string {
	t.Helper()
	var all []string
	for _, q := range queries {
		all = append(all, rowsOf(t, db, hexColumn.ReplaceAllString(q, strings.ReplaceAll(e.hex, "%s", "$1")))...)
	}
	return all
}

// hexColumn is a column that is shown in hexadecimal, which each engine does its own way.
var hexColumn = regexp.MustCompile(`hex\((\w+)\)`)

func rowsOf(t testing.TB, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

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

func TestLogIsInOrderAndWithoutGaps(t *testing.T) { onEach(t, testLogIsInOrderAndWithoutGaps) }

func testLogIsInOrderAndWithoutGaps(t *testing.T, e engine) {
	const writers, each = 50, 4
	s, _ := e.openNew(t)
	used := newClaim("used", noon, time.Minute)
	mustAppend(t, s, used)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				if err := appendTo(s); err != nil {
					t.Error(err)
				}
				if err := appendTo(s, newClaim("used", noon, time.Minute)); !errors.Is(err, provisioning.ErrNonceUsed) { // takes no number
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := entries(t, s)
	if len(got) != 1+writers*each {
		t.Fatalf("%d entries, want %d", len(got), 1+writers*each)
	}
	for i, e := range got {
		if e.Seq != uint64(i) {
			t.Fatalf("entry %d has number %d", i, e.Seq)
		}
	}
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	onEach(t, testEntriesAreReadAsTheyWereWritten)
}

func testEntriesAreReadAsTheyWereWritten(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	want := []audit.Entry{
		{At: noon, Kind: audit.KindIntent, Ticket: "t1", Tenant: "bank", Body: []byte(`{"operation":"x"}`)},
		{At: noon.Add(time.Millisecond), Kind: audit.KindResult, Ticket: "t1", Tenant: "bank", Body: []byte(`{"outcome":"done"}`)},
		{At: noon.Add(-time.Hour), Kind: audit.KindRefusal, Tenant: "bänk 'quoted'", Body: []byte(`{"reason":"x"}`)},
		{At: noon.Add(time.Second), Kind: audit.KindLifecycle, Body: []byte(`{"event":"stop"}`)},
	}
	for i, e := range want {
		e.Seq = 1000 // the store's own to give
		e.At = e.At.In(time.FixedZone("elsewhere", 3600))
		if err := s.Append(context.Background(), e, nil); err != nil {
			t.Fatal(err)
		}
		want[i].Seq = uint64(i)
	}
	for _, tc := range []struct {
		from  uint64
		limit int
		want  []audit.Entry
	}{
		{0, 100, want},
		{0, 4, want},
		{0, 2, want[:2]},
		{1, 2, want[1:3]},
		{3, 100, want[3:]},
		{4, 100, nil},
		{0, 0, nil},
		{math.MaxInt64, 1, nil},
	} {
		got, err := s.Read(context.Background(), tc.from, tc.limit)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("from %d, at most %d: %v, %s", tc.from, tc.limit, err, diff)
		}
	}
}
