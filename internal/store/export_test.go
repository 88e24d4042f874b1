package store

import (
	"context"
	"database/sql"

	"github.com/mintmark/mintmark/internal/record"
)

// OnWriter executes a text on the connection that writes.
func OnWriter(s *Store, text string) error {
	_, err := s.write.DB.ExecContext(context.Background(), text)
	return err
}

// AskWriter asks the connection that writes for one number.
func AskWriter(s *Store, text string) (n int, err error) {
	err = s.write.DB.QueryRowContext(context.Background(), text).Scan(&n)
	return n, err
}

// ApplyBeside makes a change in a transaction of its own on another connection, as a process
// would that writes although one does.
func ApplyBeside(ctx context.Context, db *sql.DB, s *Store, c record.Change) error {
	other := &Store{write: pool{db, s.write.dialect}}
	return other.inTx(ctx, func(tx tx) error { return other.apply(ctx, tx, c) })
}

// ApplyOpen makes a change in a transaction of its own on another connection, and leaves that
// open, as a process would that stands still before it commits.
func ApplyOpen(ctx context.Context, db *sql.DB, s *Store, c record.Change) (*sql.Tx, error) {
	tx, err := pool{db, s.write.dialect}.begin(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Tx, s.apply(ctx, tx, c)
}

// SchemaLock is the advisory lock of who migrates.
const SchemaLock = schemaLock
