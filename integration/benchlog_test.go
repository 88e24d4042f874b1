//go:build benchlog

package integration

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/bench/least"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// What the log costs: RSA-2048 signatures by SoftHSM, each with its intent and result on
// record in one entry before it is released, and the same without a log. With it a
// checkpoint is signed each second. The least record is one that nobody could verify.
func TestCostOfTheLog(t *testing.T) {
	token := hsmtest.New(t)
	key, err := token.Active(hsm.TAVSigning)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("what is signed"))
	sign := func(ctx context.Context) ([]byte, error) {
		return token.Sign(ctx, key.Name, digest[:], crypto.SHA256)
	}
	dsn, _ := durablePostgres(t)
	ctx := context.Background()
	sqlite, err := store.Open(ctx, filepath.Join(t.TempDir(), "mintmark.db"), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sqlite.Close() })
	postgres, err := store.OpenPostgres(ctx, dsn, "test", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = postgres.Close() })
	subject := func(name string, do func() error) bench.Subject {
		return bench.Subject{Name: name, Raw: "none", Measure: func(clients int, d time.Duration) (bench.Point, error) {
			return bench.Loop(clients, d, bench.Own, func(int) error { return do() })
		}}
	}
	rows, err := bench.Run([]bench.Subject{
		subject("none", func() error { _, err := sign(ctx); return err }),
		subject("least", recorded(t, sign)),
		subject("SQLite", logged(t, sqlite, token, sign)),
		subject("PostgreSQL", logged(t, postgres, token, sign)),
	}, bench.Plan{Clients: []int{1, 16, 64}, Rounds: 5, Each: 3 * time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("| clients | log | signatures/s | CPU-ms each | p50 ms | p99 ms | throughput | CPU-ms more |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Printf("| %d | %s | %.0f | %.3f | %.2f | %.2f | %+.1f %% | %+.3f |\n", r.Clients, r.Subject, r.PerSecond, r.CPU, r.P50, r.P99, 100*(r.ToRaw-1), r.OverRaw)
	}
}

// recorded is a signature with the least record.
func recorded(t *testing.T, sign func(context.Context) ([]byte, error)) func() error {
	log, err := least.Open(filepath.Join(t.TempDir(), "least.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return func() error {
		sig, err := sign(context.Background())
		if err != nil {
			return err
		}
		entry := fmt.Sprintf(`{"operation":"sign","iss":"https://issuer.example","sub":"merchant-1","output":"%x"}`, sha256.Sum256(sig))
		return log.Append(entry, sha256.Sum256([]byte(entry)))
	}
}

// logged is a signature with its record, as the domains do it.
func logged(t *testing.T, s *store.Store, token *hsmtest.Token, sign func(context.Context) ([]byte, error)) func() error {
	log := audit.New(s, time.Now)
	points := audit.NewCheckpointer(log, audit.CheckpointConfig{
		Origin: "bench/test", Signer: signer.New(token.Token), Store: s, Every: time.Second,
		Limits: audit.Limits{Entries: 100_000, Age: time.Minute}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	if err := points.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { points.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	in := record.Intent{
		Operation: record.SignMerchantToken, Tenant: "bank", Issuer: "https://issuer.example", Subject: "merchant-1",
		RequestID: "0198c1c2-6d2e-7c30-8b7e-0f6a4b3d2c1e", Refs: map[string]string{"jti": "0198c1c2-6d2e-7c30-8b7e-0f6a4b3d2c1f"},
	}
	return func() error {
		ticket, err := log.Open(in)
		if err != nil {
			return err
		}
		sig, err := sign(ctx)
		if err != nil {
			return err
		}
		held := record.Hold(ticket, "token", sig, sig)
		receipt, err := log.Conclude(ctx, ticket, record.Done(held.Digest()))
		if err != nil {
			return err
		}
		_, err = held.Release(receipt)
		return err
	}
}
