package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

var _ audit.Store = (*Store)(nil)

// Append commits an entry and its changes in one transaction.
func (s *Store) Append(ctx context.Context, e audit.Entry, changes []record.Change) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return failed("begin", err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	for _, c := range changes {
		if err := apply(ctx, tx, c); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO audit_entries (seq, at, kind, ticket, tenant, body)
		SELECT COALESCE(MAX(seq) + 1, 0), ?1, ?2, ?3, ?4, ?5 FROM audit_entries`,
		millis(e.At), string(e.Kind), e.Ticket, e.Tenant, string(e.Body))
	if err != nil {
		return failed("append to the log", err)
	}
	// A crash before this line leaves nothing; after it, everything.
	return failed("commit", tx.Commit())
}

// apply writes one change of a domain.
func apply(ctx context.Context, tx *sql.Tx, c record.Change) error {
	switch c := c.(type) {
	case *provisioning.NonceClaim:
		return claimNonce(ctx, tx, c)
	case provisioning.NonceEnd:
		return endNonce(ctx, tx, c)
	case provisioning.CardRow:
		return putCard(ctx, tx, c)
	case *access.TokenUse:
		return claimToken(ctx, tx, c)
	case access.TokenUseEnd:
		return endToken(ctx, tx, c)
	case passes.AssetPut:
		return putAsset(ctx, tx, c)
	case passes.TypePut:
		return putType(ctx, tx, c)
	case passes.PassPut:
		return putPass(ctx, tx, c)
	case *passes.PersonalClaim:
		return claimPersonal(ctx, tx, c)
	case passes.PersonalEnd:
		return endPersonal(ctx, tx, c)
	case merchant.QuotaUse:
		return countToken(ctx, tx, c)
	default:
		return fmt.Errorf("store does not know how to write %T", c)
	}
}

// Read gives entries in order.
func (s *Store) Read(ctx context.Context, from uint64, limit int) ([]audit.Entry, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT seq, at, kind, ticket, tenant, body FROM audit_entries
		WHERE seq >= ?1 ORDER BY seq LIMIT ?2`, from, limit)
	if err != nil {
		return nil, failed("read the log", err)
	}
	defer func() { _ = rows.Close() }()
	var all []audit.Entry
	for rows.Next() {
		var e audit.Entry
		var at int64
		if err := rows.Scan(&e.Seq, &at, &e.Kind, &e.Ticket, &e.Tenant, &e.Body); err != nil {
			return nil, failed("read the log", err)
		}
		e.At = time.UnixMilli(at).UTC()
		all = append(all, e)
	}
	return all, failed("read the log", rows.Err())
}
