//go:build registrations

package store_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// Each pass of the crowd has this many devices, with the bound that the configuration has
// if it says nothing.
const (
	devicesOfPass    = 1000
	maxRegistrations = 10_000
)

// What devices and issuers wait for must not care how many registrations there are:
// REGISTRATIONS of them (ten million unless told otherwise) against a tenth, in one run, on a
// PostgreSQL that writes to the disk. Printed is how long each call takes; held is that no
// statement reads a table of registrations or passes from end to end.
func TestTenMillionRegistrations(t *testing.T) {
	many := 10_000_000
	if text := os.Getenv("REGISTRATIONS"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil || many < 10*devicesOfPass {
			t.Fatalf("REGISTRATIONS is %q", text)
		}
	}
	server, err := pgtest.Start("shared_buffers=1GB", "maintenance_work_mem=512MB", "max_wal_size=2GB")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	dsn, err := server.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, dsn: dsn, id: passes.TypeID{Tenant: "shop", Type: "pass.a"}}
	c.open(dsn, func() {}) // makes the tables
	c.db = engines[1].beside(t, dsn)
	c.db.SetMaxOpenConns(1) // see scans
	c.grow(many / 10)
	few := c.measure()
	c.grow(many)
	all := c.measure()
	fmt.Printf("\n| call | p50 at %d | p99 | pages | p50 at %d | p99 | pages | p50 | p99 | pages |\n|---|---|---|---|---|---|---|---|---|---|\n", many/10, many)
	for i, before := range few {
		after := all[i]
		fmt.Printf("| %s | %.2f ms | %.2f ms | %.1f | %.2f ms | %.2f ms | %.1f | %.2fx | %.2fx | %.2fx |\n", before.call,
			ms(before.p50), ms(before.p99), before.pages, ms(after.p50), ms(after.p99), after.pages,
			ms(after.p50)/ms(before.p50), ms(after.p99)/ms(before.p99), after.pages/before.pages)
	}
	c.explain(server)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// crowd is registrations of one pass type in one database.
type crowd struct {
	t   *testing.T
	dsn string
	db  *sql.DB // beside the store
	id  passes.TypeID
	n   int // registrations
	s   *opened
	new int // the next device that is not of the crowd
	// forgotten are those of the crowd that are gone.
	forgotten int
}

// open runs do with the store. Statistics are complete when its connections have ended at
// the server too.
func (c *crowd) open(dsn string, do func()) {
	c.t.Helper()
	db, err := store.OpenPostgres(c.t.Context(), dsn, environment, "")
	if err != nil {
		c.t.Fatal(err)
	}
	c.s = withWriter(db)
	do()
	if err := db.Close(); err != nil {
		c.t.Fatal(err)
	}
	for left := 1; c.db != nil && left > 0; {
		if err := c.db.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'mintmark'`).Scan(&left); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *crowd) exec(text string, args ...any) {
	c.t.Helper()
	if _, err := c.db.Exec(text, args...); err != nil {
		c.t.Fatal(err)
	}
}

// grow brings the crowd to n: as many passes as that takes, and each device with one. The
// indexes are made anew afterwards, which is how a restored database gets them.
func (c *crowd) grow(n int) {
	c.t.Helper()
	began := time.Now()
	c.exec(`INSERT INTO passes (ref, tenant, type, serial, document, token, files, voided, version, stamp, modified,
			personal_state, personal_fence, personal_until, personal_info)
		SELECT n, $1, $2, n::text, '{}', 'token', '{}', 0, 1, 1, 1, 'free', 0, 0, '' FROM generate_series($3::bigint, $4::bigint) AS n`,
		c.id.Tenant, c.id.Type, c.n/devicesOfPass, n/devicesOfPass-1)
	c.exec(`INSERT INTO pass_types (tenant, type, template, files, certificate, revision, content_stamp, content_modified, stamp, last_modified)
		VALUES ($1, $2, '{}', '{}', '', 1, 1, 1, 1, 1) ON CONFLICT DO NOTHING`, c.id.Tenant, c.id.Type)
	restore := c.dropIndexes("pass_registrations")
	c.exec(`INSERT INTO pass_registrations (device, pass, push_token, client, renewed_at, stamp)
		SELECT sha256(convert_to('device-' || n, 'UTF8')), n / $3, encode(sha256(convert_to('push-' || n, 'UTF8')), 'hex'), 'apple', 0, 1
		FROM generate_series($1::bigint, $2::bigint) AS n`, c.n, n-1, devicesOfPass)
	restore()
	c.n = n
	for _, table := range []string{"pass_registrations", "passes", "pass_types"} {
		c.exec("VACUUM ANALYZE " + table)
	}
	c.exec("CHECKPOINT")
	var rows, bytes int64
	if err := c.db.QueryRow(`SELECT COUNT(*), pg_total_relation_size('pass_registrations') FROM pass_registrations`).Scan(&rows, &bytes); err != nil {
		c.t.Fatal(err)
	}
	if want := int64(n - c.forgotten); rows != want {
		c.t.Fatalf("%d registrations, want %d", rows, want)
	}
	fmt.Printf("%d registrations: %.0f bytes each with their indexes; made in %v\n", rows, float64(bytes)/float64(rows), time.Since(began).Round(time.Second))
}

// dropIndexes drops a table's indexes, and gives what makes them again.
func (c *crowd) dropIndexes(table string) (restore func()) {
	c.t.Helper()
	rows, err := c.db.Query(`SELECT indexname, indexdef FROM pg_indexes WHERE tablename = $1 AND indexname <> $1 || '_pkey'`, table)
	if err != nil {
		c.t.Fatal(err)
	}
	var names, definitions []string
	for rows.Next() {
		var name, definition string
		if err := rows.Scan(&name, &definition); err != nil {
			c.t.Fatal(err)
		}
		names, definitions = append(names, name), append(definitions, definition)
	}
	if err := rows.Err(); err != nil || len(names) == 0 {
		c.t.Fatalf("%s has indexes %v: %v", table, names, err)
	}
	var key string
	if err := c.db.QueryRow(`SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1 || '_pkey'`, table).Scan(&key); err != nil {
		c.t.Fatal(err)
	}
	c.exec("ALTER TABLE " + table + " DROP CONSTRAINT " + table + "_pkey")
	for _, name := range names {
		c.exec("DROP INDEX " + name)
	}
	return func() {
		c.exec("ALTER TABLE " + table + " ADD " + key)
		for _, definition := range definitions {
			c.exec(definition)
		}
	}
}

// figure is how long a call took, and how many pages it looked at: a figure that does not
// depend on what else the machine does.
type figure struct {
	call     string
	p50, p99 time.Duration
	pages    float64
}

// timed calls do n times, one after the other.
func timed(call string, n int, do func(i int)) figure {
	took := make([]time.Duration, n)
	for i := range took {
		at := time.Now()
		do(i)
		took[i] = time.Since(at)
	}
	slices.Sort(took)
	return figure{call: call, p50: took[n/2], p99: took[n*99/100]}
}

// calls are all that is measured: each call's name, how often it is made, and the call.
func (c *crowd) calls() []struct {
	name string
	n    int
	do   func(i int)
} {
	return []struct {
		name string
		n    int
		do   func(i int)
	}{
		{"a device lists its passes", 10_000, func(int) { c.list() }},
		{"a new device registers", 1000, func(int) { c.register(c.new, "push"); c.new++ }},
		{"a device registers again, with another push token", 1000, func(i int) { c.register(c.new-1-i, "other") }},
		{"a device unregisters", 1000, func(int) { c.new--; c.unregister(c.new) }},
		{"a change of a pass with 1 000 devices, outbox included", 50, func(int) { c.change() }},
		{"128 pushes are leased", 100, func(int) { c.lease() }},
		{"a device is forgotten (410)", 100, func(int) { c.forget() }},
	}
}

// measure makes all calls, after some that are not counted, and requires that none of their
// statements read a whole table.
func (c *crowd) measure() (all []figure) {
	c.t.Helper()
	c.new = c.n
	before := c.scans()
	c.open(c.dsn, func() {
		for range 1000 {
			c.list()
		}
	})
	opening := c.pages(func() { c.open(c.dsn, func() {}) })
	for _, call := range c.calls() {
		var f figure
		pages := c.pages(func() {
			c.open(c.dsn, func() { f = timed(call.name, call.n, call.do) })
		})
		f.pages = float64(pages-opening) / float64(call.n)
		c.t.Logf("%d registrations, %s: p50 %v, p99 %v, %.1f pages", c.n, f.call, f.p50, f.p99, f.pages)
		all = append(all, f)
	}
	for table, n := range c.scans() {
		if n != before[table] {
			c.t.Errorf("%s was read from end to end %d times at %d registrations", table, n-before[table], c.n)
		}
	}
	c.exec("DELETE FROM pass_pushes")
	c.exec("VACUUM ANALYZE pass_pushes")
	return all
}

// pages is how many pages of the database's tables and indexes were looked at while do ran, in
// memory or not.
func (c *crowd) pages(do func()) int64 {
	c.t.Helper()
	looked := func() (n int64) {
		c.exec("SELECT pg_stat_force_next_flush()")
		err := c.db.QueryRow(`SELECT SUM(heap_blks_hit + heap_blks_read + COALESCE(idx_blks_hit + idx_blks_read, 0)) FROM pg_statio_user_tables`).Scan(&n)
		if err != nil {
			c.t.Fatal(err)
		}
		return n
	}
	before := looked()
	do()
	return looked() - before
}

// fewPasses are read faster from end to end than by an index.
const fewPasses = 1000

// scans are how often the tables that grow with registrations were read from end to end,
// with all that this connection did itself.
func (c *crowd) scans() map[string]int64 {
	c.t.Helper()
	all := map[string]int64{}
	c.exec("SELECT pg_stat_force_next_flush()")
	for _, table := range []string{"pass_registrations", "passes"} {
		if table == "passes" && c.n/devicesOfPass < fewPasses {
			continue
		}
		var n int64
		if err := c.db.QueryRow(`SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1`, table).Scan(&n); err != nil {
			c.t.Fatal(err)
		}
		all[table] = n
	}
	return all
}

func deviceOf(n int) passes.DeviceKey { return sha256.Sum256([]byte("device-" + strconv.Itoa(n))) }

func (c *crowd) pass(n int) passes.PassRow {
	ref := n / devicesOfPass % (c.n / devicesOfPass)
	return passes.PassRow{ID: passes.ID{TypeID: c.id, Serial: strconv.Itoa(ref)}, Ref: int64(ref), Document: []byte(`{}`)}
}

func (c *crowd) list() {
	n := rand.IntN(c.n)
	got, err := c.s.ChangedSince(c.t.Context(), deviceOf(n), c.id, 0)
	// A device may have been forgotten; of the others each has its one pass.
	if err != nil || len(got) > 1 || len(got) == 1 && got[0].Serial != strconv.Itoa(n/devicesOfPass) {
		c.t.Fatalf("device %d has %v, %v", n, got, err)
	}
}

func (c *crowd) register(n int, push string) {
	token := sha256.Sum256([]byte(push + "-" + strconv.Itoa(n)))
	created, err := c.s.Register(c.t.Context(), passes.Registration{
		Device: deviceOf(n), Pass: c.pass(n * 7919), PushToken: hex.EncodeToString(token[:]), Client: "apple", At: time.Now(), Limit: maxRegistrations,
	})
	if err != nil || created != (push == "push") {
		c.t.Fatalf("registered device %d: new %v, %v", n, created, err)
	}
}

func (c *crowd) unregister(n int) {
	if err := c.s.Unregister(c.t.Context(), deviceOf(n), c.pass(n*7919)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) change() {
	row := c.pass(rand.IntN(c.n))
	mustAppend(c.t, c.s, passes.PassPut{Row: &row, Push: true, Now: time.Now()})
}

func (c *crowd) leased(n int) []passes.Push {
	now := time.Now()
	all, err := c.s.LeasePushes(c.t.Context(), c.id, passes.Wallets{}, now, now.Add(time.Hour), n)
	if err != nil || len(all) != n {
		c.t.Fatalf("leased %d, %v", len(all), err)
	}
	return all
}

func (c *crowd) lease() { c.leased(128) }

// forget leases a push, and ends it as Apple's 410 does.
func (c *crowd) forget() {
	p := c.leased(1)[0]
	if err := c.s.EndPushes(c.t.Context(), []passes.PushEnd{{Push: p, Forget: time.Now()}}); err != nil {
		c.t.Fatal(err)
	}
	c.forgotten++
}

var scan = regexp.MustCompile(`(?m)(?:Index|Bitmap|Seq|Tid)[A-Za-z ]*Scan[^(\n]*`)

// explain has the server write the plans of all calls to its log, until they are those that
// do not depend on the parameters, and prints how tables are read.
func (c *crowd) explain(server *pgtest.Server) {
	c.t.Helper()
	before := len(server.Log())
	c.new = c.n
	c.open(c.dsn+" options='-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0'", func() {
		for _, call := range c.calls() {
			for i := range 8 {
				call.do(i)
			}
		}
	})
	seen := map[string]int{}
	for _, how := range scan.FindAllString(server.Log()[before:], -1) {
		seen[strings.TrimSpace(how)]++
	}
	fmt.Println("\nhow the plans read tables, and in how many of them:")
	for _, how := range slices.Sorted(maps.Keys(seen)) {
		fmt.Printf("    %4d  %s\n", seen[how], how)
	}
	if len(seen) == 0 {
		c.t.Error("the server wrote no plans")
	}
}
