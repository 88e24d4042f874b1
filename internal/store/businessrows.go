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
// in milliseconds and, of rows that have versions, the version.
var businessRows = []struct {
	kind  audit.BusinessKind
	query string
	id    func(b []byte) string
}{
	{audit.UsedNonce, `SELECT tenant, claim, lease_until, 0 FROM apple_nonces WHERE state = 'used'`, hex.EncodeToString},
	{audit.StoredCard, `SELECT tenant, id, created_at, 0 FROM cards`, asText},
	{audit.PassFile, `SELECT tenant, sha256, created_at, 0 FROM pass_assets`, asText},
	{audit.PassType, `SELECT tenant, type, content_modified * 1000, revision FROM pass_types`, asText},
	// A type has no slash in it.
	{audit.Pass, `SELECT tenant, type || '/' || serial, modified * 1000, version FROM passes`, func(b []byte) string {
		passType, serial, _ := strings.Cut(string(b), "/")
		return passType + "/" + passes.Reference(serial)
	}},
}

func asText(b []byte) string { return string(b) }

// BusinessRows gives every row that must have an entry: used nonces, cards, and what passes
// are made of.
func (s *Store) BusinessRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	for _, q := range businessRows {
		err := s.each(ctx, q.query, func(tenant string, id []byte, at, version int64) error {
			return visit(audit.BusinessRow{Kind: q.kind, Tenant: tenant, ID: q.id(id), At: time.UnixMilli(at).UTC(), Version: uint64(version)})
		})
		if err != nil {
			return err
		}
	}
	return nil
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
