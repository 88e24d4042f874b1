package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// everyKind makes a SQLite database with rows in each table, as the domains write them, and
// gives its path; nobody has it open.
func everyKind(t *testing.T) string {
	t.Helper()
	w := newShop(t, engines[0])
	s, ctx := w.opened, t.Context()
	message := provisioning.MessageClaim{Tenant: "bank", ID: [32]byte{1}, Now: noon, Until: noon.Add(time.Minute), Expires: noon.Add(time.Hour)}
	mustAppendEach(t, s,
		newCard("bank", "card", "row-1"), newCard("bänk", "\x00\xff", "row-2"), newClaim("a", noon, time.Minute), newClaim("b", noon, time.Minute),
		newUse("token", noon, time.Minute),
		use("a", "2026-11-22", 5), use("b", "2026-11-22", 5), &message,
		provisioning.TokenPut{Token: walletToken("a", 1)}, provisioning.TokenPut{Token: walletToken("a", 2), Was: 1},
		provisioning.EnablementPut{Enablement: provisioning.Enablement{Tenant: "bank", Revision: 1, Rules: []provisioning.EnablementRule{{Product: "mastercard", Percentage: 50}}, Changed: noon}},
		decided("first", 1, 0), decided("second", 2, time.Minute), notice("a", time.Time{}), notice("b", noon.Add(time.Hour)),
		passcodeRow("code", 2), approval.Proposal{Change: proposal("1")}, claimed("1", proposed),
		passes.AssetPut{Tenant: "shop", SHA256: "00", Content: []byte("PNG\x00\xff"), Now: noon},
	)
	w.register(1, "1", "push-1", "apple")
	w.register(2, "1", "push-2", "apple")
	w.change("1", noon)
	checkpoint := audit.Checkpoint{Size: 3, At: noon, SPKI: []byte{1, 2}, Note: "origin\n3\n"}
	if err := s.SaveCheckpoint(ctx, checkpoint); err != nil {
		t.Fatal(err)
	}
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// copyInto copies, and gives the tables by their names.
func copyInto(t *testing.T, path, dsn string) map[string]store.CopiedTable {
	t.Helper()
	all, err := store.Copy(t.Context(), path, dsn, environment, nil)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]store.CopiedTable{}
	for _, c := range all {
		byName[c.Name] = c
	}
	return byName
}

// ownTables are the tables of the schema, as the copy is not asked about them.
func ownTables(t *testing.T, db *sql.DB) []string {
	return rowsOf(t, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version' ORDER BY name")
}

// Every table goes over, with every kind of row; the log goes on where it was, and nothing
// that was used can be used again.
func TestCopyHasEveryRowOfEveryTable(t *testing.T) {
	path, dsn := everyKind(t), pgtest.NewDatabase(t)
	from := engines[0].openAt(t, path)
	before, err := from.Rows(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	copied := copyInto(t, path, dsn)
	sqlite, postgres := engines[0].beside(t, path), engines[1].beside(t, dsn)
	for _, name := range ownTables(t, sqlite) {
		want := rowsOf(t, sqlite, "SELECT COUNT(*) FROM "+name)
		same(t, want, rowsOf(t, postgres, "SELECT COUNT(*) FROM "+name))
		if got := fmt.Sprint(copied[name].Rows); got != want[0] || got == "0" || len(copied[name].SHA256) != 64 {
			t.Errorf("table %s: %+v copied of %s rows; a table without a row shows nothing", name, copied[name], want)
		}
	}
	same(t, contents(t, engines[0], sqlite), contents(t, engines[1], postgres))
	to := engines[1].openAt(t, dsn)
	after, err := to.Rows(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	same(t, before, after)
	if err := appendTo(to, newClaim("a", noon, time.Minute)); !errors.Is(err, provisioning.ErrNonceUsed) {
		t.Errorf("a nonce that is claimed: %v", err)
	}
	mustAppend(t, to, newClaim("c", noon, time.Minute))
	requireTree(t, to, len(before)+1)
}

// interrupted begins a copy that ends with its context after a batch of a table.
func interrupted(t *testing.T, path, dsn, at string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := store.Copy(ctx, path, dsn, environment, func(_, table string, done, _ uint64) {
		if table == at && done > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the copy was not interrupted: %v", err)
	}
}

// manyRegistrations adds more rows to a database than two batches hold.
func manyRegistrations(t *testing.T, path string, n int) {
	t.Helper()
	execute(t, engines[0].beside(t, path), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO pass_registrations (device, pass, push_token, client, renewed_at, stamp)
		SELECT CAST(printf('%%05d', (i * 7919) %% 100003) AS BLOB), i %% 3, 'push ' || i, 'apple', i, i FROM n`, n-1))
}

// A copy that was interrupted goes on, with what is there; nobody serves from it meanwhile, or
// migrates it.
func TestCopyGoesOnWhereItWas(t *testing.T) {
	path, dsn := everyKind(t), pgtest.NewDatabase(t)
	manyRegistrations(t, path, 4500)
	for _, at := range []string{"audit_entries", "pass_registrations", "stamp"} {
		interrupted(t, path, dsn, at)
		if s, err := store.OpenPostgres(t.Context(), dsn, environment, ""); s != nil || !errors.Is(err, store.ErrCopying) {
			t.Fatalf("opened %v, %v, want ErrCopying", s, err)
		}
		if err := store.MigratePostgres(t.Context(), dsn, environment, nil); !errors.Is(err, store.ErrCopying) {
			t.Fatalf("migrated: %v, want ErrCopying", err)
		}
	}
	began := map[string]uint64{}
	_, err := store.Copy(t.Context(), path, dsn, environment, func(doing, table string, done, _ uint64) {
		if _, ok := began[table]; doing == "copy" && !ok {
			began[table] = done
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if began["cards"] != 2 || began["pass_registrations"] != 4502 {
		t.Errorf("the last copy began at %v", began)
	}
	mustAppend(t, engines[1].openAt(t, dsn))
}

// Between the rows and the mark's end somebody changed the copy: it is not taken for one, and
// the table is named.
func TestCopyThatDiffersIsNone(t *testing.T) {
	path := everyKind(t)
	for table, change := range map[string]string{
		"cards":              "UPDATE cards SET sealed = sealed || '\\x00'::bytea WHERE id = 'row-1'",
		"merchant_quotas":    "UPDATE merchant_quotas SET used = used + 1",
		"apple_nonces":       "DELETE FROM apple_nonces",
		"pass_registrations": "INSERT INTO pass_registrations SELECT '\\xffff', pass, push_token, client, renewed_at, stamp FROM pass_registrations LIMIT 1",
		"changes":            "UPDATE changes SET kind = kind || ' '",
	} {
		t.Run(table, func(t *testing.T) {
			dsn := pgtest.NewDatabase(t)
			interrupted(t, path, dsn, "wallet_tokens") // the last of the tables
			execute(t, engines[1].beside(t, dsn), change)
			for range 2 {
				_, err := store.Copy(t.Context(), path, dsn, environment, nil)
				if !errors.Is(err, store.ErrDiffers) || !strings.Contains(err.Error(), "table "+table) {
					t.Fatalf("error %v, want ErrDiffers of table %s", err, table)
				}
			}
			if s, err := store.OpenPostgres(t.Context(), dsn, environment, ""); s != nil || !errors.Is(err, store.ErrCopying) {
				t.Errorf("opened %v, %v, want ErrCopying", s, err)
			}
		})
	}
}

// What cannot be copied, or copied into, is refused, and the target stays what it was.
func TestCopyIsRefused(t *testing.T) {
	path := everyKind(t)
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path, dsn string)
		want    error
		say     string
	}{
		"target that serves": {func(t *testing.T, _, dsn string) { engines[1].openAt(t, dsn) }, store.ErrTaken, ""},
		"target that served": {func(t *testing.T, _, dsn string) {
			s, err := store.OpenPostgres(t.Context(), dsn, environment, "")
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, withWriter(s))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}, store.ErrNotEmpty, "audit_entries"},
		"target with other rows": {func(t *testing.T, _, dsn string) {
			prepareTarget(t, dsn, "INSERT INTO merchant_quotas VALUES ('a', '2026-11-22', 1)")
		}, store.ErrNotEmpty, "merchant_quotas"},
		"target with a stamp of its own": {func(t *testing.T, _, dsn string) {
			prepareTarget(t, dsn, "INSERT INTO stamp VALUES ('owner', 'somebody')")
		}, store.ErrNotEmpty, "stamp"},
		"target of another environment": {func(t *testing.T, _, dsn string) {
			prepareTarget(t, dsn, "UPDATE stamp SET value = 'production'")
		}, store.ErrStamp, ""},
		"older target": {func(t *testing.T, _, dsn string) {
			prepareTarget(t, dsn)
			older(t, engines[1], dsn)
		}, store.ErrOlder, ""},
		"target without a table": {func(t *testing.T, _, dsn string) { prepareTarget(t, dsn, "DROP TABLE pass_pushes") }, store.ErrShape, "no table pass_pushes"},
		"target without a column": {func(t *testing.T, _, dsn string) {
			prepareTarget(t, dsn, "ALTER TABLE cards DROP COLUMN sealed")
		}, store.ErrShape, "table cards"},
		"table that the source has not": {func(t *testing.T, _, dsn string) {
			prepareTarget(t, dsn, "CREATE TABLE later (id BIGINT PRIMARY KEY)")
		}, store.ErrShape, "the source has no table later"},
		"table that the target has not": {func(t *testing.T, path, _ string) {
			execute(t, engines[0].beside(t, path), "CREATE TABLE later (id BIGINT PRIMARY KEY)")
		}, store.ErrShape, "the target has no table later"},
		"column of a type that is not known": {func(t *testing.T, path, _ string) {
			execute(t, engines[0].beside(t, path), "ALTER TABLE cards ADD COLUMN rate REAL")
		}, store.ErrShape, "column rate of table cards"},
		"table without a key": {func(t *testing.T, path, _ string) {
			execute(t, engines[0].beside(t, path), "CREATE TABLE later (id BIGINT)")
		}, store.ErrShape, "table later has no primary key"},
		"source in use": {func(t *testing.T, path, _ string) { engines[0].openAt(t, path) }, store.ErrTaken, ""},
		"source of another environment": {func(t *testing.T, path, _ string) {
			execute(t, engines[0].beside(t, path), "UPDATE stamp SET value = 'production'")
		}, store.ErrStamp, ""},
		"older source": {func(t *testing.T, path, _ string) { older(t, engines[0], path) }, store.ErrOlder, ""},
		"newer source": {func(t *testing.T, path, _ string) {
			execute(t, engines[0].beside(t, path), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, 1)")
		}, store.ErrNewer, ""},
		"source that went on": {func(t *testing.T, path, dsn string) {
			interrupted(t, path, dsn, "cards")
			s, err := store.Open(t.Context(), path, environment)
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, withWriter(s))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}, store.ErrSourceChanged, ""},
		"text that PostgreSQL cannot hold": {func(t *testing.T, path, _ string) {
			execute(t, engines[0].beside(t, path), "UPDATE merchant_quotas SET iss = CAST(x'6300ff' AS TEXT) WHERE iss = 'a'")
		}, nil, "copy table merchant_quotas: column iss"},
	} {
		t.Run(name, func(t *testing.T) {
			path, dsn := duplicate(t, path), pgtest.NewDatabase(t)
			tc.prepare(t, path, dsn)
			_, err := store.Copy(t.Context(), path, dsn, environment, nil)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("error %v, want %v, %s", err, tc.want, tc.say)
			}
		})
	}
}

// prepareTarget makes an empty database of this schema, and changes it.
func prepareTarget(t *testing.T, dsn string, texts ...string) {
	t.Helper()
	if err := store.MigratePostgres(t.Context(), dsn, environment, nil); err != nil {
		t.Fatal(err)
	}
	db := engines[1].beside(t, dsn)
	for _, text := range texts {
		execute(t, db, text)
	}
}

// duplicate copies a database file.
func duplicate(t *testing.T, path string) string {
	t.Helper()
	again := filepath.Join(t.TempDir(), "mintmark.db")
	execute(t, engines[0].beside(t, path), "VACUUM INTO '"+again+"'")
	return again
}

// A table that a later schema may have goes over without anybody saying so, and numbers that
// the database gives go on behind what was copied.
func TestCopyKnowsTablesByTheSchema(t *testing.T) {
	path, dsn := everyKind(t), pgtest.NewDatabase(t)
	db := engines[0].beside(t, path)
	execute(t, db, `CREATE TABLE later (name TEXT NOT NULL, id INTEGER PRIMARY KEY AUTOINCREMENT, note BYTEA)`)
	execute(t, db, `INSERT INTO later (name, id) VALUES ('a', 7), ('ä', 41)`)
	prepareTarget(t, dsn, `CREATE TABLE later (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name TEXT NOT NULL, note BYTEA)`)
	same(t, uint64(2), copyInto(t, path, dsn)["later"].Rows)
	target := engines[1].beside(t, dsn)
	execute(t, target, `INSERT INTO later (name) VALUES ('next')`)
	same(t, []string{"7 a", "41 ä", "42 next"}, rowsOf(t, target, `SELECT id || ' ' || name FROM later WHERE note IS NULL ORDER BY id`))
}
