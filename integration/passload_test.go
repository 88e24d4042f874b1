//go:build passload

package integration

import (
	"context"
	"crypto"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/actors"
)

func init() { raceDetector = false } // it makes the server three times slower

// number is a figure of the environment, or the usual one.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// deviceDigest is how registrations know a device: a part of the database's format.
func deviceDigest(passType string, n int) []byte {
	sum := sha256.Sum256([]byte("mintmark pass device v1\x00" + devTenant + "\x00" + passType + "\x00" + fmt.Sprintf("device-%d", n)))
	return sum[:]
}

func (p *passServer) database() *sql.DB {
	p.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(p.dir, "mintmark.db")+"?_busy_timeout=10000&_txlock=immediate")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = db.Close() })
	return db
}

// seed registers devices from..to for a pass, beside the server.
func (p *passServer) seed(db *sql.DB, passType, serial string, from, to int) {
	p.t.Helper()
	tx, err := db.Begin()
	if err != nil {
		p.t.Fatal(err)
	}
	var ref int64
	if err := tx.QueryRow(`SELECT ref FROM passes WHERE tenant = ? AND type = ? AND serial = ?`, devTenant, passType, serial).Scan(&ref); err != nil {
		p.t.Fatal(err)
	}
	insert, err := tx.Prepare(`INSERT INTO pass_registrations (device, pass, push_token, client, renewed_at) VALUES (?, ?, ?, 'apple', ?)`)
	if err != nil {
		p.t.Fatal(err)
	}
	for n := from; n < to; n++ {
		if _, err := insert.Exec(deviceDigest(passType, n), ref, deviceToken(n), time.Now().UnixMilli()); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		p.t.Fatal(err)
	}
}

// p99 is the time that 99 of 100 calls stay below.
func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// atOnce has workers do n things and gives the time each took, and all together.
func atOnce(n, workers int, do func(i int)) (took []time.Duration, all time.Duration) {
	took = make([]time.Duration, n)
	var next atomic.Int64
	var running sync.WaitGroup
	began := time.Now()
	for range workers {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				at := time.Now()
				do(i)
				took[i] = time.Since(at)
			}
		})
	}
	running.Wait()
	return took, time.Since(began)
}

// The list call must not care how many registrations there are.
func TestMillionRegistrations(t *testing.T) {
	const passCount, few, calls = 1000, 1000, 20_000
	many := number(t, "PASS_REGISTRATIONS", 1_000_000)
	p := newPassServer(t, "    disabled: true\n")
	p.run()
	p.setUp(ecPasses, "0")
	tokens := make([]string, passCount)
	for i := range tokens {
		tokens[i] = p.change(ecPasses, strconv.Itoa(i), 1)
	}
	db := p.database()
	list := func(registrations int) time.Duration {
		took, _ := atOnce(calls, 2, func(int) {
			n := rand.IntN(registrations)
			if a := p.device("GET", fmt.Sprintf("/devices/device-%d/registrations/%s", n, ecPasses), "", ""); a.status != 200 {
				t.Errorf("list answered %d", a.status)
			}
		})
		return p99(took)
	}
	pages := func() (bytes int64) {
		if err := db.QueryRow(`SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	p.seed(db, ecPasses, "0", 0, few)
	list(few) // once, to warm up
	before, small := list(few), pages()
	for i := range passCount {
		p.seed(db, ecPasses, strconv.Itoa(i), few+(many-few)*i/passCount, few+(many-few)*(i+1)/passCount)
	}
	large := pages()
	if _, err := db.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	list(many)
	after := list(many)
	t.Logf("list call p99: %v at %d registrations, %v at %d: %.2fx", before, few, after, many, float64(after)/float64(before))
	t.Logf("%.0f bytes a registration, indexes included", float64(large-small)/float64(many-few))

	const registrations = 5000
	_, all := atOnce(registrations, 16, func(i int) { p.register(ecPasses, strconv.Itoa(i%passCount), tokens[i%passCount], many+i) })
	_, again := atOnce(registrations, 16, func(i int) { p.register(ecPasses, strconv.Itoa(i%passCount), tokens[i%passCount], many+i) })
	t.Logf("register: %.0f new and %.0f renewed a second at %d registrations", registrations/all.Seconds(), registrations/again.Seconds(), many)
	if after > 3*before/2 {
		t.Errorf("the list call takes %.2f times as long with %d registrations as with %d", float64(after)/float64(before), many, few)
	}
}

// One change is told to everybody, also when the process dies in the middle of it.
func TestFanOutThroughAKill(t *testing.T) {
	devices := number(t, "PASS_DEVICES", 100_000)
	apple := actors.NewPushService(t)
	p := newPassServer(t, apple.Config())
	p.trusted(apple)
	p.run()
	p.setUp(ecPasses, "0")
	db := p.database()
	p.seed(db, ecPasses, "0", 0, devices)
	taken := apple.Told
	began := time.Now()
	p.change(ecPasses, "0", 1)
	t.Logf("the change, with its %d entries, took %v", devices, time.Since(began))
	began = time.Now()
	p.awaitFor(10*time.Minute, "two fifths are told", func() bool { return taken() > devices*2/5 })
	at, rate := taken(), float64(taken())/time.Since(began).Seconds()
	p.kill()
	var left int
	if err := db.QueryRow(`SELECT COUNT(*) FROM pass_pushes`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	p.run()
	p.awaitFor(10*time.Minute, "everybody is told", func() bool { return taken() == devices })
	p.await("the outbox is empty", func() bool {
		var n int
		return db.QueryRow(`SELECT COUNT(*) FROM pass_pushes`).Scan(&n) == nil && n == 0
	})
	twice := 0
	for _, n := range apple.Pushes() {
		twice += n - 1
	}
	t.Logf("%.0f pushes a second; killed after %d, with %d entries left; lost %d, pushed twice %d", rate, at, left, devices-taken(), twice)
	if twice > 128 {
		t.Errorf("%d were pushed twice; one batch is 128", twice)
	}
	apple.Check()
}

// What is signed for the first time costs the token; what is kept costs nothing.
func TestBundlesColdAndWarm(t *testing.T) {
	const bundles, workers = 2000, 8
	p := newPassServer(t, "    disabled: true\n")
	p.run()
	p.setUp(rsaPasses, "0")
	tokens := make([]string, bundles)
	for i := range tokens {
		tokens[i] = p.change(rsaPasses, strconv.Itoa(i), 1)
	}
	fetch := func(i int) {
		if a := p.device("GET", "/passes/"+rsaPasses+"/"+strconv.Itoa(i), tokens[i], ""); a.status != 200 {
			t.Errorf("fetch answered %d", a.status)
		}
	}
	_, cold := atOnce(bundles, workers, fetch)
	_, warm := atOnce(10*bundles, workers, func(i int) { fetch(i % bundles) })
	p.kill()
	raw := p.rawSignatures(bundles, workers)
	perSecond := func(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
	t.Logf("bundles a second over HTTP: %.0f cold, %.0f warm; RSA-2048 C_Sign alone %.0f a second; cold/C_Sign %.2f",
		perSecond(bundles, cold), perSecond(10*bundles, warm), perSecond(bundles, raw), perSecond(bundles, cold)/perSecond(bundles, raw))
}

// rawSignatures is the time of signatures with the same key and nothing around them.
func (p *passServer) rawSignatures(n, workers int) time.Duration {
	p.t.Helper()
	ring, err := hsm.LoadKeyring(filepath.Join(p.dir, "keyring.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	cfg := hsm.Config{Name: "dev", Module: p.hsm.Module, TokenLabel: p.hsm.TokenLabel, PINFile: p.hsm.PinFile, Keyring: ring, Log: slog.New(slog.DiscardHandler)}
	token, err := hsm.Open(context.Background(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	_, all := atOnce(n, workers, func(int) {
		if _, err := token.Sign(context.Background(), "dev-pass", digest[:], crypto.SHA256); err != nil {
			p.t.Error(err)
		}
	})
	if err := token.Close(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	return all
}
