package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
)

// A lease reads about what it takes, also where PostgreSQL knows nothing yet of the table: a
// fan-out fills it faster than statistics are made.
func TestLeaseOfPushesReadsWhatItTakes(t *testing.T) {
	const due, taken = 5000, 20
	e := engines[1]
	place := e.newPlace(t)
	ctx := context.Background()
	s, err := e.open(ctx, place, environment)
	if err != nil {
		t.Fatal(err)
	}
	beside := e.beside(t, place)
	beside.SetMaxOpenConns(1) // whose own work is counted before it asks
	execute(t, beside, `ALTER TABLE pass_pushes SET (autovacuum_enabled = false)`)
	execute(t, beside, `INSERT INTO pass_pushes (tenant, type, push_token, client, attempts, fence, due_at)
		SELECT 'shop', 'pass.a', n::text, 'apple', 0, 0, n FROM generate_series(1, 5000) AS n`)
	all, err := s.LeasePushes(ctx, passes.TypeID{Tenant: "shop", Type: "pass.a"}, passes.Wallets{}, noon, noon.Add(time.Minute), taken)
	if err != nil || len(all) != taken {
		t.Fatalf("leased %d, %v", len(all), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for left := 1; left > 0; { // statistics are complete when the connections have ended
		if err := beside.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'mintmark' AND datname = current_database()`).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}
	var read int
	if err := beside.QueryRow(`SELECT COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'pass_pushes'`).Scan(&read); err != nil {
		t.Fatal(err)
	}
	if read == 0 || read > due {
		t.Errorf("%d rows were read to lease %d of %d", read, taken, due)
	}
}
