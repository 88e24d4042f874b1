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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
	"github.com/mintmark/mintmark/signer"
)

// How long each point of the table is measured, and how often; the median counts.
const (
	benchFor    = 3 * time.Second
	benchRounds = 5
)

// benchClients are the numbers of callers at once.
var benchClients = []int{1, 16, 64}

// point is one measurement.
type point struct {
	perSecond, cpu float64 // requests a second, CPU-ms a request
	p50, p99       time.Duration
}

// What the log costs: RSA-2048 signatures by SoftHSM, each with its intent and result on
// record in one entry before it is released, and the same without a log. With it a
// checkpoint is signed each second.
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
	server, err := pgtest.Start() // durable, as it comes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	dsn, err := server.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	sqlite, err := store.Open(ctx, filepath.Join(t.TempDir(), "mintmark.db"), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sqlite.Close() })
	postgres, err := store.OpenPostgres(ctx, dsn, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = postgres.Close() })
	modes := []struct {
		name string
		do   func() error
	}{
		{"no log", func() error { _, err := sign(ctx); return err }},
		{"SQLite", logged(t, sqlite, token, sign)},
		{"PostgreSQL", logged(t, postgres, token, sign)},
	}
	got := map[string][]point{}
	for range benchRounds {
		for _, clients := range benchClients {
			for _, m := range modes {
				name := fmt.Sprintf("%d/%s", clients, m.name)
				got[name] = append(got[name], measure(t, clients, m.do))
			}
		}
	}
	fmt.Println("| clients | log | signatures/s | CPU-ms each | p50 | p99 | throughput | CPU-ms more |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, clients := range benchClients {
		base := median(got[fmt.Sprintf("%d/no log", clients)])
		for _, m := range modes {
			p := median(got[fmt.Sprintf("%d/%s", clients, m.name)])
			fmt.Printf("| %d | %s | %.0f | %.3f | %v | %v | %+.1f %% | %+.3f |\n", clients, m.name, p.perSecond, p.cpu,
				p.p50.Round(10*time.Microsecond), p.p99.Round(10*time.Microsecond), 100*(p.perSecond/base.perSecond-1), p.cpu-base.cpu)
		}
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

// measure has clients do it one after the other for a while.
func measure(t *testing.T, clients int, do func() error) point {
	t.Helper()
	var stop atomic.Bool
	times := make([][]time.Duration, clients)
	var all sync.WaitGroup
	cpu, began := cpuTime(t), time.Now()
	for i := range clients {
		all.Go(func() {
			for !stop.Load() {
				at := time.Now()
				if err := do(); err != nil {
					t.Error(err)
					return
				}
				times[i] = append(times[i], time.Since(at))
			}
		})
	}
	<-time.After(benchFor)
	stop.Store(true)
	all.Wait()
	took, used := time.Since(began), cpuTime(t)-cpu
	each := slices.Concat(times...)
	slices.Sort(each)
	n := len(each)
	if n == 0 {
		t.Fatal("nothing was done")
	}
	return point{
		perSecond: float64(n) / took.Seconds(), cpu: used.Seconds() * 1000 / float64(n),
		p50: each[n/2], p99: each[n*99/100],
	}
}

// cpuTime is this process's, in user and kernel.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// median takes each figure's middle.
func median(all []point) point {
	middle := func(of func(point) float64) float64 {
		var v []float64
		for _, p := range all {
			v = append(v, of(p))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return point{
		perSecond: middle(func(p point) float64 { return p.perSecond }), cpu: middle(func(p point) float64 { return p.cpu }),
		p50: time.Duration(middle(func(p point) float64 { return float64(p.p50) })), p99: time.Duration(middle(func(p point) float64 { return float64(p.p99) })),
	}
}
