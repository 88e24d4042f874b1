package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// OpenPostgres opens the PostgreSQL database that a connection string (DSN or URL) names. An
// empty one is made and stamped with the environment. A database stamped with another one is
// refused with ErrStamp, one that is not of this program's schema with ErrNewer or ErrOlder:
// others may be serving from it, so that MigratePostgres is an act of its own. The error says
// nothing of the connection string, which may hold a password.
//
// Any number of processes may have it open, each with a log of its own: the log of a name,
// which is refused with ErrTaken while another process has it, or without a name the first
// that is free. A log that is wanted and not there is made. Writing has one connection, which
// holds the log for as long as it lives; the next one takes the same log before it writes.
func OpenPostgres(ctx context.Context, dsn, environment, log string) (*Store, error) {
	cfg, err := postgresConfig(dsn)
	if err == nil {
		err = settlePostgres(ctx, *cfg, environment, settling{within: madeWithin})
	}
	if err != nil {
		return nil, openError(cfg, err)
	}
	s, err := openPostgres(ctx, cfg, log)
	return s, openError(cfg, err)
}

func openPostgres(ctx context.Context, cfg *pgx.ConnConfig, log string) (*Store, error) {
	read := stdlib.OpenDB(*cfg)
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8)
	s := &Store{read: pool{read, postgres}, unlock: func() error { return nil }}
	writing := cfg.Copy()
	writing.RuntimeParams["lock_timeout"] = lockTimeout
	writing.RuntimeParams["idle_in_transaction_session_timeout"] = idleTimeout
	s.claim = &logClaim{name: log}
	write := stdlib.OpenDB(*writing, onConnect(s.claim.take))
	write.SetMaxOpenConns(1)
	s.write = pool{write, postgres}
	// Asked of the connection that writes, and so under its lock: no copy begins after this.
	if err := s.write.checkWhole(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.number = s.claim.number
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
