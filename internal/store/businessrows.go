package store

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/passes"
)

var _ audit.BusinessRows = (*Store)(nil)

// businessRows are the queries of rows that must have an entry: tenant, identifier, the time
// in milliseconds and, of rows that have versions, the version. A database that is only read
// may be of a time before there was such a table.
var businessRows = []struct {
	kind  audit.BusinessKind
	table string
	query string
	id    func(b []byte) string
}{
	{audit.UsedNonce, "apple_nonces", `SELECT tenant, claim, lease_until, 0 FROM apple_nonces WHERE state = 'used'`, hex.EncodeToString},
	{audit.StoredCard, "cards", `SELECT tenant, id, created_at, 0 FROM cards`, asText},
	{audit.PassFile, "pass_assets", `SELECT tenant, sha256, created_at, 0 FROM pass_assets`, asText},
	{audit.PassType, "pass_types", `SELECT tenant, type, content_modified * 1000, revision FROM pass_types`, asText},
	// A type has no slash in it.
	{audit.Pass, "passes", `SELECT tenant, type || '/' || serial, modified * 1000, version FROM passes`, func(b []byte) string {
		passType, serial, _ := strings.Cut(string(b), "/")
		return passType + "/" + passes.Reference(serial)
	}},
	// As audit.ChangeRow names them.
	{audit.ProposedChange, "changes", `SELECT proposer_tenant, id || ' ' || sha256 || ' ' || proposer_iss || ' ' || proposer_sub, proposed_at, 0 FROM changes`, asText},
	{audit.AppliedChange, "changes", `SELECT decider_tenant, id || ' ' || sha256 || ' ' || decider_iss || ' ' || decider_sub, decided_at, 0 FROM changes WHERE state = 'applied'`, asText},
}

func asText(b []byte) string { return string(b) }

// digestedRows are those of which the entry holds a digest of what they say.
var digestedRows = []struct {
	table string
	each  func(s *Store, ctx context.Context, visit func(audit.BusinessRow) error) error
}{
	{"provisioning_decisions", (*Store).decisionRows},
	{"one_time_passcodes", (*Store).passcodeRows},
	{"wallet_tokens", (*Store).tokenRows},
	{"enablements", (*Store).enablementRows},
}

// BusinessRows gives every row that must have an entry: used nonces, cards, what passes
// are made of, changes of dual control, decisions, passcodes, wallet tokens and enablements.
func (s *Store) BusinessRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	for _, d := range digestedRows {
		there, err := s.hasTable(ctx, d.table)
		if err == nil && there {
			err = d.each(s, ctx, visit)
		}
		if err != nil {
			return err
		}
	}
	for _, q := range businessRows {
		there, err := s.hasTable(ctx, q.table)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		err = s.each(ctx, q.query, func(tenant string, id []byte, at, version int64) error {
			return visit(audit.BusinessRow{Kind: q.kind, Tenant: tenant, ID: q.id(id), At: time.UnixMilli(at).UTC(), Version: uint64(version)})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) hasTable(ctx context.Context, name string) (bool, error) {
	there, err := s.read.hasTable(ctx, name)
	return there, failed("read business rows", err)
}

func (s *Store) each(ctx context.Context, query string, visit func(tenant string, id []byte, at, version int64) error) error {
	rows, err := s.read.QueryContext(ctx, query)
	if err != nil {
		return failed("read business rows", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var tenant string
		var id []byte
		var at, version int64
		if err := rows.Scan(&tenant, &id, &at, &version); err != nil {
			return failed("read business rows", err)
		}
		if err := visit(tenant, id, at, version); err != nil {
			return err
		}
	}
	return failed("read business rows", rows.Err())
}
