package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/mattn/go-sqlite3" // the driver "sqlite3", too
	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/internal/audit"
)

// Open opens the SQLite database at path, making and migrating it as needed, and
// stamps it with the environment at first use. A database stamped with another one is
// refused with ErrStamp, one that another process has open with ErrTaken, one that a later
// program migrated with ErrNewer. The file is made readable by its owner alone.
func Open(ctx context.Context, path, environment string) (*Store, error) {
	s, err := openSQLite(ctx, path, environment, nil)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return s, nil
}

func openSQLite(ctx context.Context, path, environment string, progress Progress) (*Store, error) {
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
	info, err := f.Stat()
	if err := errors.Join(err, f.Chmod(0o600), f.Close()); err != nil {
		return nil, err
	}
	// One file has one lock, by whatever name it is opened.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, err
	}
	unlock, err := lockFile(abs + "-writer")
	if err != nil {
		return nil, err
	}
	dsn := sqliteDSN(abs) + "?_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_busy_timeout=1000&_foreign_keys=on&_stmt_cache_size=64"
	write, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	write.SetMaxOpenConns(1)
	// Each connection has a page cache of its own, of 2 MB if nothing is said; what several
	// read is in the system's.
	read, err := sql.Open("sqlite3", dsn+"&mode=ro&_cache_size=-512")
	if err != nil {
		return nil, errors.Join(err, write.Close(), unlock())
	}
	read.SetMaxOpenConns(9) // one is held
	read.SetMaxIdleConns(8)
	s := &Store{write: pool{write, sqlite}, read: pool{read, sqlite}, path: abs, file: info, unlock: unlock}
	if err := s.write.settle(ctx, environment, settling{older: true, progress: progress}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.holdWAL(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// holdWAL keeps a connection open that does nothing more. SQLite removes the write-ahead
// log when the last connection closes and makes another later; while this one lives the
// log is one file, and another in its place is somebody's doing.
func (s *Store) holdWAL(ctx context.Context) error {
	held, err := s.read.Conn(ctx)
	if err != nil {
		return err
	}
	s.held = sync.OnceValue(held.Close)
	var n int
	if err := held.QueryRowContext(ctx, "SELECT COUNT(*) FROM stamp").Scan(&n); err != nil { // opens the log
		return err
	}
	s.wal, err = os.Stat(s.path + "-wal")
	return err
}

// present is nil if the files at the path, the database and its write-ahead log, are those
// that were opened. Connections go on writing to a file that was replaced or removed, and
// nothing of that lasts.
func (s *Store) present() error {
	for name, opened := range map[string]os.FileInfo{s.path: s.file, s.path + "-wal": s.wal} {
		if opened == nil {
			continue
		}
		if now, err := os.Stat(name); err != nil || !os.SameFile(opened, now) {
			return fmt.Errorf("%w: its file was replaced or removed", audit.ErrChanged)
		}
	}
	return nil
}

// torn gives ErrChanged with the error of a database that cannot hold what SQLite wrote
// to it: a page is short, or none of its kind. Nil for any other.
func torn(err error) error {
	var e sqlite3.Error
	if errors.As(err, &e) && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB || e.ExtendedCode == sqlite3.ErrIoErrShortRead) {
		return errors.Join(audit.ErrChanged, err)
	}
	return nil
}

// readOnly opens a database for reading beside a process that writes to it.
const readOnly = "?mode=ro&_query_only=on&_busy_timeout=5000"

func sqliteDSN(abs string) string { return (&url.URL{Scheme: "file", Path: abs}).String() }

// lockFile takes the lock that says whose the database is to write, until unlock. The
// system gives it back when the process ends, however it ends.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(ErrTaken, f.Close())
	case err != nil:
		return nil, errors.Join(err, f.Close())
	}
	// A program that this process is just starting has the descriptor too, until it
	// executes: closing alone would leave the lock with it.
	return sync.OnceValue(func() error {
		return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
	}), nil
}

// OpenReadOnly opens the SQLite database at path for reading, beside a process that may
// be writing to it. Nothing is made or changed.
func OpenReadOnly(ctx context.Context, path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(abs); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", sqliteDSN(abs)+readOnly)
	if err != nil {
		return nil, err
	}
	s := &Store{read: pool{db, sqlite}, write: pool{db, sqlite}, path: abs, unlock: func() error { return nil }}
	return s.checked(ctx, fmt.Errorf("open database %s", path))
}
