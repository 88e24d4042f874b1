// Package store is the SQL adapter. It implements the small storage interfaces that the
// domains define (audit.Store, provisioning.Cards) and writes the domains' changes in
// the transaction of their record. The domains do not know it.
//
// The engine is SQLite in its write-ahead mode with synchronous=FULL: a transaction
// that was answered survives a power cut. One connection writes, so that transactions
// queue in the process rather than collide in the file; others read.
//
// Every failure that is not a domain's own carries a method RetryAfter and keeps the
// driver's text for the log only: a driver's error may quote values.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database.
type Store struct {
	write *sql.DB // one connection
	read  *sql.DB
}

// ErrStamp is returned for a database that belongs to another environment.
var ErrStamp = errors.New("database belongs to another environment")

// Open opens the SQLite database at path, making and migrating it as needed, and
// stamps it with the environment at first use. A database stamped with another one is
// refused with ErrStamp. The file is made readable by its owner alone.
func Open(ctx context.Context, path, environment string) (*Store, error) {
	s, err := open(ctx, path, environment)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path, environment string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// SQLite makes files under the umask; the file must exist with its mode before, from
	// which those beside it take theirs.
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, err
	}
	dsn := (&url.URL{Scheme: "file", Path: abs}).String() +
		"?_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_busy_timeout=1000&_foreign_keys=on"
	write, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite3", dsn+"&mode=ro")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	s := &Store{write: write, read: read}
	// A database of another environment is refused before it is changed, a new one
	// stamped after it is made.
	for _, step := range []func() error{
		func() error { return s.checkStamp(ctx, environment) },
		func() error { return s.migrate(ctx) },
		func() error { return s.stamp(ctx, environment) },
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return failed("ping", s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.write, dir)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// checkStamp refuses a database that is stamped with another environment; one that has
// no stamp is new.
func (s *Store) checkStamp(ctx context.Context, environment string) error {
	var tables int
	if err := s.write.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE name = 'stamp'`).Scan(&tables); err != nil || tables == 0 {
		return err
	}
	var have string
	err := s.write.QueryRowContext(ctx, `SELECT value FROM stamp WHERE name = 'environment'`).Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err == nil && have != environment:
		return fmt.Errorf("%w: it is stamped %s, the configuration says %s", ErrStamp, have, environment)
	default:
		return err
	}
}

// stamp stamps a new database, and makes sure of the stamp of any.
func (s *Store) stamp(ctx context.Context, environment string) error {
	if _, err := s.write.ExecContext(ctx, `INSERT INTO stamp (name, value) VALUES ('environment', ?1) ON CONFLICT DO NOTHING`, environment); err != nil {
		return err
	}
	return s.checkStamp(ctx, environment)
}

// failure is a storage error of which only what was being done is told to callers.
type failure struct {
	doing string
	err   error
}

func (f *failure) Error() string { return fmt.Sprintf("database: %s failed", f.doing) }
func (f *failure) Unwrap() error { return f.err }

// RetryAfter is how long a caller should wait before it tries again.
func (f *failure) RetryAfter() time.Duration { return 2 * time.Second }

// failed wraps a driver's error.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{doing: doing, err: err}
}

// millis is how times are kept: milliseconds since 1970, UTC.
func millis(t time.Time) int64 { return t.UnixMilli() }
