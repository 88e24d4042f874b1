package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mintmark/mintmark/internal/provisioning"
)

// claimMessage takes an encrypted card that is new, was freed, or whose lease ran out. The
// row stays for as long as the longest-lived message that claimed it: two may have one jti.
func claimMessage(ctx context.Context, tx tx, c *provisioning.MessageClaim) error {
	if err := forgetMessages(ctx, tx, *c); err != nil {
		return err
	}
	err := tx.QueryRowContext(ctx, `INSERT INTO used_messages (tenant, claim, state, fence, lease_until, expires_at)
		VALUES (?1, ?2, 'claimed', 1, ?3, ?4)
		ON CONFLICT (tenant, claim) DO UPDATE
		SET state = 'claimed', fence = used_messages.fence + 1, lease_until = excluded.lease_until,
		    expires_at = CASE WHEN excluded.expires_at > used_messages.expires_at THEN excluded.expires_at ELSE used_messages.expires_at END
		WHERE used_messages.state = 'free' OR (used_messages.state = 'claimed' AND used_messages.lease_until <= ?5)
		RETURNING fence`,
		c.Tenant, c.ID[:], millis(c.Until), millis(c.Expires), millis(c.Now)).Scan(&c.Fence)
	if errors.Is(err, sql.ErrNoRows) {
		return provisioning.ErrMessageUsed
	}
	return failed("claim encrypted card", err)
}

// forgetMessages removes rows of messages that have expired, a few each time that one is
// claimed: more than come in, so that they do not pile up. Those that another writer is
// removing are left to it.
func forgetMessages(ctx context.Context, tx tx, c provisioning.MessageClaim) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM used_messages WHERE (tenant, claim) IN (
		SELECT tenant, claim FROM used_messages WHERE expires_at <= ?1 AND lease_until <= ?1 ORDER BY expires_at LIMIT 8`+tx.dialect.skipLocked+`)`, millis(c.Now))
	return failed("forget expired encrypted cards", err)
}

// endMessage marks a claimed message as used or frees it, if the claim is still the one that
// the fence names.
func endMessage(ctx context.Context, tx tx, e provisioning.MessageEnd) error {
	state := "free"
	if e.Used {
		state = "used"
	}
	res, err := tx.ExecContext(ctx, `UPDATE used_messages SET state = ?1
		WHERE tenant = ?2 AND claim = ?3 AND state = 'claimed' AND fence = ?4`, state, e.Claim.Tenant, e.Claim.ID[:], e.Claim.Fence)
	if err != nil {
		return failed("end claim of encrypted card", err)
	}
	return oneRow(res, provisioning.ErrMessageUsed)
}

// useMessage takes a message and uses it up at once.
func useMessage(ctx context.Context, tx tx, u provisioning.MessageUse) error {
	c := u.Claim
	if err := claimMessage(ctx, tx, &c); err != nil {
		return err
	}
	return endMessage(ctx, tx, provisioning.MessageEnd{Claim: c, Used: true})
}

// MessageUsed reports whether an encrypted card has been used for good.
func (s *Store) MessageUsed(ctx context.Context, tenant string, id [32]byte) (bool, error) {
	var n int
	err := s.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM used_messages WHERE tenant = ?1 AND claim = ?2 AND state = 'used'`, tenant, id[:]).Scan(&n)
	return n > 0, failed("look for encrypted card", err)
}
