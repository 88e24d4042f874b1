package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
)

var _ provisioning.Outbox = (*Store)(nil)

// putNotice puts a notice into the outbox.
func putNotice(ctx context.Context, tx tx, n provisioning.Notice) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO network_notices
		(id, tenant, kind, vault_key, iv, sealed, created_at, until_at, attempts, fence, due_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?7)`,
		n.ID, n.Tenant, string(n.Kind), n.Body.Key, n.Body.IV, n.Body.Sealed, millis(n.Created), millisOrZero(n.Until))
	return failed("write notice", err)
}

// LeaseNotices takes notices that are due. Nothing is written if there are none.
func (s *Store) LeaseNotices(ctx context.Context, now, until time.Time, n int) ([]provisioning.LeasedNotice, error) {
	var due int
	err := s.read.QueryRowContext(ctx, `SELECT 1 FROM network_notices WHERE due_at <= ?1 LIMIT 1`, millis(now)).Scan(&due)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("look for notices", err)
	}
	var all []provisioning.LeasedNotice
	err = s.inTx(ctx, func(tx tx) error {
		all = nil
		_, err := tx.ExecContext(ctx, `DELETE FROM network_notices WHERE id IN (
			SELECT id FROM network_notices WHERE due_at <= ?1 AND until_at > 0 AND until_at <= ?1`+tx.dialect.skipLocked+`)`, millis(now))
		if err != nil {
			return failed("drop notices", err)
		}
		// The rows are chosen, and locked, once: a sub-query in the condition might be asked again.
		rows, err := tx.QueryContext(ctx, `WITH due AS MATERIALIZED (
				SELECT id FROM network_notices WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2`+tx.dialect.skipLocked+`)
			UPDATE network_notices SET due_at = ?3, fence = fence + 1, log = ?4 WHERE id IN (SELECT id FROM due)
			RETURNING id, tenant, kind, vault_key, iv, sealed, created_at, until_at, attempts, fence`,
			millis(now), n, millis(until), int64(s.number))
		if err != nil {
			return failed("lease notices", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			l, err := scanNotice(rows)
			if err != nil {
				return failed("lease notices", err)
			}
			all = append(all, l)
		}
		return failed("lease notices", rows.Err())
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func scanNotice(rows *sql.Rows) (l provisioning.LeasedNotice, err error) {
	var created, until int64
	err = rows.Scan(&l.ID, &l.Tenant, &l.Kind, &l.Body.Key, &l.Body.IV, &l.Body.Sealed, &created, &until, &l.Attempts, &l.Fence)
	l.Created = time.UnixMilli(created).UTC()
	l.Until = timeOrZero(until)
	return l, err
}

// FreeNotices makes all notices due that a process on this log leased last, and has nobody hold
// any of them.
func (s *Store) FreeNotices(ctx context.Context, now time.Time) error {
	_, err := s.write.ExecContext(ctx, `UPDATE network_notices SET due_at = ?1, fence = fence + 1 WHERE due_at > ?1 AND log = ?2`, millis(now), int64(s.number))
	return failed("free notices", err)
}

// EndNotices writes what became of leased notices.
func (s *Store) EndNotices(ctx context.Context, ends []provisioning.NoticeEnd) error {
	return s.inTx(ctx, func(tx tx) error {
		for _, e := range ends {
			if err := endNotice(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func endNotice(ctx context.Context, tx tx, e provisioning.NoticeEnd) error {
	if e.RetryAt.IsZero() {
		_, err := tx.ExecContext(ctx, `DELETE FROM network_notices WHERE id = ?1 AND fence = ?2`, e.ID, e.Fence)
		return failed("end notice", err)
	}
	_, err := tx.ExecContext(ctx, `UPDATE network_notices SET due_at = ?1, attempts = attempts + ?2 WHERE id = ?3 AND fence = ?4`,
		millis(e.RetryAt), number(!e.NotTried), e.ID, e.Fence)
	return failed("keep notice", err)
}
