package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
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
	if err := tx.serialise(ctx, decisionsOfCard, d.Owner.Tenant, d.Card); err != nil { // number is the next
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
	var all []provisioning.Decision
	err := s.eachDecision(ctx, func(d provisioning.Decision) error {
		all = append(all, d)
		return nil
	}, `WHERE tenant = ?1 AND card = ?2 AND owner_iss = ?3 AND owner_sub = ?4 AND until_at > ?5
		AND NOT EXISTS (SELECT 1 FROM provisioning_decisions later
			WHERE later.tenant = d.tenant AND later.card = d.card AND later.owner_iss = d.owner_iss
			AND later.owner_sub = d.owner_sub AND later.device = d.device AND later.number > d.number)`,
		owner.Tenant, card, owner.Issuer, owner.Subject, millis(now))
	if err != nil {
		return nil, err
	}
	return all, nil
}

// decisionRows gives all decisions as their entries name them.
func (s *Store) decisionRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	return s.eachDecision(ctx, func(d provisioning.Decision) error {
		return visit(audit.BusinessRow{Kind: audit.StoredDecision, Tenant: d.Owner.Tenant, ID: audit.RowOf(d.ID, d.StateSHA256()), At: d.At})
	}, "")
}

// eachDecision visits the decisions, called d, that a condition chooses.
func (s *Store) eachDecision(ctx context.Context, visit func(provisioning.Decision) error, condition string, args ...any) error {
	rows, err := s.read.QueryContext(ctx, `SELECT tenant, id, owner_iss, owner_sub, card, device, session, apple, path, required, at, until_at, number
		FROM provisioning_decisions d `+condition, args...)
	if err != nil {
		return failed("read decisions", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		d, err := scanDecision(rows)
		if err != nil {
			return failed("read decisions", err)
		}
		if err := visit(d); err != nil {
			return err
		}
	}
	return failed("read decisions", rows.Err())
}

func scanDecision(rows *sql.Rows) (d provisioning.Decision, err error) {
	var device, session []byte
	var required string
	var at, until int64
	err = rows.Scan(&d.Owner.Tenant, &d.ID, &d.Owner.Issuer, &d.Owner.Subject, &d.Card, &device, &session, &d.Apple, &d.Path, &required, &at, &until, &d.Number)
	if err == nil {
		err = json.Unmarshal([]byte(required), &d.Required)
	}
	copy(d.Device[:], device)
	copy(d.Session[:], session)
	d.At, d.Until = time.UnixMilli(at).UTC(), time.UnixMilli(until).UTC()
	return d, err
}
