package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

// replica opens a PostgreSQL database as a process with a named log does, or with none.
func replica(t testing.TB, dsn, name string) *opened {
	t.Helper()
	return untilTheEnd(t, func() (*store.Store, error) {
		return store.OpenPostgres(context.Background(), dsn, environment, name)
	})
}

// number is that of the log that a store writes.
func number(t testing.TB, s *opened) int {
	t.Helper()
	l, err := s.OwnLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l.Number
}

func refuseReplica(t testing.TB, dsn, name string) {
	t.Helper()
	if s, err := store.OpenPostgres(t.Context(), dsn, environment, name); s != nil || !errors.Is(err, store.ErrTaken) {
		t.Errorf("opened %v, error %v, want ErrTaken", s, err)
	}
}

// SQLite has one log, and so one process: two would give two entries one number.
func TestSecondProcessOnSQLiteIsRefused(t *testing.T) {
	e := engines[0]
	place := e.newPlace(t)
	first, err := e.open(context.Background(), place, environment)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := e.open(context.Background(), place, environment); s != nil || !errors.Is(err, store.ErrTaken) {
		t.Errorf("opened %v, error %v, want ErrTaken", s, err)
	}
	mustAppend(t, withWriter(first))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, e.openAt(t, place))
}

// Processes on one PostgreSQL have a log each. Who comes takes one that nobody writes before
// a new one is made, and goes on in it.
func TestEachProcessHasALogOfItsOwn(t *testing.T) {
	t.Parallel() // most of it is waiting
	dsn := engines[1].newPlace(t)
	first, second := replica(t, dsn, ""), replica(t, dsn, "")
	for range 3 {
		mustAppend(t, first)
	}
	mustAppend(t, second)
	same(t, []int{0, 1}, []int{number(t, first), number(t, second)})
	requireTree(t, first, 3)
	requireTree(t, second, 1)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := first.Logs(t.Context())
	if err != nil || len(all) != 2 || all[0].Idle || !all[1].Idle {
		t.Errorf("%v, logs: %+v", err, all)
	}
	third, fourth := replica(t, dsn, ""), replica(t, dsn, "")
	mustAppend(t, third)
	same(t, []int{1, 2}, []int{number(t, third), number(t, fourth)})
	requireTree(t, third, 2)
	requireTree(t, first, 3)
}

// Who closes a log has given it back: nobody has to wait until the server notices.
func TestClosedLogIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	dsn := engines[1].newPlace(t)
	watcher := replica(t, dsn, "")
	for range 20 {
		s, err := store.OpenPostgres(t.Context(), dsn, environment, "mint-a")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		all, err := watcher.Logs(t.Context())
		if err != nil || len(all) != 2 || !all[1].Idle {
			t.Fatalf("%v, logs: %+v", err, all)
		}
	}
}

// A log with a name is for the process of that name, and for one at a time; the others leave
// it alone.
func TestNamedLogIsForItsProcess(t *testing.T) {
	t.Parallel() // most of it is waiting
	dsn := engines[1].newPlace(t)
	a := replica(t, dsn, "mint-a")
	b := replica(t, dsn, "mint-b")
	collect := debug.SetGCPercent(-1) // which would close what nobody does
	refuseReplica(t, dsn, "mint-a")
	awaitWriters(t, engines[1].beside(t, dsn), 2) // who was refused is gone
	debug.SetGCPercent(collect)
	same(t, []int{1, 2, 0}, []int{number(t, a), number(t, b), number(t, replica(t, dsn, ""))})
	mustAppend(t, a)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, 3, number(t, replica(t, dsn, "")))
	again := replica(t, dsn, "mint-a")
	mustAppend(t, again)
	requireTree(t, again, 2)
	same(t, 1, number(t, again))
}

// A database has a number of logs at most: each is there for good.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel() // most of it is waiting
	dsn := engines[1].newPlace(t)
	replica(t, dsn, "")
	db := engines[1].beside(t, dsn)
	execute(t, db, `INSERT INTO audit_logs SELECT n, 'log-' || n, '', 0 FROM generate_series(1, 62) n`)
	same(t, 63, number(t, replica(t, dsn, "last")))
	refuseReplica(t, dsn, "one-more")
	refuseReplica(t, dsn, "")
}

// terminate ends the sessions that hold logs, as a server that restarts does, and waits until
// they have given them back: whoever writes next finds them free.
func terminate(t testing.TB, db *sql.DB) {
	t.Helper()
	const held = ` FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	execute(t, db, `SELECT pg_terminate_backend(pid)`+held)
	for left := 1; left > 0; {
		if err := db.QueryRow(`SELECT COUNT(*)` + held).Scan(&left); err != nil {
			t.Fatal(err)
		}
	}
}

// patience is how long what must come is waited for.
const patience = time.Minute

// eventually appends until it succeeds: the first may find its connection gone.
func eventually(t testing.TB, s *opened, changes ...record.Change) {
	t.Helper()
	deadline := time.Now().Add(patience)
	err := appendTo(s, changes...)
	for err != nil && time.Now().Before(deadline) {
		err = appendTo(s, changes...)
	}
	if err != nil {
		t.Error(err)
	}
}

// When the writing connection is lost its lock is lost with it. The next one takes the same
// log before it writes; while somebody else has it nothing is written.
func TestLostConnectionTakesTheSameLogAgain(t *testing.T) {
	t.Parallel() // most of it is waiting
	dsn := engines[1].newPlace(t)
	first, second := replica(t, dsn, ""), replica(t, dsn, "")
	mustAppend(t, first)
	mustAppend(t, second)
	db := engines[1].beside(t, dsn)
	terminate(t, db)
	eventually(t, second)
	eventually(t, first)
	requireTree(t, first, 2)
	requireTree(t, second, 2)
	same(t, []int{0, 1}, []int{number(t, first), number(t, second)})

	thief, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = thief.Close() }()
	terminate(t, db)
	// "mintmark" in ASCII is log 0's lock.
	if _, err := thief.ExecContext(t.Context(), fmt.Sprintf("SELECT pg_advisory_lock(%d)", 0x6d696e746d61726b)); err != nil {
		t.Fatal(err)
	}
	requireUnavailable(t, appendTo(first))
	err = first.Ping(t.Context())
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); err = first.Ping(t.Context()) {
		requireUnavailable(t, appendTo(first))
	}
	requireUnavailable(t, err) // not ready
	eventually(t, second)
	requireTree(t, second, 3)
	if _, err := thief.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	eventually(t, first)
	requireTree(t, first, 3)
	if err := first.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// awaitWriters waits until so many sessions are left that can write as a replica does.
func awaitWriters(t testing.TB, db *sql.DB, want int) {
	t.Helper()
	got := -1
	for deadline := time.Now().Add(patience); got != want && time.Now().Before(deadline); {
		err := db.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mintmark'`).Scan(&got)
		if err != nil {
			t.Fatal(err)
		}
	}
	same(t, want, got)
}

// A server that takes the place of the first and is behind it, as one may be that was fed by
// it, is not written to: what is written there would stand behind a gap. It shows on the new
// connection, whoever lost the old one.
func TestServerThatIsBehindIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	dsn := engines[1].newPlace(t)
	s, db := replica(t, dsn, ""), engines[1].beside(t, dsn)
	for range 7 { // the next one's hashes alone are the tree's edge
		mustAppend(t, s)
	}
	execute(t, db, `CREATE TABLE keep AS SELECT * FROM audit_entries WHERE seq = 6`)
	execute(t, db, `DELETE FROM audit_entries WHERE seq = 6`)
	terminate(t, db)
	if err := store.OnWriter(s.Store, "SELECT 1"); err == nil { // as anything but an append may find it
		t.Fatal("the connection is still there")
	}
	for range 2 {
		err := appendTo(s)
		requireUnavailable(t, err)
		if !errors.Is(err, audit.ErrChanged) {
			t.Errorf("error %v, want ErrChanged", err)
		}
	}
	requireUnavailable(t, s.Ping(t.Context())) // not ready
	same(t, []string{"6"}, rowsOf(t, db, `SELECT COUNT(*) FROM audit_entries`))
	execute(t, db, `INSERT INTO audit_entries SELECT * FROM keep`)
	mustAppend(t, s)
	requireTree(t, s, 8)
}

// Entries and checkpoints of a log that is not listed are seen nevertheless.
func TestUnlistedLogsAreSeen(t *testing.T) { onEach(t, testUnlistedLogsAreSeen) }

func testUnlistedLogsAreSeen(t *testing.T, e engine) {
	s, place := e.openNew(t)
	mustAppend(t, s)
	db := e.beside(t, place)
	for _, seq := range []string{"-1", "5 * 281474976710656", "5 * 281474976710656 + 7", "9223372036854775807"} {
		execute(t, db, `INSERT INTO audit_entries SELECT `+seq+`, at, kind, ticket, tenant, body, body_sha256, hashes FROM audit_entries WHERE seq = 0`)
	}
	execute(t, db, `INSERT INTO audit_checkpoints (size, root, at, spki, note) SELECT 3 * 281474976710656, hashes, 0, hashes, '' FROM audit_entries WHERE seq = 0`)
	all, err := s.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, []audit.LogInfo{
		{Number: -1, Unlisted: true}, {}, {Number: 3, Unlisted: true}, {Number: 5, Unlisted: true}, {Number: 32767, Unlisted: true},
	}, all)
	for number, size := range map[int]uint64{0: 1, 3: 0, 5: 8, 32767: 1 << 48, 7: 0} {
		if got, err := s.Log(number).Size(t.Context()); err != nil || got != size {
			t.Errorf("log %d has %d entries, want %d (%v)", number, got, size, err)
		}
	}
	rows, err := s.Log(5).Rows(t.Context(), 1, 9)
	if err != nil || len(rows) != 1 || rows[0].Seq != 7 {
		t.Errorf("%v, %v", rows, err)
	}
	for _, from := range []uint64{1, 1 << 48, 1 << 61} { // what lies beyond is another log's
		if rows, err := s.Log(0).Rows(t.Context(), from, 9); err != nil || len(rows) != 0 {
			t.Errorf("from %d: %v, %v", from, rows, err)
		}
	}
}
