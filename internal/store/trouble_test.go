package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/store"
)

// A database that is full, or can only be read, takes nothing in part; when it can be
// written again the log goes on, with the same store and without a gap.
func TestTroubleWithTheDatabasePasses(t *testing.T) {
	type trouble struct{ begin, end []string }
	onEach(t, func(t *testing.T, e engine) {
		for name, tr := range map[string]map[string]trouble{
			"full": {
				"SQLite": {[]string{"PRAGMA max_page_count = 1"}, []string{"PRAGMA max_page_count = 1000000"}},
				// A server whose disk is full refuses what would need more of it.
				"PostgreSQL": {
					[]string{"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$",
						"CREATE TRIGGER full_disk BEFORE INSERT ON audit_entries EXECUTE FUNCTION full_disk()"},
					[]string{"DROP TRIGGER full_disk ON audit_entries"},
				},
			},
			"read-only": {
				"SQLite":     {[]string{"PRAGMA query_only = ON"}, []string{"PRAGMA query_only = OFF"}},
				"PostgreSQL": {[]string{"SET default_transaction_read_only = on"}, []string{"SET default_transaction_read_only = off"}},
			},
		} {
			t.Run(name, func(t *testing.T) {
				s, place := e.openNew(t)
				db := e.beside(t, place)
				mustAppend(t, s, newClaim("before", noon, time.Minute))
				do := func(texts []string) {
					t.Helper()
					for _, text := range texts {
						if err := store.OnWriter(s.Store, text); err != nil {
							t.Fatal(err)
						}
					}
				}
				before := contents(t, e, db)
				do(tr[e.name].begin)
				large := entry(`{"text":"` + strings.Repeat("x", 1<<16) + `"}`) // more than the pages there are
				for range 3 {
					requireUnavailable(t, s.Append(t.Context(), large, changes(newClaim("during", noon, time.Minute))))
				}
				same(t, before, contents(t, e, db))
				do(tr[e.name].end)
				mustAppend(t, s, newClaim("during", noon, time.Minute))
				requireTree(t, s, 2)
			})
		}
	})
}

// requireTree requires that the log is the tree that its entries make.
func requireTree(t testing.TB, s *opened, n int) {
	t.Helper()
	rows, err := s.Rows(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	tree := audit.NewTree(0, nil)
	for _, r := range rows {
		same(t, audit.NewRow(r.Entry, tree), r)
	}
	head, err := s.Head(t.Context())
	if err != nil || len(rows) != n || !head.Equal(tree) {
		t.Errorf("%d entries, want %d; head %v, %v", len(rows), n, head, err)
	}
}
