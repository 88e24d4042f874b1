package store_test

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

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
