package store

import (
	"context"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
)

var _ audit.CheckpointStore = (*Store)(nil)

// SaveCheckpoint keeps a checkpoint; one of the same size stays as it is. The first of a log
// is noted with the log, of which a checkpoint may be expected from then on.
func (s *Store) SaveCheckpoint(ctx context.Context, c audit.Checkpoint) error {
	return s.inTx(ctx, func(tx tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_checkpoints (size, root, at, spki, note)
			VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (size) DO NOTHING`, s.number.place(c.Size), c.Root[:], millis(c.At), c.SPKI, c.Note)
		if err != nil {
			return failed("keep checkpoint", err)
		}
		_, err = tx.ExecContext(ctx, `UPDATE audit_logs SET origin = ?1 WHERE number = ?2 AND origin = ''`, c.Origin, int64(s.number))
		return failed("note the log's origin", err)
	})
}

// expire empties the bodies of entries of one log; their digests stay. Of its checkpoints as
// old as they are, one an hour stays.
func expire(ctx context.Context, tx tx, n logNumber, e audit.Expire) error {
	before := n.place(e.Before)
	_, err := tx.ExecContext(ctx, `UPDATE audit_entries SET body = '' WHERE seq >= ?1 AND seq < ?2 AND body <> ''`, n.place(e.From), before)
	if err != nil {
		return failed("expire entries", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM audit_checkpoints WHERE size BETWEEN ?1 AND ?2 AND size NOT IN (
		SELECT MAX(size) FROM audit_checkpoints WHERE size BETWEEN ?1 AND ?3 GROUP BY at / 3600000)`, n.first(), before, n.last())
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
			append([]any{s.number.place(middle)}, args...)...).Scan(&holds)
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
