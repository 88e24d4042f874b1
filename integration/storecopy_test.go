package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// moving is a development directory whose service has stopped, and a PostgreSQL database that
// its configuration names from now on.
type moving struct {
	t   *testing.T
	dir string
	dsn string
}

// moveToPostgres has the directory's configuration name a new PostgreSQL database.
func moveToPostgres(t *testing.T, dir string) *moving {
	t.Helper()
	server, err := pgtest.Start("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	m := &moving{t: t, dir: dir}
	if m.dsn, err = server.NewDatabase(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mintmark.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "  sqlite: mintmark.db\n", "  postgres: {dsnFile: dsn}\ndataDir: .\n", 1)
	if text == string(b) {
		t.Fatalf("the configuration names no SQLite database:\n%s", b)
	}
	err = errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "dsn"), []byte(m.dsn), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// mintmark runs a command with the configuration and requires how it ends, and what it says.
func (m *moving) mintmark(status int, say string, args ...string) string {
	m.t.Helper()
	c := briefly(append(args, "--config", filepath.Join(m.dir, "mintmark.yaml"))...)
	out, _ := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != status || !strings.Contains(string(out), say) {
		m.t.Fatalf("mintmark %s: status %d, want %d and %q\n%s", strings.Join(args, " "), got, status, say, out)
	}
	return string(out)
}

// serve runs mintmark serve with the configuration until it is ready.
func (m *moving) serve() *server {
	m.t.Helper()
	return startServe(m.t, m.dir, "")
}

func (m *moving) copyArgs() []string {
	return []string{"store", "copy", "--from", filepath.Join(m.dir, "mintmark.db")}
}

// connect is a connection beside the copy.
func (m *moving) connect() *pgx.Conn {
	m.t.Helper()
	c, err := pgx.Connect(m.t.Context(), m.dsn)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// killedAt begins a copy, kills it when it waits for the lock that a text takes, and lets go of
// the lock.
func (m *moving) killedAt(lock string) {
	m.t.Helper()
	holder, watcher := m.connect(), m.connect()
	defer func() { _ = watcher.Close(context.Background()) }()
	for _, text := range []string{"BEGIN", lock} {
		if _, err := holder.Exec(m.t.Context(), text); err != nil {
			m.t.Fatal(err)
		}
	}
	s := process(m.t, nil, append(m.copyArgs(), "--config", filepath.Join(m.dir, "mintmark.yaml"))...)
	s.await(func() bool {
		var waiting bool
		if err := watcher.QueryRow(m.t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)`).Scan(&waiting); err != nil {
			m.t.Fatal(err)
		}
		return waiting
	})
	s.kill()
	if err := holder.Close(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	// PostgreSQL notices the end of a client when it next has something for it: until then the
	// copy has its locks.
	eventually(m.t, patience, func() error {
		var others int
		err := watcher.QueryRow(m.t.Context(), `SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&others)
		if err == nil && others != 0 {
			err = fmt.Errorf("%d sessions are open", others)
		}
		return err
	})
	m.mintmark(5, "run mintmark store copy again", "serve")
}

// A service moves from SQLite to PostgreSQL, its copy killed in the middle of a batch, between
// two tables and at the very end; then it serves on, with the same log and what was used.
func TestStoreCopyGoesOnAfterKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dev := start(t, dir, nil, nil)
	dev.mustSeal(3)
	used := dev.newRequest()
	if a := dev.mustPost(used); a.status != http.StatusOK {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	dev.stop()
	entries := dev.size()
	registrations(t, filepath.Join(dir, "mintmark.db"), 5000)
	m := moveToPostgres(t, dir)

	m.mintmark(1, "the database is version 0", "migrate", "status")
	m.mintmark(0, "the schema is version", "migrate", "up")
	m.mintmark(0, "taken", "migrate", "status")
	c := m.connect()
	// The copy of one row in the second batch waits for this lock.
	_, err := c.Exec(t.Context(), `CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$;
		CREATE TRIGGER waits BEFORE INSERT ON pass_registrations FOR EACH ROW WHEN (NEW.renewed_at = 3000) EXECUTE FUNCTION waits()`)
	if err := errors.Join(err, c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	m.killedAt(`SELECT pg_advisory_lock(4711)`)
	m.killedAt(`LOCK TABLE wallet_tokens IN ACCESS EXCLUSIVE MODE`)
	m.killedAt(`LOCK TABLE store_copy IN ACCESS SHARE MODE`)
	m.mintmark(0, "are the same on both sides", m.copyArgs()...)
	m.mintmark(5, "database is not empty", m.copyArgs()...)

	whole := fmt.Sprintf("entries      %d (0 expired)", entries)
	if out := m.mintmark(0, "the log is whole", "audit", "verify"); !strings.Contains(out, whole) {
		t.Errorf("verified another log than one with %d entries:\n%s", entries, out)
	}
	s := m.serve().like(dev)
	if a := s.mustPost(used); a.status != http.StatusConflict {
		t.Errorf("a nonce that was used before the move: %d: %s", a.status, a.body)
	}
	s.mustSeal(2)
	m.mintmark(5, "another process writes", m.copyArgs()...)
	s.stop()
	m.mintmark(0, "the log is whole", "audit", "verify")
}

// registrations adds devices to a database.
func registrations(t *testing.T, path string, n int) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO pass_registrations (device, pass, push_token, client, renewed_at, stamp)
		SELECT CAST(printf('%08d', i) AS BLOB), 1, 'push ' || i, 'apple', i, i FROM n`, n)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A database that another release made is refused by serve with both versions and, if it can
// be brought up, with the command; nothing is done to it.
func TestServeRefusesASchemaThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir, nil, nil).stop()
	m := moveToPostgres(t, dir)
	m.serve().stop() // an empty one is made
	c := m.connect()
	defer func() { _ = c.Close(context.Background()) }()
	for _, tc := range []struct{ change, say, undo string }{
		{`INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, TRUE)`, "its schema is version 4711, the program's is version ", `DELETE FROM goose_db_version WHERE version_id = 4711`},
		{`DELETE FROM goose_db_version WHERE version_id = 14`, "run mintmark migrate up", ""},
	} {
		if _, err := c.Exec(t.Context(), tc.change); err != nil {
			t.Fatal(err)
		}
		m.mintmark(5, tc.say, "serve")
		if m.mintmark(1, "version ", "migrate", "status"); tc.undo == "" {
			break
		}
		if _, err := c.Exec(t.Context(), tc.undo); err != nil {
			t.Fatal(err)
		}
	}
	// A replica may serve while another process brings the schema up.
	if _, err := c.Exec(t.Context(), `DROP TABLE changes`); err != nil {
		t.Fatal(err)
	}
	m.mintmark(0, "1 steps were pending", "migrate", "up")
	m.serve()
	m.mintmark(0, "0 steps were pending", "migrate", "up")
}
