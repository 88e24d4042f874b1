package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// logLock is the advisory lock of a database's one writer: "mintmark" in ASCII.
const logLock int64 = 0x6d696e746d61726b

// OpenPostgres opens the PostgreSQL database that a connection string (DSN or URL)
// names. An empty one is made and stamped with the environment. A database stamped with
// another one is refused with ErrStamp, one that another process writes to with ErrTaken,
// one that is not of this program's schema with ErrNewer or ErrOlder: others may be serving
// from it, so that MigratePostgres is an act of its own. The error says nothing of the
// connection string, which may hold a password.
//
// Writing has one connection, which holds an advisory lock for as long as it lives: when
// it is lost the next one takes the lock first, so that whoever writes has it.
func OpenPostgres(ctx context.Context, dsn, environment string) (*Store, error) {
	cfg, err := postgresConfig(dsn)
	if err == nil {
		err = settlePostgres(ctx, *cfg, environment, settling{within: madeWithin})
	}
	if err != nil {
		return nil, openError(cfg, err)
	}
	write := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(takeLogLock))
	write.SetMaxOpenConns(1)
	read := stdlib.OpenDB(*cfg)
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	s := &Store{write: pool{write, postgres}, read: pool{read, postgres}, unlock: func() error { return nil }}
	// Asked of the connection that writes, and so under its lock: no copy begins after this.
	if err := s.write.checkWhole(ctx); err != nil {
		return nil, openError(cfg, errors.Join(err, s.Close()))
	}
	return s, nil
}

// OpenPostgresReadOnly opens a database for reading, beside a process that writes to it.
func OpenPostgresReadOnly(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := postgresConfig(dsn)
	if err != nil {
		return nil, openError(nil, err)
	}
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	db := stdlib.OpenDB(*cfg)
	s := &Store{read: pool{db, postgres}, write: pool{db, postgres}, unlock: func() error { return nil }}
	return s.checked(ctx, fmt.Errorf("open database %s on %s", cfg.Database, cfg.Host))
}

func postgresConfig(dsn string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the connection string cannot be read") // the error quotes it
	}
	cfg.RuntimeParams["application_name"] = "mintmark"
	// A transaction that was answered survives a power cut, whatever the server's default.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	cfg.RuntimeParams["timezone"] = "UTC" // of what the server notes by its own clock: the steps of the schema
	return cfg, nil
}

// lockWithin is how long the lock is waited for: a server takes a moment to notice that
// the connection before was closed.
const lockWithin = 2 * time.Second

func takeLogLock(ctx context.Context, c *pgx.Conn) error {
	return takeLock(ctx, c, logLock, lockWithin, ErrTaken)
}
