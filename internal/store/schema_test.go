package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// schema reads the schema of the database at a place.
func (e engine) schema(t testing.TB, place string) store.Schema {
	t.Helper()
	s, err := e.schemaOf(t.Context(), place, environment)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// made gives the place of a database of this schema that nobody has open.
func (e engine) made(t testing.TB) string {
	t.Helper()
	place := e.newPlace(t)
	if err := e.migrate(t.Context(), place, environment, nil); err != nil {
		t.Fatal(err)
	}
	return place
}

// Every step is taken once, in order, and noted with its time; each has a name.
func TestMigrateTakesEveryStepOnce(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		place := e.newPlace(t)
		var began, took []int64
		progress := func(s store.Step, _, of uint64) {
			switch {
			case of != 0:
			case s.Applied.IsZero():
				began = append(began, s.Version)
			default:
				took = append(took, s.Version)
			}
		}
		for range 2 {
			if err := e.migrate(t.Context(), place, environment, progress); err != nil {
				t.Fatal(err)
			}
		}
		s := e.schema(t, place)
		var all []int64
		for _, step := range s.Applied {
			all = append(all, step.Version)
			if step.Name == "" || step.Applied.IsZero() {
				t.Errorf("step %+v", step)
			}
		}
		same(t, all, began)
		same(t, all, took)
		if err := s.Fit(); err != nil || s.Database != s.Program || s.Database != all[len(all)-1] || len(s.Pending)+len(s.Unknown) != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		e.openAt(t, place)
	})
}

// Asking changes nothing, and a database that is empty has everything before it.
func TestSchemaOfAnEmptyDatabaseIsPending(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	s := engines[1].schema(t, dsn)
	if s.Database != 0 || len(s.Applied) != 0 || len(s.Pending) < 10 || !errors.Is(s.Fit(), store.ErrOlder) {
		t.Errorf("%+v", s)
	}
	same(t, nil, rowsOf(t, engines[1].beside(t, dsn), "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"))
	if _, err := store.SchemaOf(t.Context(), filepath.Join(t.TempDir(), "none.db"), environment); err == nil {
		t.Error("a file that is not there has a schema")
	}
}

// A later program's database is served from by none that does not know it, and is not
// changed; the refusal names both versions.
func TestDatabaseOfALaterProgramIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		place := e.made(t)
		applied := map[string]string{"SQLite": "1", "PostgreSQL": "TRUE"}[e.name]
		execute(t, e.beside(t, place), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, "+applied+")")
		s := e.schema(t, place)
		if len(s.Unknown) != 1 || s.Unknown[0].Version != 4711 || s.Unknown[0].Applied.IsZero() || s.Database != 4711 {
			t.Errorf("schema %+v", s)
		}
		for what, try := range map[string]func() error{
			"open": func() error {
				s, err := e.open(t.Context(), place, environment)
				if s != nil {
					t.Error("it was opened")
				}
				return err
			},
			"migrate": func() error { return e.migrate(t.Context(), place, environment, nil) },
		} {
			err := try()
			if !errors.Is(err, store.ErrNewer) {
				t.Fatalf("%s: %v, want ErrNewer", what, err)
			}
			for _, say := range []string{"version 4711", fmt.Sprintf("version %d", s.Program)} {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%s: %q does not name %s", what, err, say)
				}
			}
		}
	})
}

// older takes back the last step of a database.
func older(t *testing.T, e engine, place string) {
	t.Helper()
	s := e.schema(t, place)
	db := e.beside(t, place)
	undoAfter(t, db, int(s.Program)-1)
	execute(t, db, fmt.Sprintf("DELETE FROM goose_db_version WHERE version_id = %d", s.Program))
}

// PostgreSQL may have other replicas that an unasked step would break: an older database waits
// for somebody to say so. A SQLite file is one process's, which brings it up itself.
func TestOlderDatabaseIsMigratedByWhoMay(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		place := e.made(t)
		older(t, e, place)
		if s := e.schema(t, place); len(s.Pending) != 1 || !errors.Is(s.Fit(), store.ErrOlder) {
			t.Errorf("schema %+v", s)
		}
		if e.name == "PostgreSQL" {
			s, err := e.open(t.Context(), place, environment)
			if s != nil || !errors.Is(err, store.ErrOlder) {
				t.Fatalf("opened %v, %v, want ErrOlder", s, err)
			}
			if s := e.schema(t, place); len(s.Pending) != 1 {
				t.Errorf("the refusal took a step: %+v", s)
			}
			if err := e.migrate(t.Context(), place, environment, nil); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, e.openAt(t, place))
		if s := e.schema(t, place); s.Fit() != nil {
			t.Errorf("schema %+v", s)
		}
	})
}

// What a crash leaves of a database that was being made has no stamp yet: the next start makes
// the rest of it.
func TestDatabaseHalfMadeIsMadeByTheNextStart(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		place := e.made(t)
		older(t, e, place)
		execute(t, e.beside(t, place), "DELETE FROM stamp")
		mustAppend(t, e.openAt(t, place))
	})
}

// Replicas that start at once on an empty database make it once, and nobody migrates while
// somebody does.
func TestOneProcessMigratesAtATime(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	var steps sync.Map
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			err := store.ErrMigrating
			for errors.Is(err, store.ErrMigrating) {
				err = store.MigratePostgres(context.Background(), dsn, environment, func(s store.Step, _, _ uint64) {
					if _, again := steps.LoadOrStore(fmt.Sprint(s.Version, s.Applied.IsZero()), true); again {
						t.Errorf("step %d was taken twice", s.Version)
					}
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if _, err := c.Exec(t.Context(), "SELECT pg_advisory_lock($1)", store.SchemaLock); err != nil {
		t.Fatal(err)
	}
	if err := store.MigratePostgres(t.Context(), dsn, environment, nil); !errors.Is(err, store.ErrMigrating) {
		t.Errorf("beside another: %v, want ErrMigrating", err)
	}
}

// Somebody else's database is not looked into, nor a file that a process has open changed.
func TestMigrateRefusesWhatOpenRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		place := e.made(t)
		if err := e.migrate(t.Context(), place, "production", nil); !errors.Is(err, store.ErrStamp) {
			t.Errorf("another environment: %v, want ErrStamp", err)
		}
		if _, err := e.schemaOf(t.Context(), place, "production"); !errors.Is(err, store.ErrStamp) {
			t.Errorf("schema, of another environment: %v, want ErrStamp", err)
		}
		e.openAt(t, place)
		err := e.migrate(t.Context(), place, environment, nil)
		if taken := e.name == "SQLite"; taken != errors.Is(err, store.ErrTaken) || !taken && err != nil {
			t.Errorf("beside a server: %v", err)
		}
	})
}

// Who upgrades reads of every step whether old replicas may serve meanwhile.
func TestUpgradePageNamesEveryStep(t *testing.T) {
	page, err := os.ReadFile("../../docs/upgrade.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| ") {
			table.WriteString(line)
		}
	}
	for _, step := range engines[1].schema(t, pgtest.NewDatabase(t)).Pending {
		if !regexp.MustCompile(fmt.Sprintf(`[ ,]%d %s\b`, step.Version, step.Name)).MatchString(table.String()) {
			t.Errorf("docs/upgrade.md has no row with step %d %s", step.Version, step.Name)
		}
	}
}
