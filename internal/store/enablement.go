package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
)

var _ provisioning.Flags = (*Store)(nil)

// putEnablement writes a tenant's next enablement, if it is the next.
func putEnablement(ctx context.Context, tx tx, p provisioning.EnablementPut) error {
	rules, err := p.RulesText()
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO enablements (tenant, revision, rules, changed_at) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (tenant, revision) DO NOTHING`, p.Tenant, p.Revision, string(rules), millis(p.Changed))
	if err != nil {
		return failed("write enablement", err)
	}
	return oneRow(res, provisioning.ErrEnablementChanged)
}

// Enablement gives a tenant's latest.
func (s *Store) Enablement(ctx context.Context, tenant string) (provisioning.Enablement, error) {
	e := provisioning.Enablement{Tenant: tenant}
	var rules string
	var changed int64
	err := s.read.QueryRowContext(ctx, `SELECT revision, rules, changed_at FROM enablements WHERE tenant = ?1 ORDER BY revision DESC LIMIT 1`, tenant).
		Scan(&e.Revision, &rules, &changed)
	if errors.Is(err, sql.ErrNoRows) {
		return e, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(rules), &e.Rules)
	}
	e.Changed = time.UnixMilli(changed).UTC()
	return e, failed("read enablement", err)
}

// enablementRows gives all enablements as their entries name them.
func (s *Store) enablementRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	return s.each(ctx, `SELECT tenant, rules, changed_at, revision FROM enablements`, func(tenant string, rules []byte, at, revision int64) error {
		return visit(audit.BusinessRow{
			Kind: audit.Enablement, Tenant: tenant, At: time.UnixMilli(at).UTC(),
			ID: audit.RowOf(strconv.FormatInt(revision, 10), provisioning.RulesSHA256(rules)),
		})
	})
}
