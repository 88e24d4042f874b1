package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/merchant"
)

// countToken counts one token of a client's day, unless the day has had its number. The first
// token of a day removes those before the day before it: another process, whose clock is a
// little behind, may still be in that one.
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
	day, err := time.Parse(time.DateOnly, u.Day)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM merchant_quotas WHERE iss = ?1 AND day < ?2`, u.Client, day.AddDate(0, 0, -1).Format(time.DateOnly))
	return failed("forget past days", err)
}
