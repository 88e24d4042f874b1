package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

func use(client, day string, limit int) merchant.QuotaUse {
	return merchant.QuotaUse{Client: client, Day: day, Limit: limit}
}

const quotaRows = "SELECT iss || ' ' || day || ' ' || used FROM merchant_quotas ORDER BY 1"

func TestDayHasItsNumberOfTokens(t *testing.T) { onEach(t, testDayHasItsNumberOfTokens) }

func testDayHasItsNumberOfTokens(t *testing.T, e engine) {
	type step struct {
		use  merchant.QuotaUse
		over bool
		rows string // after it
	}
	for name, steps := range map[string][]step{
		"up to the limit": {
			{use("a", "2026-11-22", 2), false, "a 2026-11-22 1"},
			{use("a", "2026-11-22", 2), false, "a 2026-11-22 2"},
			{use("a", "2026-11-22", 2), true, "a 2026-11-22 2"},
			{use("a", "2026-11-22", 2), true, "a 2026-11-22 2"},
		},
		"a limit of one": {
			{use("a", "2026-11-22", 1), false, "a 2026-11-22 1"},
			{use("a", "2026-11-22", 1), true, "a 2026-11-22 1"},
		},
		"each client its own": {
			{use("a", "2026-11-22", 1), false, "a 2026-11-22 1"},
			{use("A", "2026-11-22", 1), false, "A 2026-11-22 1, a 2026-11-22 1"},
			{use("a", "2026-11-22", 1), true, "A 2026-11-22 1, a 2026-11-22 1"},
		},
		"a new day starts anew, and the past goes, but for yesterday": {
			{use("a", "2026-11-22", 1), false, "a 2026-11-22 1"},
			{use("b", "2026-11-22", 1), false, "a 2026-11-22 1, b 2026-11-22 1"},
			{use("a", "2026-11-23", 1), false, "a 2026-11-22 1, a 2026-11-23 1, b 2026-11-22 1"},
			{use("a", "2026-11-23", 1), true, "a 2026-11-22 1, a 2026-11-23 1, b 2026-11-22 1"},
			{use("a", "2026-11-24", 1), false, "a 2026-11-23 1, a 2026-11-24 1, b 2026-11-22 1"},
		},
		"a year ends as a day does": {
			{use("a", "2026-12-31", 1), false, "a 2026-12-31 1"},
			{use("a", "2027-01-01", 1), false, "a 2026-12-31 1, a 2027-01-01 1"},
			{use("a", "2027-01-02", 1), false, "a 2027-01-01 1, a 2027-01-02 1"},
		},
		"a process whose clock is behind does not begin its day anew": {
			{use("a", "2026-11-22", 1), false, "a 2026-11-22 1"},
			{use("a", "2026-11-23", 1), false, "a 2026-11-22 1, a 2026-11-23 1"},
			{use("a", "2026-11-22", 1), true, "a 2026-11-22 1, a 2026-11-23 1"},
		},
		"a clock that is set back counts on where that day was": {
			{use("a", "2026-11-23", 2), false, "a 2026-11-23 1"},
			{use("a", "2026-11-22", 2), false, "a 2026-11-22 1, a 2026-11-23 1"},
			{use("a", "2026-11-23", 2), false, "a 2026-11-22 1, a 2026-11-23 2"},
			{use("a", "2026-11-23", 2), true, "a 2026-11-22 1, a 2026-11-23 2"},
		},
		"another limit holds at once": {
			{use("a", "2026-11-22", 2), false, "a 2026-11-22 1"},
			{use("a", "2026-11-22", 1), true, "a 2026-11-22 1"},
			{use("a", "2026-11-22", 3), false, "a 2026-11-22 2"},
			{use("a", "2026-11-22", 3), false, "a 2026-11-22 3"},
			{use("a", "2026-11-22", 3), true, "a 2026-11-22 3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := e.openNew(t)
			db := e.beside(t, path)
			for i, st := range steps {
				err := appendEntry(t, s, st.use)
				if errors.Is(err, merchant.ErrQuota) != st.over || (err != nil) != st.over {
					t.Fatalf("step %d: %v", i, err)
				}
				if got := strings.Join(rowsOf(t, db, quotaRows), ", "); got != st.rows {
					t.Errorf("step %d: rows are %s, want %s", i, got, st.rows)
				}
			}
		})
	}
}

func TestOfManyTokensAtOnceTheDaysNumberIsCounted(t *testing.T) {
	onEach(t, testOfManyTokensAtOnceTheDaysNumberIsCounted)
}

func testOfManyTokensAtOnceTheDaysNumberIsCounted(t *testing.T, e engine) {
	const callers, limit = 100, 7
	s, path := e.openNew(t)
	var counted, over atomic.Int32
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			switch err := appendTo(s, use("a", "2026-11-22", limit)); {
			case err == nil:
				counted.Add(1)
			case errors.Is(err, merchant.ErrQuota):
				over.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if counted.Load() != limit || over.Load() != callers-limit || len(entries(t, s)) != limit {
		t.Errorf("%d counted, %d over, %d entries", counted.Load(), over.Load(), len(entries(t, s)))
	}
	if got := rowsOf(t, e.beside(t, path), quotaRows); len(got) != 1 || got[0] != "a 2026-11-22 7" {
		t.Errorf("rows are %q", got)
	}
}

// A token is counted if its result is committed, and only then; and a result that cannot be
// committed leaves its claim as it was.
func TestCountAndClaimAreCommittedTogether(t *testing.T) {
	onEach(t, testCountAndClaimAreCommittedTogether)
}

func testCountAndClaimAreCommittedTogether(t *testing.T, e engine) {
	s, path := e.openNew(t)
	db := e.beside(t, path)
	claim := newUse("token", noon, time.Minute)
	mustAppend(t, s, claim)
	mustAppend(t, s, use("full", "2026-11-22", 1))
	state := func() []string {
		return append(rowsOf(t, db, quotaRows), rowsOf(t, db, "SELECT state || ' ' || fence FROM used_tokens")...)
	}
	before := state()
	gone := *claim
	gone.Fence = 7
	for name, tc := range map[string]struct {
		changes []record.Change
		want    error
	}{
		"the day is full":                  {[]record.Change{claim.End(true), use("full", "2026-11-22", 1)}, merchant.ErrQuota},
		"the day is full, said first":      {[]record.Change{use("full", "2026-11-22", 1), claim.End(true)}, merchant.ErrQuota},
		"the token was taken over":         {[]record.Change{use("a", "2026-11-22", 1), gone.End(true)}, access.ErrReplayed},
		"counted twice, with room for one": {[]record.Change{use("a", "2026-11-22", 1), use("a", "2026-11-22", 1)}, merchant.ErrQuota},
		"the token is replayed beside it":  {[]record.Change{use("a", "2026-11-22", 1), newUse("token", noon, time.Minute)}, access.ErrReplayed},
	} {
		if err := appendEntry(t, s, tc.changes...); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, state()); diff != "" {
			t.Errorf("%s: the database changed: %s", name, diff)
		}
	}
	mustAppend(t, s, use("a", "2026-11-22", 1), claim.End(true))
	if diff := cmp.Diff([]string{"a 2026-11-22 1", "full 2026-11-22 1", "used 1"}, state()); diff != "" {
		t.Error(diff)
	}
}

// A database of the first version keeps what it holds when it is opened by this one.
func TestMigrationKeepsWhatWasThere(t *testing.T) {
	e := engines[0] // the first version had no other
	path := filepath.Join(t.TempDir(), "mintmark.db")
	makeFirstVersion(t, path)
	contentsOf := func(db *sql.DB) []string {
		return append(firstContents(t, e, db), rowsOf(t, db, "SELECT name || value FROM stamp")...)
	}
	db := e.beside(t, path)
	before := contentsOf(db)
	if len(before) != 4 {
		t.Fatalf("the first version holds %q", before)
	}
	for range 2 {
		s, err := store.Open(context.Background(), path, environment)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, contentsOf(db)); diff != "" {
			t.Errorf("the migration changed: %s", diff)
		}
		if card, err := s.FindOnlyCard(context.Background(), "bank", []byte("lookup")); err != nil || card.ID != "row-1" {
			t.Errorf("card %+v, %v", card, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The log is one tree, by sequence number: what else each commit would have to write to
	// is gone.
	same(t, nil, rowsOf(t, db, "SELECT name FROM pragma_index_list('audit_entries')"))
	s := e.openAt(t, path)
	mustAppend(t, s, newUse("token", noon, time.Minute), use("a", "2026-11-22", 1))
	if all := entries(t, s); len(all) != 2 || all[1].Seq != 1 {
		t.Errorf("entries %+v", all)
	}
}

// makeFirstVersion makes a database as the first version left it: with the tables of its
// one migration, a row in each, and the migration noted.
func makeFirstVersion(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile("migrations/00001_spine.sql")
	if err != nil {
		t.Fatal(err)
	}
	up, _, ok := strings.Cut(string(text), "-- +goose Down")
	if !ok {
		t.Fatal("the migration has no way down")
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	execute(t, db, up)
	execute(t, db, `CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now')));
		INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (1, 1);
		INSERT INTO stamp VALUES ('environment', 'test');
		INSERT INTO cards VALUES ('bank', 'row-1', CAST('lookup' AS BLOB), 'https://issuer', 'user', 'vault', x'01', x'02', 3);
		INSERT INTO apple_nonces VALUES ('bank', x'04', 'used', 5, 6)`)
	execute(t, db, fmt.Sprintf("INSERT INTO audit_entries VALUES (0, %d, 'intent', 'ticket', 'bank', '{}')", noon.UnixMilli()))
}
