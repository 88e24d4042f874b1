package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/pressly/goose/v3"
)

// dialect is all in which the two engines differ, as far as SQL is concerned. The texts
// are written for SQLite, with parameters ?1, ?2 in ascending order (its own $1 binds
// names in the order of their appearance), and are common to both.
type dialect struct {
	name  string
	goose goose.Dialect
	// numbered says that parameters are written $1.
	numbered bool
	// tables counts the tables with the name ?1, allTables lists the names of all.
	tables, allTables string
	// serialise waits until no other transaction does the same: what, and for which key. Empty
	// where there is one writer.
	serialise string
	// skipLocked ends a query of rows to be taken, by one of several writers: those that
	// another is taking are not for us.
	skipLocked string
	// locked counts who has the advisory lock ?1. Empty where there are none.
	locked string
	// rowid leaves audit_entries with no key but seq, as the engine's own.
	rowid []string
}

var (
	sqlite = dialect{
		name: "sqlite", goose: goose.DialectSQLite3,
		tables:    `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?1`,
		allTables: `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`,
		rowid: []string{
			`CREATE TABLE audit_entries_by_seq (
				seq         INTEGER PRIMARY KEY,
				at          BIGINT NOT NULL,
				kind        TEXT   NOT NULL,
				ticket      TEXT   NOT NULL,
				tenant      TEXT   NOT NULL,
				body        TEXT   NOT NULL,
				body_sha256 BYTEA,
				hashes      BYTEA
			)`,
			`INSERT INTO audit_entries_by_seq (` + entryColumns + `) SELECT ` + entryColumns + ` FROM audit_entries ORDER BY seq`,
			`DROP TABLE audit_entries`,
			`ALTER TABLE audit_entries_by_seq RENAME TO audit_entries`,
		},
	}
	postgres = dialect{
		name: "postgres", goose: goose.DialectPostgres, numbered: true,
		tables:    `SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?1`,
		allTables: `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name`,
		// Two numbers, which no log's lock has: those are one.
		serialise:  `SELECT pg_advisory_xact_lock(?1, ?2)`,
		skipLocked: ` FOR UPDATE SKIP LOCKED`,
		locked: `SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND (classid::BIGINT << 32) + objid::BIGINT = ?1`,
		rowid: []string{`DROP INDEX IF EXISTS audit_entries_ticket`},
	}
)

// text gives a text of ours as the engine reads it. None has a question mark that is not
// a parameter.
func (d dialect) text(query string) string {
	if d.numbered {
		return strings.ReplaceAll(query, "?", "$")
	}
	return query
}

// pool is a pool of connections that takes texts of ours.
type pool struct {
	*sql.DB
	dialect dialect
}

// ExecContext is sql.DB's.
func (p pool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.DB.ExecContext(ctx, p.dialect.text(query), args...)
}

// QueryContext is sql.DB's.
func (p pool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.DB.QueryContext(ctx, p.dialect.text(query), args...)
}

// QueryRowContext is sql.DB's.
func (p pool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return p.DB.QueryRowContext(ctx, p.dialect.text(query), args...)
}

// begin begins a transaction.
func (p pool) begin(ctx context.Context) (tx, error) {
	t, err := p.DB.BeginTx(ctx, nil)
	return tx{t, p.dialect}, err
}

// tx is a transaction that takes texts of ours.
type tx struct {
	*sql.Tx
	dialect dialect
}

// ExecContext is sql.Tx's.
func (t tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.Tx.ExecContext(ctx, t.dialect.text(query), args...)
}

// QueryRowContext is sql.Tx's.
func (t tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return t.Tx.QueryRowContext(ctx, t.dialect.text(query), args...)
}

// QueryContext is sql.Tx's.
func (t tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.Tx.QueryContext(ctx, t.dialect.text(query), args...)
}
