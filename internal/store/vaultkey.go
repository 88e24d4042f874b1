package store

import "context"

// SealedUnder counts what, of all tenants, is sealed under the vault key called key: cards,
// and notices that wait to be delivered.
func (s *Store) SealedUnder(ctx context.Context, key string) (cards, notices int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM cards WHERE vault_key = ?1), (SELECT COUNT(*) FROM network_notices WHERE vault_key = ?1)`, key).Scan(&cards, &notices)
	return cards, notices, failed("count what is sealed under a key", err)
}
