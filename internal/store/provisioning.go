package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
)

var _ provisioning.Cards = (*Store)(nil)

// claimNonce takes a nonce that is new, was freed, or whose lease ran out.
func claimNonce(ctx context.Context, tx tx, c *provisioning.NonceClaim) error {
	err := tx.QueryRowContext(ctx, `INSERT INTO apple_nonces (tenant, claim, state, fence, lease_until)
		VALUES (?1, ?2, 'claimed', 1, ?3)
		ON CONFLICT (tenant, claim) DO UPDATE
		SET state = 'claimed', fence = apple_nonces.fence + 1, lease_until = excluded.lease_until
		WHERE apple_nonces.state = 'free' OR (apple_nonces.state = 'claimed' AND apple_nonces.lease_until <= ?4)
		RETURNING fence`,
		c.Tenant, c.ID[:], millis(c.Until), millis(c.Now)).Scan(&c.Fence)
	if errors.Is(err, sql.ErrNoRows) {
		return provisioning.ErrNonceUsed
	}
	return failed("claim nonce", err)
}

// endNonce marks a claimed nonce as used or frees it, if the claim is still the one
// that the fence names.
func endNonce(ctx context.Context, tx tx, e provisioning.NonceEnd) error {
	state := "free"
	if e.Used {
		state = "used"
	}
	res, err := tx.ExecContext(ctx, `UPDATE apple_nonces SET state = ?1
		WHERE tenant = ?2 AND claim = ?3 AND state = 'claimed' AND fence = ?4`,
		state, e.Claim.Tenant, e.Claim.ID[:], e.Claim.Fence)
	if err != nil {
		return failed("end nonce claim", err)
	}
	return oneRow(res, provisioning.ErrNonceUsed)
}

// putCard writes a card's row, in place of one of the same owner that has the same look-up
// value. Somebody else's is left alone.
func putCard(ctx context.Context, tx tx, r provisioning.CardRow) error {
	// Violated constraints stand in a PostgreSQL server's log with the values: what can
	// violate one is looked for first.
	if len(r.Lookup) == 0 {
		return failed("write card", errors.New("it has no look-up value"))
	}
	var taken int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM cards WHERE tenant = ?1 AND id = ?2 AND lookup <> ?3`,
		r.Owner.Tenant, r.ID, r.Lookup).Scan(&taken)
	if err == nil && taken != 0 {
		err = errors.New("another card has its id")
	}
	if err != nil {
		return failed("write card", err)
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO cards (tenant, id, lookup, owner_iss, owner_sub, vault_key, iv, sealed, created_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
		ON CONFLICT (tenant, lookup, owner_iss, owner_sub) DO UPDATE
		SET id = excluded.id, vault_key = excluded.vault_key, iv = excluded.iv, sealed = excluded.sealed, created_at = excluded.created_at`,
		r.Owner.Tenant, r.ID, r.Lookup, r.Owner.Issuer, r.Owner.Subject, r.Key, r.IV, r.Sealed, millis(r.Created))
	if err != nil {
		return failed("write card", err)
	}
	return oneRow(res, failed("write card", errors.New("no row was written")))
}

// oneRow gives none if a statement changed no row.
func oneRow(res sql.Result, none error) error {
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(none, err)
	}
	return nil
}

// moveCard puts a row under another vault key, if it is still what was read.
func moveCard(ctx context.Context, tx tx, m provisioning.CardMove) error {
	res, err := tx.ExecContext(ctx, `UPDATE cards SET vault_key = ?1, iv = ?2, sealed = ?3
		WHERE tenant = ?4 AND id = ?5 AND vault_key = ?6 AND iv = ?7`,
		m.Key, m.IV, m.Sealed, m.Owner.Tenant, m.ID, m.From, m.FromIV)
	if err != nil {
		return failed("move card", err)
	}
	return oneRow(res, provisioning.ErrCardChanged)
}

// removeCard removes a row.
func removeCard(ctx context.Context, tx tx, r provisioning.CardRemoval) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM cards WHERE tenant = ?1 AND id = ?2`, r.Tenant, r.ID)
	if err != nil {
		return failed("remove card", err)
	}
	return oneRow(res, provisioning.ErrUnknownCard)
}

// CardsNotUnder gives rows that are sealed under another vault key.
func (s *Store) CardsNotUnder(ctx context.Context, key string, after provisioning.CardRow, limit int) ([]provisioning.CardRow, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT tenant, id, vault_key, iv, sealed FROM cards
		WHERE vault_key <> ?1 AND (tenant > ?2 OR (tenant = ?2 AND id > ?3))
		ORDER BY tenant, id LIMIT ?4`, key, after.Owner.Tenant, after.ID, limit)
	if err != nil {
		return nil, failed("list cards", err)
	}
	defer func() { _ = rows.Close() }()
	var all []provisioning.CardRow
	for rows.Next() {
		var r provisioning.CardRow
		if err := rows.Scan(&r.Owner.Tenant, &r.ID, &r.Key, &r.IV, &r.Sealed); err != nil {
			return nil, failed("list cards", err)
		}
		all = append(all, r)
	}
	return all, failed("list cards", rows.Err())
}

// CardsOf gives an owner's card rows, the oldest first.
func (s *Store) CardsOf(ctx context.Context, owner provisioning.Owner, limit int) ([]provisioning.CardRow, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, lookup, vault_key, iv, sealed, created_at FROM cards
		WHERE tenant = ?1 AND owner_iss = ?2 AND owner_sub = ?3 ORDER BY created_at, id LIMIT ?4`, owner.Tenant, owner.Issuer, owner.Subject, limit)
	if err != nil {
		return nil, failed("list cards of owner", err)
	}
	defer func() { _ = rows.Close() }()
	var all []provisioning.CardRow
	for rows.Next() {
		r := provisioning.CardRow{Owner: owner}
		var created int64
		if err := rows.Scan(&r.ID, &r.Lookup, &r.Key, &r.IV, &r.Sealed, &created); err != nil {
			return nil, failed("list cards of owner", err)
		}
		r.Created = time.UnixMilli(created).UTC()
		all = append(all, r)
	}
	return all, failed("list cards of owner", rows.Err())
}

// FindCard gives the card row of an owner that has the look-up value.
func (s *Store) FindCard(ctx context.Context, owner provisioning.Owner, lookup []byte) (provisioning.CardRow, error) {
	return s.findCard(ctx, owner.Tenant, lookup, "AND owner_iss = ?3 AND owner_sub = ?4", owner.Issuer, owner.Subject)
}

// FindOnlyCard gives the card row of a tenant that has the look-up value, if there is one
// alone.
func (s *Store) FindOnlyCard(ctx context.Context, tenant string, lookup []byte) (provisioning.CardRow, error) {
	return s.findCard(ctx, tenant, lookup, "")
}

func (s *Store) findCard(ctx context.Context, tenant string, lookup []byte, more string, args ...any) (provisioning.CardRow, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, owner_iss, owner_sub, vault_key, iv, sealed, created_at FROM cards
		WHERE tenant = ?1 AND lookup = ?2 `+more+` LIMIT 2`, append([]any{tenant, lookup}, args...)...)
	if err != nil {
		return provisioning.CardRow{}, failed("find card", err)
	}
	defer func() { _ = rows.Close() }()
	var found []provisioning.CardRow
	for rows.Next() {
		r := provisioning.CardRow{Owner: provisioning.Owner{Tenant: tenant}, Lookup: lookup}
		var created int64
		if err := rows.Scan(&r.ID, &r.Owner.Issuer, &r.Owner.Subject, &r.Key, &r.IV, &r.Sealed, &created); err != nil {
			return provisioning.CardRow{}, failed("find card", err)
		}
		r.Created = time.UnixMilli(created).UTC()
		found = append(found, r)
	}
	if err := rows.Err(); err != nil {
		return provisioning.CardRow{}, failed("find card", err)
	}
	if len(found) != 1 {
		return provisioning.CardRow{}, provisioning.ErrUnknownCard
	}
	return found[0], nil
}
