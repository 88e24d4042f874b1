// Package store is the SQL adapter. It implements the small storage interfaces that the
// domains define (audit.Store, provisioning.Cards) and writes the domains' changes in
// the transaction of their record. The domains do not know it.
//
// The engine is SQLite (sqlite.go) in its write-ahead mode with synchronous=FULL, or
// PostgreSQL (postgres.go): a transaction that was answered survives a power cut. The SQL
// is one text (dialect.go). One connection of a process writes, so that its transactions
// queue in the process rather than collide in the database; others read. SQLite has one such
// process, PostgreSQL any number, each with a log of its own (place.go, logclaim.go,
// conflict.go).
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
	"os"
	"time"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database.
type Store struct {
	write  pool // one connection
	read   pool
	path   string       // of the SQLite file; empty otherwise
	file   os.FileInfo  // the SQLite file that was opened to be written to; nil otherwise
	wal    os.FileInfo  // its write-ahead log; nil otherwise
	held   func() error // gives up the connection that keeps it; nil otherwise
	number logNumber    // of the log that is written
	claim  *logClaim    // to it, of PostgreSQL; nil otherwise
	unlock func() error
}

// ErrStamp is returned for a database that belongs to another environment.
var ErrStamp = errors.New("database belongs to another environment")

// ErrTaken is returned for a log that another process writes to. SQLite has one log, and so
// one process.
var ErrTaken = errors.New("another process writes to it")

// checked makes sure that a database opened for reading is one of ours, or closes it.
func (s *Store) checked(ctx context.Context, doing error) (*Store, error) {
	there, err := s.read.hasTable(ctx, "audit_entries")
	if err == nil && !there {
		err = errors.New("it holds no audit log")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", doing, err), s.Close())
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error {
	var err error
	if s.held != nil {
		err = s.held()
	}
	return errors.Join(err, s.read.Close(), s.closeWriting(), s.unlock())
}

// Path is where the SQLite file is; empty for PostgreSQL.
func (s *Store) Path() string { return s.path }

// Ping reports whether the database answers, and whether the log is still this process's.
func (s *Store) Ping(ctx context.Context) error {
	if s.claim != nil {
		if err := s.claim.held(); err != nil {
			return failed("take the log again", err)
		}
	}
	var one int
	return failed("ping", s.read.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// stamped says whether a database has its stamp: one without is new. A stamp of another
// environment is refused.
func (p pool) stamped(ctx context.Context, environment string) (bool, error) {
	there, err := p.hasTable(ctx, "stamp")
	if err != nil || !there {
		return false, err
	}
	var have string
	err = p.QueryRowContext(ctx, `SELECT value FROM stamp WHERE name = 'environment'`).Scan(&have)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err == nil && have != environment:
		return true, fmt.Errorf("%w: it is stamped %s, the configuration says %s", ErrStamp, have, environment)
	default:
		return true, err
	}
}

// stamp stamps a new database, and makes sure of the stamp of any.
func (p pool) stamp(ctx context.Context, environment string) error {
	if _, err := p.ExecContext(ctx, `INSERT INTO stamp (name, value) VALUES ('environment', ?1) ON CONFLICT DO NOTHING`, environment); err != nil {
		return err
	}
	_, err := p.stamped(ctx, environment)
	return err
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
