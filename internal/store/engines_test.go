package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", for connections beside the store's

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// No test leaves a connection behind.
func TestMain(m *testing.M) { leaktest.Main(withServer{m}) }

type withServer struct{ m *testing.M }

func (w withServer) Run() int { return pgtest.Run(w.m) }

// engine is one of the two engines; every promise of the store holds on both.
type engine struct {
	name string
	// newPlace gives where a new database can be.
	newPlace func(t testing.TB) string
	open     func(ctx context.Context, place, environment string) (*store.Store, error)
	migrate  func(ctx context.Context, place, environment string, progress store.Progress) error
	schemaOf func(ctx context.Context, place, environment string) (store.Schema, error)
	driver   string
	dsn      func(place string) string
	hex      string // hexadecimal of a column
	fault    string // a trigger that fails the insertion of entries of a kind
}

var engines = []engine{
	{
		name:     "SQLite",
		newPlace: func(t testing.TB) string { return filepath.Join(t.TempDir(), "mintmark.db") },
		open:     store.Open, migrate: store.Migrate, schemaOf: store.SchemaOf, driver: "sqlite3", dsn: sqliteDSN, hex: "lower(hex(%s))",
		fault: `CREATE TRIGGER fault BEFORE INSERT ON audit_entries WHEN NEW.kind = '%s'
			BEGIN SELECT RAISE(ABORT, 'the disk of 5204245250001488 is full'); END`,
	},
	{
		name:     "PostgreSQL",
		newPlace: pgtest.NewDatabase,
		open:     openUnnamed, migrate: store.MigratePostgres, schemaOf: store.SchemaOfPostgres, driver: "pgx", dsn: func(place string) string { return place }, hex: "encode(%s, 'hex')",
		fault: `CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF NEW.kind = '%s' THEN RAISE 'the disk of 5204245250001488 is full'; END IF; RETURN NEW; END $$;
			CREATE TRIGGER fault BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION fault()`,
	},
}

// openUnnamed opens a PostgreSQL database as a process without a name does.
func openUnnamed(ctx context.Context, dsn, environment string) (*store.Store, error) {
	return store.OpenPostgres(ctx, dsn, environment, "")
}

// onEach runs a test on each engine.
func onEach(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

// opened is a store with the writer of its log.
type opened struct {
	*store.Store
	writer *audit.Writer
}

func (o *opened) Append(ctx context.Context, e audit.Entry, changes []record.Change) error {
	_, err := o.writer.Append(ctx, e, changes)
	return err
}

func withWriter(s *store.Store) *opened {
	return &opened{s, audit.NewWriter(s, clock)}
}

// openAt opens the database at a place until the test ends.
func (e engine) openAt(t testing.TB, place string) *opened {
	t.Helper()
	return untilTheEnd(t, func() (*store.Store, error) { return e.open(context.Background(), place, environment) })
}

// untilTheEnd opens a database until the test ends.
func untilTheEnd(t testing.TB, open func() (*store.Store, error)) *opened {
	t.Helper()
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return withWriter(s)
}

// openNew opens a new database and gives its place too.
func (e engine) openNew(t testing.TB) (*opened, string) {
	t.Helper()
	place := e.newPlace(t)
	return e.openAt(t, place), place
}

// beside is another connection to the same database, for what only an operator does.
func (e engine) beside(t testing.TB, place string) *sql.DB {
	t.Helper()
	db, err := sql.Open(e.driver, e.dsn(place))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// failEntries makes the database refuse entries of a kind, with a text that must not be
// repeated.
func (e engine) failEntries(t testing.TB, db *sql.DB, kind audit.Kind) {
	t.Helper()
	execute(t, db, fmt.Sprintf(e.fault, kind))
}

// changes is a list of them.
func changes(all ...record.Change) []record.Change { return all }

func same[T any](t testing.TB, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// commitTogether commits a batch in one transaction, as the writer does, and gives each
// append's error.
func commitTogether(t testing.TB, s *opened, batch []*audit.Append) []error {
	t.Helper()
	ctx := context.Background()
	tree, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Commit(ctx, batch, func(accepted []*audit.Append) []audit.Row {
		var rows []audit.Row
		for _, a := range accepted {
			rows = append(rows, audit.NewRow(a.Entry, tree))
		}
		return rows
	})
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, a := range batch {
		errs = append(errs, a.Err())
	}
	return errs
}
