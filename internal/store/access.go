package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mintmark/mintmark/internal/access"
)

// claimToken takes a token that is new, was freed, or whose lease ran out. The row stays
// for as long as the longest-lived token that claimed it: two may have one jti.
func claimToken(ctx context.Context, tx tx, u *access.TokenUse) error {
	if err := forgetTokens(ctx, tx, u); err != nil {
		return err
	}
	err := tx.QueryRowContext(ctx, `INSERT INTO used_tokens (claim, iss, state, fence, lease_until, expires_at)
		VALUES (?1, ?2, 'claimed', 1, ?3, ?4)
		ON CONFLICT (claim) DO UPDATE
		SET state = 'claimed', fence = used_tokens.fence + 1, lease_until = excluded.lease_until,
		    expires_at = CASE WHEN excluded.expires_at > used_tokens.expires_at THEN excluded.expires_at ELSE used_tokens.expires_at END
		WHERE used_tokens.state = 'free' OR (used_tokens.state = 'claimed' AND used_tokens.lease_until <= ?5)
		RETURNING fence`,
		u.ID[:], u.Issuer, millis(u.Until), millis(u.Expires), millis(u.Now)).Scan(&u.Fence)
	if errors.Is(err, sql.ErrNoRows) {
		return access.ErrReplayed
	}
	return failed("claim token", err)
}

// forgetTokens removes rows of tokens that have expired, a few each time that one is
// claimed: more than come in, so that they do not pile up. Those that another writer is
// removing are left to it.
func forgetTokens(ctx context.Context, tx tx, u *access.TokenUse) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM used_tokens WHERE claim IN (
		SELECT claim FROM used_tokens WHERE expires_at <= ?1 AND lease_until <= ?1 ORDER BY expires_at LIMIT 8`+tx.dialect.skipLocked+`)`, millis(u.Now))
	return failed("forget expired tokens", err)
}

// endToken marks a claimed token as used or frees it, if the claim is still the one that
// the fence names.
func endToken(ctx context.Context, tx tx, e access.TokenUseEnd) error {
	state := "free"
	if e.Used {
		state = "used"
	}
	res, err := tx.ExecContext(ctx, `UPDATE used_tokens SET state = ?1
		WHERE claim = ?2 AND state = 'claimed' AND fence = ?3`, state, e.Claim.ID[:], e.Claim.Fence)
	if err != nil {
		return failed("end token claim", err)
	}
	return oneRow(res, access.ErrReplayed)
}
