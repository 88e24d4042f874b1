package store

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// rowidMigration takes away the index of tickets, by which nothing looks an entry up, and
// makes the sequence number SQLite's own key of an entry. There only a column of the type
// INTEGER is that (BIGINT, which PostgreSQL needs, is not), and any other primary key is a
// second tree, of which each commit writes a page too. An older log is copied once, in one
// transaction.
func rowidMigration(d dialect) *goose.Migration {
	up := func(ctx context.Context, t *sql.Tx) error {
		for _, text := range d.rowid {
			if _, err := t.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
	none := func(context.Context, *sql.Tx) error { return nil }
	return goose.NewGoMigration(15, &goose.GoFunc{RunTx: up}, &goose.GoFunc{RunTx: none})
}
