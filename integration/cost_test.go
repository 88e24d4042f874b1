//go:build cost

package integration

import (
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

func init() { raceDetector = false } // it makes the server three times slower

// How many of each operation are measured, and how many a second: few enough that they
// do not share transactions much.
const (
	costOperations = 400
	costRate       = 50
)

// What one operation of each kind costs: calls to the token, rows, write transactions, bytes
// on the disk and processor time, on both databases. It is printed, and nothing asserted of
// it, but that nearly all was done.
func TestCostOfEachOperation(t *testing.T) {
	dsn, file := durablePostgres(t)
	spy := faultmodule.New(t, module(t))
	onSQLite := costsOf(t, spy, "sqlite3", func(dir string) string {
		return "file:" + filepath.Join(dir, "mintmark.db") + "?mode=ro&_busy_timeout=5000"
	}, nil)
	onPostgres := costsOf(t, spy, "pgx", func(string) string { return dsn },
		[]string{"MINTMARK_STORE_SQLITE=", "MINTMARK_STORE_POSTGRES_DSN_FILE=" + file, "MINTMARK_DATA_DIR=" + t.TempDir()})
	fmt.Println("| operation | write transactions | rows | bytes, SQLite | bytes, PostgreSQL | its WAL, bytes | CPU-ms, SQLite | CPU-ms, PostgreSQL | token calls |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for i, s := range onSQLite {
		p := onPostgres[i]
		fmt.Printf("| %s | %.2f | %s | %.0f | %.0f | %.0f | %.2f | %.2f | %s |\n", loads[i], p.transactions, p.rows, s.bytes, p.bytes, p.wal, s.cpu, p.cpu, p.calls)
	}
}

// cost is what one operation costs.
type cost struct {
	bytes, wal, transactions float64
	rows, calls              string // those that are at least a tenth each
	cpu                      float64
}

// costsOf measures all operations on a development server of its own.
func costsOf(t *testing.T, spy *faultmodule.Module, driver string, dsn func(dir string) string, env []string) (all []cost) {
	t.Helper()
	s := start(t, t.TempDir(), []string{"--module", spy.Path}, append(slices.Clone(unsigned), env...))
	db, err := sql.Open(driver, dsn(s.dir))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	defer func() { _ = db.Close() }()
	defer s.stop()
	for _, name := range loads {
		load := func(n int) (done int) {
			run, out, log, status := loadgen(t, "--dev", s.dir, "--mix", name+"=1", "--rate", fmt.Sprint(costRate),
				"--duration", (time.Duration(n) * time.Second / costRate).String(), "--max-errors", fmt.Sprint(n/10))
			if status != 0 {
				t.Fatalf("status %d\n%s%s", status, out, log)
			}
			return run.Total.OK
		}
		load(costRate) // what is made once: statements, caches, pages
		before := newStock(t, s, spy, db, driver)
		done := load(costOperations)
		c := newStock(t, s, spy, db, driver).since(before, done)
		t.Logf("%s: %d of %s: %+v", driver, done, name, c)
		all = append(all, c)
	}
	return all
}

// stock is all that an operation may add to.
type stock struct {
	rows              map[string]int64
	bytes, wal, xacts int64
	calls             calls
	cpu               time.Duration
}

func newStock(t *testing.T, s *server, spy *faultmodule.Module, db *sql.DB, driver string) stock {
	t.Helper()
	one := func(text string, args ...any) (n int64) {
		if err := db.QueryRow(text, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	st := stock{rows: map[string]int64{}, calls: spy.Counts()}
	tables := `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`
	if driver == "pgx" {
		tables = `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1`
		st.bytes = one(`SELECT SUM(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`)
		st.wal = one(`SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`)
		// The next number: a transaction that writes takes one, this one does not.
		st.xacts = one(`SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`)
	} else {
		st.bytes = one(`SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`)
	}
	rows, err := db.Query(tables)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		st.rows[name] = one("SELECT COUNT(*) FROM " + name)
	}
	family, err := bench.Process(s.cmd.Process.Pid).Family()
	if err == nil {
		st.cpu, err = family.CPU()
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// since is what each of n operations added.
func (s stock) since(before stock, n int) cost {
	each := func(sum int64) float64 { return float64(sum) / float64(n) }
	c := cost{
		bytes: each(s.bytes - before.bytes), wal: each(s.wal - before.wal), transactions: each(s.xacts - before.xacts),
		cpu: (s.cpu - before.cpu).Seconds() * 1000 / float64(n),
	}
	var rows, calls []string
	for _, name := range slices.Sorted(maps.Keys(s.rows)) {
		if n := each(s.rows[name] - before.rows[name]); n >= 0.1 {
			rows = append(rows, fmt.Sprintf("%s %.1f", name, n))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.calls)) {
		if n := each(int64(s.calls[name] - before.calls[name])); n >= 0.1 {
			calls = append(calls, fmt.Sprintf("%s %.1f", strings.TrimPrefix(name, "C_"), n))
		}
	}
	c.rows, c.calls = strings.Join(rows, ", "), strings.Join(calls, ", ")
	return c
}
