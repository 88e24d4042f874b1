package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Progress is told of a step when it begins, with zeroes; as it goes on, with numbers, if it
// counts what it does; and when it was taken, by its time.
type Progress func(s Step, done, of uint64)

// ErrMigrating is returned while another process takes steps in the same database.
var ErrMigrating = errors.New("another process migrates this database")

// schemaLock is the advisory lock of who takes steps in a database: "migrates" in ASCII.
// Others may serve meanwhile; docs/upgrade.md says of which steps they take no harm.
const schemaLock int64 = 0x6d69677261746573

// Migrate brings the SQLite database at path to this program's schema, making it if it is not
// there, and stamps a new one. It is refused as Open refuses it: with ErrTaken while a process
// has it open, with ErrStamp, with ErrNewer. progress may be nil.
func Migrate(ctx context.Context, path, environment string, progress Progress) error {
	s, err := openSQLite(ctx, path, environment, progress)
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	return s.Close()
}

// MigratePostgres is Migrate for PostgreSQL. Processes that serve from the database are not in
// its way; another that migrates is, with ErrMigrating.
func MigratePostgres(ctx context.Context, dsn, environment string, progress Progress) error {
	cfg, err := postgresConfig(dsn)
	if err == nil {
		err = settlePostgres(ctx, *cfg, environment, settling{older: true, within: lockWithin, progress: progress})
	}
	return openError(cfg, err)
}

// SchemaOf says which steps the SQLite database at path has taken, and changes nothing; a
// process may be serving from it.
func SchemaOf(ctx context.Context, path, environment string) (Schema, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Schema{}, err
	}
	if _, err := os.Stat(abs); err != nil {
		return Schema{}, err
	}
	db, err := sql.Open("sqlite3", sqliteDSN(abs)+readOnly)
	if err != nil {
		return Schema{}, err
	}
	s, err := schemaOf(ctx, pool{db, sqlite}, environment)
	if err != nil {
		return s, fmt.Errorf("open database %s: %w", path, err)
	}
	return s, nil
}

// SchemaOfPostgres is SchemaOf for PostgreSQL.
func SchemaOfPostgres(ctx context.Context, dsn, environment string) (Schema, error) {
	cfg, err := postgresConfig(dsn)
	if err != nil {
		return Schema{}, openError(nil, err)
	}
	s, err := schemaOf(ctx, pool{stdlib.OpenDB(*cfg), postgres}, environment)
	return s, openError(cfg, err)
}

func schemaOf(ctx context.Context, p pool, environment string) (s Schema, err error) {
	if _, err = p.stamped(ctx, environment); err == nil {
		s, err = p.schema(ctx)
	}
	return s, errors.Join(err, p.Close())
}

// settling is how a database is made ready.
type settling struct {
	older    bool          // one that is older takes the steps that are pending
	within   time.Duration // how long another process that settles it is waited for
	progress Progress
}

// madeWithin is how long a replica waits for another that makes their database.
const madeWithin = 30 * time.Second

// settle makes a new database, stamped with the environment, and refuses one that is not this
// program's to serve from: half copied, of another environment, newer, or older unless it may
// take steps. The caller holds the engine's lock. The stamp comes last: a crash before it
// leaves the steps that were taken, each whole, in a database that is still a new one.
func (p pool) settle(ctx context.Context, environment string, how settling) error {
	if err := p.checkWhole(ctx); err != nil {
		return err
	}
	stamped, err := p.stamped(ctx, environment)
	if err != nil {
		return err
	}
	s, err := p.schema(ctx)
	if err != nil {
		return err
	}
	err = s.Fit()
	if errors.Is(err, ErrNewer) || err != nil && stamped && !how.older {
		return err
	}
	if err := p.take(ctx, s.Pending, how.progress); err != nil {
		return err
	}
	return p.stamp(ctx, environment)
}

// take takes steps, in order.
func (p pool) take(ctx context.Context, pending []Step, progress Progress) error {
	if progress == nil {
		progress = func(Step, uint64, uint64) {}
	}
	var next Step
	g, err := p.provider(func(done, of uint64) { progress(next, done, of) })
	if err != nil {
		return err
	}
	for _, next = range pending {
		progress(next, 0, 0)
		if _, err := g.ApplyVersion(ctx, next.Version, true); err != nil {
			return fmt.Errorf("migrate: %w", stepError(next, err))
		}
		next.Applied = time.Now().UTC()
		progress(next, 0, 0)
	}
	return nil
}

// stepError names the step that failed; goose's own text names a file, or nothing.
func stepError(s Step, err error) error {
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		err = partial.Err
	}
	return fmt.Errorf("step %d (%s): %w", s.Version, s.Name, err)
}

// settlePostgres settles a database on a connection of its own, which holds the lock. It gives
// the lock back before it closes: the server notices the end of a connection a moment later.
func settlePostgres(ctx context.Context, cfg pgx.ConnConfig, environment string, how settling) error {
	var held atomic.Bool
	db := stdlib.OpenDB(cfg, onConnect(func(ctx context.Context, c *pgx.Conn) error {
		err := takeLock(ctx, c, schemaLock, how.within, ErrMigrating)
		held.Store(err == nil)
		return err
	}))
	db.SetMaxOpenConns(1)
	err := pool{db, postgres}.settle(ctx, environment, how)
	if held.Load() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		_, _ = db.ExecContext(ending, "SELECT pg_advisory_unlock($1)", schemaLock)
	}
	return errors.Join(err, db.Close())
}

// takeLock takes an advisory lock for as long as the connection lives, or gives up with
// refused after a while.
func takeLock(ctx context.Context, c *pgx.Conn, lock int64, within time.Duration, refused error) error {
	deadline := time.Now().Add(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var taken bool
		if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", lock).Scan(&taken); err != nil || taken {
			return err
		}
		if time.Now().After(deadline) {
			return refused
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openError says which database could not be opened; nil stays nil.
func openError(cfg *pgx.ConnConfig, err error) error {
	switch {
	case err == nil:
		return nil
	case cfg == nil:
		return fmt.Errorf("open database: %w", err)
	}
	return fmt.Errorf("open database %s on %s: %w", cfg.Database, cfg.Host, err)
}
