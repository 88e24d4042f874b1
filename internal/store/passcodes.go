package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
)

var _ provisioning.Passcodes = (*Store)(nil)

// passcodesPer is the time in which a card may have so many passcodes, and how long a row is
// kept: what is older proves nothing any more.
const passcodesPer = time.Hour

// putPasscode writes a passcode, unless the card has had its number. The owner's others for
// the card have no attempts any more, and those that are past the hour go.
func putPasscode(ctx context.Context, tx tx, r provisioning.PasscodeRow) error {
	if err := tx.serialise(ctx, passcodesOfCard, r.Owner.Tenant, r.Card); err != nil { // they are counted
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM one_time_passcodes WHERE tenant = ?1 AND card = ?2 AND created_at <= ?3`,
		r.Owner.Tenant, r.Card, millis(r.Created.Add(-passcodesPer)))
	if err != nil {
		return failed("forget passcodes", err)
	}
	var sent int
	var first sql.NullInt64
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*), MIN(created_at) FROM one_time_passcodes
		WHERE tenant = ?1 AND card = ?2 AND owner_iss = ?3 AND owner_sub = ?4`, r.Owner.Tenant, r.Card, r.Owner.Issuer, r.Owner.Subject).Scan(&sent, &first)
	if err != nil {
		return failed("count passcodes", err)
	}
	if sent >= r.PerHour {
		return &provisioning.TooManyPasscodesError{After: time.UnixMilli(first.Int64).Add(passcodesPer).Sub(r.Created)}
	}
	_, err = tx.ExecContext(ctx, `UPDATE one_time_passcodes SET attempts = 0
		WHERE tenant = ?1 AND card = ?2 AND owner_iss = ?3 AND owner_sub = ?4 AND verified_at = 0`,
		r.Owner.Tenant, r.Card, r.Owner.Issuer, r.Owner.Subject)
	if err != nil {
		return failed("end passcodes", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO one_time_passcodes
		(tenant, id, owner_iss, owner_sub, card, device, channel, channel_since, mac_key, mac, attempts, created_at, until_at, verified_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0)`,
		r.Owner.Tenant, r.ID, r.Owner.Issuer, r.Owner.Subject, r.Card, r.Device[:], r.Channel, millisOrZero(r.Since),
		r.MAC.Key, r.MAC.MAC, r.Attempts, millis(r.Created), millis(r.Until))
	return failed("write passcode", err)
}

// takeAttempt takes one of a passcode's attempts, in one statement: of two that come at once,
// by whatever connection, each finds what the other has left.
func takeAttempt(ctx context.Context, tx tx, a *provisioning.PasscodeAttempt) error {
	r := &a.Row
	var device []byte
	var until int64
	any := number(a.AnyOwner)
	err := tx.QueryRowContext(ctx, `UPDATE one_time_passcodes SET attempts = attempts - 1
		WHERE tenant = ?1 AND id = ?2 AND (?3 = 1 OR (owner_iss = ?4 AND owner_sub = ?5))
		AND attempts > 0 AND verified_at = 0 AND until_at > ?6
		RETURNING owner_iss, owner_sub, card, device, channel, mac_key, mac, attempts, until_at`,
		a.Owner.Tenant, a.ID, any, a.Owner.Issuer, a.Owner.Subject, millis(a.Now)).
		Scan(&r.Owner.Issuer, &r.Owner.Subject, &r.Card, &device, &r.Channel, &r.MAC.Key, &r.MAC.MAC, &r.Attempts, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return noAttempt(ctx, tx, a)
	}
	copy(r.Device[:], device)
	r.ID, r.Owner.Tenant, r.Until = a.ID, a.Owner.Tenant, time.UnixMilli(until).UTC()
	return failed("take attempt at passcode", err)
}

// noAttempt says why there was none to take.
func noAttempt(ctx context.Context, tx tx, a *provisioning.PasscodeAttempt) error {
	var until, verified int64
	err := tx.QueryRowContext(ctx, `SELECT until_at, verified_at FROM one_time_passcodes
		WHERE tenant = ?1 AND id = ?2 AND (?3 = 1 OR (owner_iss = ?4 AND owner_sub = ?5))`,
		a.Owner.Tenant, a.ID, number(a.AnyOwner), a.Owner.Issuer, a.Owner.Subject).Scan(&until, &verified)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return provisioning.ErrUnknownPasscode
	case err != nil:
		return failed("read passcode", err)
	case verified != 0:
		return provisioning.ErrPasscodeUsed
	case until <= millis(a.Now):
		return provisioning.ErrPasscodeExpired
	default:
		return provisioning.ErrPasscodeSpent
	}
}

// passcodeVerified marks a passcode as verified, once.
func passcodeVerified(ctx context.Context, tx tx, v provisioning.PasscodeVerified) error {
	res, err := tx.ExecContext(ctx, `UPDATE one_time_passcodes SET verified_at = ?1 WHERE tenant = ?2 AND id = ?3 AND verified_at = 0`,
		millis(v.At), v.Tenant, v.ID)
	if err != nil {
		return failed("end passcode", err)
	}
	return oneRow(res, provisioning.ErrPasscodeUsed)
}

// VerifiedPasscodes gives those of some passcodes that were verified for a card and its owner.
func (s *Store) VerifiedPasscodes(ctx context.Context, owner provisioning.Owner, card []byte, ids []string) ([]provisioning.PasscodeRow, error) {
	var all []provisioning.PasscodeRow
	for _, id := range ids { // a few
		r := provisioning.PasscodeRow{ID: id, Owner: owner, Card: card}
		var device []byte
		var since, verified int64
		err := s.read.QueryRowContext(ctx, `SELECT device, channel, channel_since, verified_at FROM one_time_passcodes
			WHERE tenant = ?1 AND id = ?2 AND owner_iss = ?3 AND owner_sub = ?4 AND card = ?5 AND verified_at > 0`,
			owner.Tenant, id, owner.Issuer, owner.Subject, card).Scan(&device, &r.Channel, &since, &verified)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, failed("read passcodes", err)
		}
		copy(r.Device[:], device)
		r.Since = timeOrZero(since)
		r.Verified = time.UnixMilli(verified).UTC()
		all = append(all, r)
	}
	return all, nil
}

// timeOrZero is what millisOrZero was made of.
func timeOrZero(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// passcodeRows gives all passcodes as their entries name them: once as they were sent, and
// once more if they were verified.
func (s *Store) passcodeRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	rows, err := s.read.QueryContext(ctx, `SELECT tenant, id, owner_iss, owner_sub, card, device, channel, channel_since, mac_key, mac, created_at, until_at, verified_at
		FROM one_time_passcodes`)
	if err != nil {
		return failed("read passcodes", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r provisioning.PasscodeRow
		var device []byte
		var since, created, until, verified int64
		err := rows.Scan(&r.Owner.Tenant, &r.ID, &r.Owner.Issuer, &r.Owner.Subject, &r.Card, &device, &r.Channel, &since,
			&r.MAC.Key, &r.MAC.MAC, &created, &until, &verified)
		if err != nil {
			return failed("read passcodes", err)
		}
		copy(r.Device[:], device)
		r.Since, r.Created, r.Until = timeOrZero(since), timeOrZero(created), timeOrZero(until)
		row := audit.BusinessRow{Kind: audit.SentPasscode, Tenant: r.Owner.Tenant, ID: audit.RowOf(r.ID, r.StateSHA256()), At: r.Created}
		if err := visit(row); err != nil {
			return err
		}
		if verified == 0 {
			continue
		}
		at := time.UnixMilli(verified).UTC()
		row = audit.BusinessRow{Kind: audit.VerifiedPasscode, Tenant: r.Owner.Tenant, ID: audit.RowOf(r.ID, at.Format(time.RFC3339Nano)), At: at}
		if err := visit(row); err != nil {
			return err
		}
	}
	return failed("read passcodes", rows.Err())
}
