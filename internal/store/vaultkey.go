package store

import "context"

// CardsUnder counts the cards, of all tenants, that are stored under the vault key called
// key.
func (s *Store) CardsUnder(ctx context.Context, key string) (int, error) {
	var n int
	err := s.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM cards WHERE vault_key = ?1`, key).Scan(&n)
	return n, failed("count cards", err)
}
