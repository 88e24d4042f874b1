package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
)

var _ provisioning.Decisions = (*Store)(nil)

// putDecision writes a decision as the card's next, and removes those of the card that no
// longer count.
func putDecision(ctx context.Context, tx tx, d provisioning.Decision) error {
	required := d.Required
	if required == nil {
		required = []path.Requirement{}
	}
	text, err := json.Marshal(required)
	if err != nil {
		return err
	}
	var last int64
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM provisioning_decisions WHERE tenant = ?1 AND card = ?2`,
		d.Owner.Tenant, d.Card).Scan(&last)
	if err != nil {
		return failed("number decision", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO provisioning_decisions
		(tenant, id, owner_iss, owner_sub, card, device, session, apple, path, required, at, until_at, number)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)`,
		d.Owner.Tenant, d.ID, d.Owner.Issuer, d.Owner.Subject, d.Card, d.Device[:], d.Session[:],
		string(d.Apple), string(d.Path), string(text), millis(d.At), millis(d.Until), last+1)
	if err != nil {
		return failed("write decision", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM provisioning_decisions WHERE tenant = ?1 AND card = ?2 AND until_at <= ?3`,
		d.Owner.Tenant, d.Card, millis(d.At))
	return failed("forget decisions", err)
}

// LatestDecisions gives a card's decisions that count, the latest of each device.
func (s *Store) LatestDecisions(ctx context.Context, owner provisioning.Owner, card []byte, now time.Time) ([]provisioning.Decision, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, device, session, apple, path, required, at, until_at, number
		FROM provisioning_decisions d
		WHERE tenant = ?1 AND card = ?2 AND owner_iss = ?3 AND owner_sub = ?4 AND until_at > ?5
		AND NOT EXISTS (SELECT 1 FROM provisioning_decisions later
			WHERE later.tenant = d.tenant AND later.card = d.card AND later.owner_iss = d.owner_iss
			AND later.owner_sub = d.owner_sub AND later.device = d.device AND later.number > d.number)`,
		owner.Tenant, card, owner.Issuer, owner.Subject, millis(now))
	if err != nil {
		return nil, failed("read decisions", err)
	}
	defer func() { _ = rows.Close() }()
	var all []provisioning.Decision
	for rows.Next() {
		d := provisioning.Decision{Owner: owner, Card: card}
		var device, session []byte
		var required string
		var at, until int64
		if err := rows.Scan(&d.ID, &device, &session, &d.Apple, &d.Path, &required, &at, &until, &d.Number); err != nil {
			return nil, failed("read decisions", err)
		}
		if err := json.Unmarshal([]byte(required), &d.Required); err != nil {
			return nil, failed("read decisions", err)
		}
		copy(d.Device[:], device)
		copy(d.Session[:], session)
		d.At, d.Until = time.UnixMilli(at).UTC(), time.UnixMilli(until).UTC()
		all = append(all, d)
	}
	return all, failed("read decisions", rows.Err())
}
