package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/mintmark/mintmark/internal/audit"
)

// treeMigration gives the entries of a log that had no tree their places in it, and tells
// counted, unless it is nil, how many have theirs.
func treeMigration(d dialect, counted func(done, of uint64)) *goose.Migration {
	up := func(ctx context.Context, t *sql.Tx) error { return growTree(ctx, tx{t, d}, counted) }
	none := func(context.Context, *sql.Tx) error { return nil }
	return goose.NewGoMigration(4, &goose.GoFunc{RunTx: up}, &goose.GoFunc{RunTx: none})
}

// treeCounts is after how many entries it is told how many have their places.
const treeCounts = 1000

func growTree(ctx context.Context, tx tx, counted func(done, of uint64)) error {
	var size uint64
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_entries`).Scan(&size); err != nil {
		return err
	}
	tree := audit.NewTree(0, nil)
	for {
		r, err := nextRow(ctx, tx, tree.Size())
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if counted != nil && (tree.Size()%treeCounts == 0 || tree.Size()+1 == size) {
			counted(tree.Size()+1, size)
		}
		hashes := joinHashes(tree.Add(r.LeafHash()))
		if _, err := tx.ExecContext(ctx, `UPDATE audit_entries SET body_sha256 = ?1, hashes = ?2 WHERE seq = ?3`, r.BodySHA256[:], hashes, r.Seq); err != nil {
			return err
		}
	}
}

func nextRow(ctx context.Context, tx tx, seq uint64) (audit.Row, error) {
	r := audit.Row{Entry: audit.Entry{Seq: seq}}
	var at int64
	err := tx.QueryRowContext(ctx, `SELECT at, kind, ticket, tenant, body FROM audit_entries WHERE seq = ?1`, seq).
		Scan(&at, &r.Kind, &r.Ticket, &r.Tenant, &r.Body)
	r.At, r.BodySHA256 = time.UnixMilli(at).UTC(), sha256.Sum256(r.Body)
	return r, err
}
