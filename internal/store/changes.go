package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/approval"
)

var _ approval.Store = (*Store)(nil)

// proposeChange writes a new change.
func proposeChange(ctx context.Context, tx tx, p approval.Proposal) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO changes (id, kind, document, sha256, proposer_tenant, proposer_iss, proposer_sub,
			proposed_at, expires_at, state, decider_tenant, decider_iss, decider_sub, decided_at, fence, lease_until)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'open', '', '', '', 0, 0, 0)`,
		p.ID, p.Kind, p.Document, p.SHA256, p.Proposer.Tenant, p.Proposer.Issuer, p.Proposer.Subject, millis(p.Proposed), millis(p.Expires))
	return failed("write change", err)
}

// claimChange takes a change that is open and in time, or of which a lease ran out in time.
func claimChange(ctx context.Context, tx tx, c *approval.Claim) error {
	err := tx.QueryRowContext(ctx, `UPDATE changes
		SET state = 'applying', fence = fence + 1, lease_until = ?1, decider_tenant = ?2, decider_iss = ?3, decider_sub = ?4, decided_at = ?5
		WHERE id = ?6 AND sha256 = ?7 AND expires_at > ?5 AND (state = 'open' OR (state = 'applying' AND lease_until <= ?5))
		RETURNING fence`,
		millis(c.Until), c.By.Tenant, c.By.Issuer, c.By.Subject, millis(c.Now), c.ID, c.SHA256).Scan(&c.Fence)
	if errors.Is(err, sql.ErrNoRows) {
		return approval.ErrNotOpen
	}
	return failed("claim change", err)
}

// endChange marks a claimed change as applied or opens it again, if the claim is still the
// one that the fence names.
func endChange(ctx context.Context, tx tx, e approval.ClaimEnd) error {
	text := `UPDATE changes SET state = 'open', decider_tenant = '', decider_iss = '', decider_sub = '', decided_at = 0
		WHERE id = ?1 AND state = 'applying' AND fence = ?2`
	if e.Applied {
		text = `UPDATE changes SET state = 'applied' WHERE id = ?1 AND state = 'applying' AND fence = ?2`
	}
	res, err := tx.ExecContext(ctx, text, e.Claim.ID, e.Claim.Fence)
	if err != nil {
		return failed("end claim of change", err)
	}
	return oneRow(res, approval.ErrNotOpen)
}

// rejectChange ends an open change.
func rejectChange(ctx context.Context, tx tx, r approval.Rejection) error {
	res, err := tx.ExecContext(ctx, `UPDATE changes SET state = 'rejected', decider_tenant = ?1, decider_iss = ?2, decider_sub = ?3, decided_at = ?4
		WHERE id = ?5 AND expires_at > ?4 AND (state = 'open' OR (state = 'applying' AND lease_until <= ?4))`, r.By.Tenant, r.By.Issuer, r.By.Subject, millis(r.Now), r.ID)
	if err != nil {
		return failed("reject change", err)
	}
	return oneRow(res, approval.ErrNotOpen)
}

const changeColumns = `id, kind, document, sha256, proposer_tenant, proposer_iss, proposer_sub, proposed_at, expires_at,
	state, decider_tenant, decider_iss, decider_sub, decided_at, lease_until`

// Change gives a change by its id.
func (s *Store) Change(ctx context.Context, id string) (approval.Change, error) {
	c, err := scanChange(s.read.QueryRowContext(ctx, `SELECT `+changeColumns+` FROM changes WHERE id = ?1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return approval.Change{}, approval.ErrUnknown
	}
	return c, failed("find change", err)
}

// Changes gives the newest changes, newest first: their ids are in the order of time.
func (s *Store) Changes(ctx context.Context, limit int) ([]approval.Change, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+changeColumns+` FROM changes ORDER BY id DESC LIMIT ?1`, limit)
	if err != nil {
		return nil, failed("list changes", err)
	}
	defer func() { _ = rows.Close() }()
	var all []approval.Change
	for rows.Next() {
		c, err := scanChange(rows.Scan)
		if err != nil {
			return nil, failed("list changes", err)
		}
		all = append(all, c)
	}
	return all, failed("list changes", rows.Err())
}

func scanChange(scan func(...any) error) (approval.Change, error) {
	var c approval.Change
	var proposed, expires, decided, lease int64
	err := scan(&c.ID, &c.Kind, &c.Document, &c.SHA256, &c.Proposer.Tenant, &c.Proposer.Issuer, &c.Proposer.Subject, &proposed, &expires,
		&c.State, &c.Decider.Tenant, &c.Decider.Issuer, &c.Decider.Subject, &decided, &lease)
	c.Proposed, c.Expires = time.UnixMilli(proposed).UTC(), time.UnixMilli(expires).UTC()
	if decided != 0 {
		c.Decided = time.UnixMilli(decided).UTC()
	}
	c.Lease = time.UnixMilli(lease).UTC()
	return c, err
}
