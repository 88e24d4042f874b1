package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
)

var (
	_ passes.Devices = (*Store)(nil)
	_ passes.Outbox  = (*Store)(nil)
)

// inTx runs do in a transaction, and does it all again if another writer was in the way: do
// may be called more than once.
func (s *Store) inTx(ctx context.Context, do func(tx tx) error) error {
	for try := 1; ; try++ {
		err := s.inOneTx(ctx, do)
		if try == retries || !conflicts(err) || waited(err) {
			return err
		}
	}
}

func (s *Store) inOneTx(ctx context.Context, do func(tx tx) error) error {
	tx, err := s.write.begin(ctx)
	if err != nil {
		return failed("begin", err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	if err := do(tx); err != nil {
		return err
	}
	return failed("commit", tx.Commit())
}

// Register writes a registration.
func (s *Store) Register(ctx context.Context, r passes.Registration) (created bool, err error) {
	err = s.inTx(ctx, func(tx tx) error {
		if err := tx.serialise(ctx, registrationOfDevice, r.Device[:], r.Pass.Ref); err != nil { // it is new, or changed
			return err
		}
		var old string
		err := tx.QueryRowContext(ctx, `SELECT push_token FROM pass_registrations WHERE device = ?1 AND pass = ?2`,
			r.Device[:], r.Pass.Ref).Scan(&old)
		if created = errors.Is(err, sql.ErrNoRows); err != nil && !created {
			return failed("read registration", err)
		}
		var t typeState
		if created {
			// The type's row is locked before the registrations are counted.
			if t, err = nextStamp(ctx, tx, r.Pass.TypeID, millis(r.At)); err != nil {
				return err
			}
			if err := withinLimit(ctx, tx, r); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO pass_registrations (device, pass, push_token, client, renewed_at, stamp)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6)
			ON CONFLICT (device, pass) DO UPDATE
			SET push_token = excluded.push_token, client = excluded.client, renewed_at = excluded.renewed_at`,
			r.Device[:], r.Pass.Ref, r.PushToken, string(r.Client), millis(r.At), t.stamp)
		if err != nil || created || old == r.PushToken {
			return failed("write registration", err)
		}
		return movePush(ctx, tx, r, old)
	})
	return created && err == nil, err
}

// withinLimit refuses a new registration of a pass that has as many as it may.
func withinLimit(ctx context.Context, tx tx, r passes.Registration) error {
	if r.Limit == 0 {
		return nil
	}
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 AS one FROM pass_registrations WHERE pass = ?1 LIMIT ?2) AS counted`,
		r.Pass.Ref, r.Limit).Scan(&n)
	if err == nil && n >= r.Limit {
		return &passes.QuotaError{Of: "registrations"}
	}
	return failed("count registrations", err)
}

// movePush has a pending push go to the new push token, if nobody else is told by the old.
func movePush(ctx context.Context, tx tx, r passes.Registration, old string) error {
	dropped, err := dropPush(ctx, tx, r.Pass.TypeID, old)
	if err != nil || !dropped {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO pass_pushes (tenant, type, push_token, client, attempts, fence, due_at)
		VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)
		ON CONFLICT (tenant, type, push_token) DO NOTHING`,
		r.Pass.Tenant, r.Pass.Type, r.PushToken, string(r.Client), millis(r.At))
	return failed("move push", err)
}

// dropPush removes a pending push that is for no registration any more.
func dropPush(ctx context.Context, tx tx, id passes.TypeID, pushToken string) (dropped bool, err error) {
	res, err := tx.ExecContext(ctx, `DELETE FROM pass_pushes WHERE tenant = ?1 AND type = ?2 AND push_token = ?3
		AND NOT EXISTS (SELECT 1 FROM pass_registrations r JOIN passes p ON p.ref = r.pass
			WHERE r.push_token = ?3 AND p.tenant = ?1 AND p.type = ?2)`, id.Tenant, id.Type, pushToken)
	if err != nil {
		return false, failed("drop push", err)
	}
	n, err := res.RowsAffected()
	return n > 0, failed("drop push", err)
}

// Unregister removes a registration.
func (s *Store) Unregister(ctx context.Context, device passes.DeviceKey, pass passes.PassRow) error {
	return s.inTx(ctx, func(tx tx) error {
		var old string
		err := tx.QueryRowContext(ctx, `DELETE FROM pass_registrations WHERE device = ?1 AND pass = ?2 RETURNING push_token`,
			device[:], pass.Ref).Scan(&old)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return failed("remove registration", err)
		}
		_, err = dropPush(ctx, tx, pass.TypeID, old)
		return err
	})
}

// ChangedSince gives a device's passes that are newer than a stamp, in one statement and
// so as of one moment.
func (s *Store) ChangedSince(ctx context.Context, device passes.DeviceKey, id passes.TypeID, since int64) ([]passes.Changed, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT serial, stamp FROM (
			SELECT p.serial AS serial, t.stamp AS latest, CASE
				WHEN p.stamp >= t.content_stamp AND p.stamp >= r.stamp THEN p.stamp
				WHEN t.content_stamp >= r.stamp THEN t.content_stamp ELSE r.stamp END AS stamp
			FROM pass_registrations r JOIN passes p ON p.ref = r.pass
			JOIN pass_types t ON t.tenant = p.tenant AND t.type = p.type
			WHERE r.device = ?1 AND p.tenant = ?2 AND p.type = ?3) AS newest
		WHERE stamp > ?4 OR ?4 > latest ORDER BY stamp`, device[:], id.Tenant, id.Type, since)
	if err != nil {
		return nil, failed("list changed passes", err)
	}
	defer func() { _ = rows.Close() }()
	var all []passes.Changed
	for rows.Next() {
		var c passes.Changed
		if err := rows.Scan(&c.Serial, &c.Stamp); err != nil {
			return nil, failed("list changed passes", err)
		}
		all = append(all, c)
	}
	return all, failed("list changed passes", rows.Err())
}

// ofWallets is a condition on the client of a push, with parameters from ?n on.
func ofWallets(w passes.Wallets, n int) (condition string, args []any) {
	if w.Only != "" {
		return fmt.Sprintf(" AND client = ?%d", n), []any{string(w.Only)}
	}
	for i, kind := range w.But {
		condition += fmt.Sprintf(" AND client <> ?%d", n+i)
		args = append(args, string(kind))
	}
	return condition, args
}

// LeasePushes takes entries that are due. Nothing is written if there are none.
func (s *Store) LeasePushes(ctx context.Context, id passes.TypeID, to passes.Wallets, now, until time.Time, n int) ([]passes.Push, error) {
	wallets, kinds := ofWallets(to, 4)
	var due int
	err := s.read.QueryRowContext(ctx, `SELECT 1 FROM pass_pushes WHERE tenant = ?1 AND type = ?2 AND due_at <= ?3`+wallets+` LIMIT 1`,
		append([]any{id.Tenant, id.Type, millis(now)}, kinds...)...).Scan(&due)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("look for pushes", err)
	}
	wallets, kinds = ofWallets(to, 6)
	var all []passes.Push
	err = s.inTx(ctx, func(tx tx) error {
		all = nil
		// The rows are chosen, and locked, once: a sub-query in the condition might be asked again.
		rows, err := tx.QueryContext(ctx, `WITH due AS MATERIALIZED (
				SELECT push_token FROM pass_pushes WHERE tenant = ?1 AND type = ?2 AND due_at <= ?3
					`+wallets+` ORDER BY due_at LIMIT ?4`+tx.dialect.skipLocked+`)
			UPDATE pass_pushes SET due_at = ?5, fence = fence + 1
			WHERE tenant = ?1 AND type = ?2 AND push_token IN (SELECT push_token FROM due)
			RETURNING push_token, client, attempts, fence`, append([]any{id.Tenant, id.Type, millis(now), n, millis(until)}, kinds...)...)
		if err != nil {
			return failed("lease pushes", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			p := passes.Push{TypeID: id}
			if err := rows.Scan(&p.PushToken, &p.Client, &p.Attempts, &p.Fence); err != nil {
				return failed("lease pushes", err)
			}
			all = append(all, p)
		}
		return failed("lease pushes", rows.Err())
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// EndPushes writes what became of leased entries.
func (s *Store) EndPushes(ctx context.Context, ends []passes.PushEnd) error {
	return s.inTx(ctx, func(tx tx) error {
		for _, e := range ends {
			if err := endPush(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func endPush(ctx context.Context, tx tx, e passes.PushEnd) error {
	if !e.Forget.IsZero() {
		_, err := tx.ExecContext(ctx, `DELETE FROM pass_registrations WHERE push_token = ?1 AND renewed_at <= ?2
			AND pass IN (SELECT ref FROM passes WHERE tenant = ?3 AND type = ?4)`,
			e.PushToken, millis(e.Forget), e.Tenant, e.Type)
		if err != nil {
			return failed("forget registrations", err)
		}
	}
	if !e.RetryAt.IsZero() {
		_, err := tx.ExecContext(ctx, `UPDATE pass_pushes SET due_at = ?1, attempts = attempts + ?2
			WHERE tenant = ?3 AND type = ?4 AND push_token = ?5 AND fence = ?6`,
			millis(e.RetryAt), number(!e.NotTried), e.Tenant, e.Type, e.PushToken, e.Fence)
		return failed("keep push", err)
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM pass_pushes WHERE tenant = ?1 AND type = ?2 AND push_token = ?3 AND fence = ?4`,
		e.Tenant, e.Type, e.PushToken, e.Fence)
	return failed("end push", err)
}
