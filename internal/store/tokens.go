package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
)

var _ provisioning.Tokens = (*Store)(nil)

// tokenColumns are the columns of wallet_tokens and of wallet_token_history. No change touches
// the first five.
const tokenColumns = "tenant, reference, id, owner_iss, owner_sub, card_reference, external_card, device, status, path, process, activated_at, revision, changed_at"

func tokenValues(t provisioning.Token) []any {
	return []any{t.Tenant, t.Reference, t.ID, t.Issuer, t.Subject, t.CardReference, t.ExternalCardID, t.DeviceID,
		string(t.Status), t.Path, t.Process, millisOrZero(t.Activated), t.Revision, millis(t.Changed)}
}

// putToken writes a wallet token's next state, if nobody has changed it since it was read.
func putToken(ctx context.Context, tx tx, p provisioning.TokenPut) error {
	values := tokenValues(p.Token)
	const row = "(" + tokenColumns + ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
	var res sql.Result
	var err error
	if p.Was == 0 {
		res, err = tx.ExecContext(ctx, `INSERT INTO wallet_tokens `+row+` ON CONFLICT (tenant, reference) DO NOTHING`, values...)
	} else {
		res, err = tx.ExecContext(ctx, `UPDATE wallet_tokens SET card_reference = ?1, external_card = ?2, device = ?3, status = ?4,
			path = ?5, process = ?6, activated_at = ?7, revision = ?8, changed_at = ?9
			WHERE tenant = ?10 AND reference = ?11 AND id = ?12 AND revision = ?13`,
			append(append([]any{}, values[5:]...), p.Tenant, p.Reference, p.ID, p.Was)...)
	}
	if err != nil {
		return failed("write wallet token", err)
	}
	if err := oneRow(res, provisioning.ErrTokenChanged); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO wallet_token_history `+row, values...)
	return failed("keep state of wallet token", err)
}

// endAttempt ends an attempt at activating a wallet token, unless it has ended.
func endAttempt(ctx context.Context, tx tx, a provisioning.TokenAttempt) error {
	_, err := tx.ExecContext(ctx, `UPDATE wallet_tokens SET attempt = attempt + 1 WHERE tenant = ?1 AND reference = ?2 AND attempt = ?3`,
		a.Tenant, a.Reference, a.Attempt)
	return failed("end attempt at activating wallet token", err)
}

// FindTokens gives the rows of a tenant that have one of the references.
func (s *Store) FindTokens(ctx context.Context, tenant string, references []string) ([]provisioning.Token, error) {
	if len(references) == 0 {
		return nil, nil
	}
	args := []any{tenant}
	var places []string
	for _, r := range references {
		args = append(args, r)
		places = append(places, fmt.Sprintf("?%d", len(args)))
	}
	return s.tokens(ctx, `SELECT `+tokenColumns+`, attempt FROM wallet_tokens WHERE tenant = ?1 AND reference IN (`+strings.Join(places, ", ")+`)`, args...)
}

// TokenHistory gives all states of a wallet token, the first first.
func (s *Store) TokenHistory(ctx context.Context, tenant, reference string) ([]provisioning.Token, error) {
	return s.tokens(ctx, `SELECT `+tokenColumns+`, 0 FROM wallet_token_history WHERE tenant = ?1 AND reference = ?2 ORDER BY revision`, tenant, reference)
}

func (s *Store) tokens(ctx context.Context, query string, args ...any) ([]provisioning.Token, error) {
	var all []provisioning.Token
	err := s.eachToken(ctx, func(t provisioning.Token) error {
		all = append(all, t)
		return nil
	}, query, args...)
	return all, err
}

// tokenRows gives all states of wallet tokens, and the tokens as they are, as their entries
// name them.
func (s *Store) tokenRows(ctx context.Context, visit func(audit.BusinessRow) error) error {
	state := func(t provisioning.Token) audit.BusinessRow {
		return audit.BusinessRow{Kind: audit.WalletTokenState, Tenant: t.Tenant, ID: audit.RowOf(t.ID, t.StateSHA256()), At: t.Changed}
	}
	err := s.eachToken(ctx, func(t provisioning.Token) error { return visit(state(t)) }, `SELECT `+tokenColumns+`, 0 FROM wallet_token_history ORDER BY tenant, reference, revision`)
	if err != nil {
		return err
	}
	return s.eachToken(ctx, func(t provisioning.Token) error {
		if err := visit(state(t)); err != nil {
			return err
		}
		return visit(audit.BusinessRow{Kind: audit.WalletToken, Tenant: t.Tenant, ID: t.ID, At: t.Changed, Version: uint64(t.Revision)})
	}, `SELECT `+tokenColumns+`, 0 FROM wallet_tokens`)
}

// eachToken visits the rows of a query of tokenColumns and the attempt.
func (s *Store) eachToken(ctx context.Context, visit func(provisioning.Token) error, query string, args ...any) error {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return failed("read wallet tokens", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var t provisioning.Token
		var activated, changed int64
		if err := rows.Scan(&t.Tenant, &t.Reference, &t.ID, &t.Issuer, &t.Subject, &t.CardReference, &t.ExternalCardID, &t.DeviceID,
			&t.Status, &t.Path, &t.Process, &activated, &t.Revision, &changed, &t.Attempt); err != nil {
			return failed("read wallet tokens", err)
		}
		if activated != 0 {
			t.Activated = time.UnixMilli(activated).UTC()
		}
		t.Changed = time.UnixMilli(changed).UTC()
		if err := visit(t); err != nil {
			return err
		}
	}
	return failed("read wallet tokens", rows.Err())
}

// millisOrZero is millis of a time that may not be there.
func millisOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return millis(t)
}
