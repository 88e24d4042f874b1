package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mintmark/mintmark/internal/merchant"
)

// countToken counts one token of a client's day, unless the day has had its number. Days
// that are over are removed with the first token of a new one.
func countToken(ctx context.Context, tx tx, u merchant.QuotaUse) error {
	var used int
	err := tx.QueryRowContext(ctx, `INSERT INTO merchant_quotas (iss, day, used) VALUES (?1, ?2, 1)
		ON CONFLICT (iss, day) DO UPDATE SET used = merchant_quotas.used + 1
		WHERE merchant_quotas.used < ?3
		RETURNING used`, u.Client, u.Day, u.Limit).Scan(&used)
	if errors.Is(err, sql.ErrNoRows) {
		return merchant.ErrQuota
	}
	if err != nil || used != 1 {
		return failed("count token", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM merchant_quotas WHERE iss = ?1 AND day < ?2`, u.Client, u.Day)
	return failed("forget past days", err)
}
