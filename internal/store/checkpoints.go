package store

import (
	"context"
	"database/sql"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/audit"
)

var _ audit.CheckpointStore = (*Store)(nil)

// SaveCheckpoint keeps a checkpoint; one of the same size stays as it is.
func (s *Store) SaveCheckpoint(ctx context.Context, c audit.Checkpoint) error {
	_, err := s.write.ExecContext(ctx, `INSERT INTO audit_checkpoints (size, root, at, spki, note)
		VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (size) DO NOTHING`, c.Size, c.Root[:], millis(c.At), c.SPKI, c.Note)
	return failed("keep checkpoint", err)
}

// LastCheckpoint gives the largest checkpoint; false if there is none.
func (s *Store) LastCheckpoint(ctx context.Context) (audit.Checkpoint, bool, error) {
	all, err := s.checkpoints(ctx, `SELECT size, root, at, spki, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1`)
	if err != nil || len(all) == 0 {
		return audit.Checkpoint{}, false, err
	}
	return all[0], true, nil
}

// Checkpoints gives checkpoints of at least a size, at most limit, in order.
func (s *Store) Checkpoints(ctx context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	return s.checkpoints(ctx, `SELECT size, root, at, spki, note FROM audit_checkpoints
		WHERE size >= ?1 ORDER BY size LIMIT ?2`, from, limit)
}

func (s *Store) checkpoints(ctx context.Context, query string, args ...any) ([]audit.Checkpoint, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failed("read checkpoints", err)
	}
	defer func() { _ = rows.Close() }()
	var all []audit.Checkpoint
	for rows.Next() {
		c, err := scanCheckpoint(rows)
		if err != nil {
			return nil, failed("read checkpoints", err)
		}
		all = append(all, c)
	}
	return all, failed("read checkpoints", rows.Err())
}

// scanCheckpoint reads a checkpoint. Its origin stands in its note alone; a note that
// cannot be read has none, and does not verify.
func scanCheckpoint(rows *sql.Rows) (audit.Checkpoint, error) {
	var c audit.Checkpoint
	var root []byte
	var at int64
	if err := rows.Scan(&c.Size, &root, &at, &c.SPKI, &c.Note); err != nil {
		return c, err
	}
	if len(root) == tlog.HashSize {
		c.Root = tlog.Hash(root)
	}
	c.At = time.UnixMilli(at).UTC()
	if said, err := audit.ParseCheckpoint(c.Note); err == nil {
		c.Origin = said.Origin
	}
	return c, nil
}

// expire empties the bodies of entries; their digests stay. Of checkpoints as
// old as they are, one an hour stays.
func expire(ctx context.Context, tx tx, e audit.Expire) error {
	_, err := tx.ExecContext(ctx, `UPDATE audit_entries SET body = '' WHERE seq >= ?1 AND seq < ?2 AND body <> ''`, e.From, e.Before)
	if err != nil {
		return failed("expire entries", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM audit_checkpoints WHERE size <= ?1 AND size NOT IN (
		SELECT MAX(size) FROM audit_checkpoints GROUP BY at / 3600000)`, e.Before)
	return failed("expire checkpoints", err)
}

// FirstSince gives the number of the first entry that is not older than a time, and the
// number of the first that has a body. Bodies are emptied from the first entry on, and
// times ascend but for the moments between a record and its commit, so that both are
// found by halves, with the key alone.
func (s *Store) FirstSince(ctx context.Context, at time.Time) (first, live uint64, err error) {
	size, err := s.Size(ctx)
	if err != nil {
		return 0, 0, err
	}
	if live, err = s.firstWhere(ctx, `body <> ''`, 0, size); err != nil {
		return 0, 0, err
	}
	first, err = s.firstWhere(ctx, `at >= ?2`, live, size, millis(at))
	return first, live, err
}

// firstWhere gives the first of the entries from low to high for which a condition
// holds, if it holds for all that follow; high if for none.
func (s *Store) firstWhere(ctx context.Context, condition string, low, high uint64, args ...any) (uint64, error) {
	for low < high {
		middle := low + (high-low)/2
		var holds int
		err := s.read.QueryRowContext(ctx, `SELECT CASE WHEN `+condition+` THEN 1 ELSE 0 END FROM audit_entries WHERE seq = ?1`,
			append([]any{middle}, args...)...).Scan(&holds)
		if err != nil {
			return 0, failed("read the log", err)
		}
		if holds == 1 {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// Size is the number of entries.
func (s *Store) Size(ctx context.Context) (uint64, error) { return sizeOf(ctx, s.read) }

func sizeOf(ctx context.Context, p pool) (uint64, error) {
	var size uint64
	err := p.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_entries`).Scan(&size)
	return size, failed("read the log", err)
}
