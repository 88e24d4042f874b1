package store

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
)

var _ audit.BusinessRows = (*Store)(nil)

// BusinessRows gives every row that must have an entry: used nonces, cards, and changes of dual
// control.
func (s *Store) BusinessRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	nonce := func(tenant string, id []byte, at int64) audit.BusinessRow {
		return audit.BusinessRow{Kind: audit.UsedNonce, Tenant: tenant, ID: hex.EncodeToString(id), At: time.UnixMilli(at).UTC()}
	}
	if err := each(ctx, s, `SELECT tenant, claim, lease_until FROM apple_nonces WHERE state = 'used'`, nonce, visit); err != nil {
		return err
	}
	card := func(tenant string, id []byte, at int64) audit.BusinessRow {
		return audit.BusinessRow{Kind: audit.StoredCard, Tenant: tenant, ID: string(id), At: time.UnixMilli(at).UTC()}
	}
	if err := each(ctx, s, `SELECT tenant, id, created_at FROM cards`, card, visit); err != nil {
		return err
	}
	return s.changeRows(ctx, visit)
}

// changeRows gives the changes of dual control. A database that is only read may be of a time
// before there were any.
func (s *Store) changeRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	var tables int
	if err := s.read.QueryRowContext(ctx, s.read.dialect.tables, "changes").Scan(&tables); err != nil || tables == 0 {
		return failed("read business rows", err)
	}
	row := func(kind audit.BusinessKind) func(string, []byte, int64) audit.BusinessRow {
		return func(tenant string, id []byte, at int64) audit.BusinessRow {
			return audit.BusinessRow{Kind: kind, Tenant: tenant, ID: string(id), At: time.UnixMilli(at).UTC()}
		}
	}
	// As audit.ChangeRow names them.
	err := each(ctx, s, `SELECT proposer_tenant, id || ' ' || sha256 || ' ' || proposer_iss || ' ' || proposer_sub, proposed_at FROM changes`,
		row(audit.ProposedChange), visit)
	if err != nil {
		return err
	}
	return each(ctx, s, `SELECT decider_tenant, id || ' ' || sha256 || ' ' || decider_iss || ' ' || decider_sub, decided_at FROM changes WHERE state = 'applied'`,
		row(audit.AppliedChange), visit)
}

func each(ctx context.Context, s *Store, query string, row func(string, []byte, int64) audit.BusinessRow, visit func(audit.BusinessRow) error) error {
	rows, err := s.read.QueryContext(ctx, query)
	if err != nil {
		return failed("read business rows", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var tenant string
		var id []byte
		var at int64
		if err := rows.Scan(&tenant, &id, &at); err != nil {
			return failed("read business rows", err)
		}
		if err := visit(row(tenant, id, at)); err != nil {
			return err
		}
	}
	return failed("read business rows", rows.Err())
}
