package store_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

const environment = "test"

// noon is when everything happens.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func sqliteDSN(path string) string {
	return (&url.URL{Scheme: "file", Path: path}).String() + "?_busy_timeout=5000"
}

func execute(t testing.TB, db *sql.DB, text string) {
	t.Helper()
	if _, err := db.Exec(text); err != nil {
		t.Fatal(err)
	}
}

// entry is an entry of the log with this body.
func entry(body string) audit.Entry {
	return audit.Entry{At: noon, Kind: audit.KindIntent, Ticket: "ticket", Tenant: "bank", Body: []byte(body)}
}

func appendEntry(t testing.TB, s *opened, changes ...record.Change) error {
	t.Helper()
	return s.Append(context.Background(), entry(`{}`), changes)
}

func mustAppend(t testing.TB, s *opened, changes ...record.Change) {
	t.Helper()
	if err := appendEntry(t, s, changes...); err != nil {
		t.Fatal(err)
	}
}

func entries(t testing.TB, s *opened) []audit.Entry {
	t.Helper()
	all, err := s.Read(context.Background(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// requireUnavailable requires an error that says when to try again, and says nothing
// that the database driver said.
func requireUnavailable(t testing.TB, err error) {
	t.Helper()
	var later interface{ RetryAfter() time.Duration }
	if !errors.As(err, &later) || later.RetryAfter() <= 0 {
		t.Fatalf("error %v has no RetryAfter", err)
	}
	if text := err.Error(); text != "audit log: caller is gone" && (!strings.HasPrefix(text, "database: ") || !strings.HasSuffix(text, " failed")) {
		t.Errorf("error text %q says more than what was being done", text)
	}
}

func TestDatabaseKeepsWhatWasCommittedWhenOpenedAgain(t *testing.T) {
	onEach(t, testDatabaseKeepsWhatWasCommittedWhenOpenedAgain)
}

func testDatabaseKeepsWhatWasCommittedWhenOpenedAgain(t *testing.T, e engine) {
	path := e.newPlace(t)
	card := provisioning.CardRow{
		Owner: provisioning.Owner{Tenant: "bank", Issuer: "https://issuer", Subject: "user"}, ID: "row-1",
		Lookup: []byte("lookup"), Key: "vault", IV: []byte("iv"), Sealed: []byte("sealed"), Created: noon,
	}
	claim := newClaim("nonce", noon, time.Minute)
	var before []audit.Entry
	for i := range 3 { // made, migrated, and twice opened again
		db, err := e.open(context.Background(), path, environment)
		if err != nil {
			t.Fatal(err)
		}
		s := withWriter(db)
		if err := s.Ping(context.Background()); err != nil {
			t.Error(err)
		}
		if i == 0 {
			mustAppend(t, s, card, claim)
			mustAppend(t, s, provisioning.NonceEnd{Claim: *claim, Used: true})
			before = entries(t, s)
		}
		if diff := cmp.Diff(before, entries(t, s)); diff != "" {
			t.Errorf("opening %d: %s", i, diff)
		}
		if got, err := s.FindOnlyCard(context.Background(), "bank", []byte("lookup")); err != nil || got.ID != "row-1" {
			t.Errorf("opening %d: card %+v, %v", i, got, err)
		}
		if err := appendTo(s, newClaim("nonce", noon.Add(time.Hour), time.Minute)); !errors.Is(err, provisioning.ErrNonceUsed) {
			t.Errorf("opening %d: used nonce gives %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func appendTo(s *opened, changes ...record.Change) error {
	return s.Append(context.Background(), entry(`{}`), changes)
}

func TestDatabaseOfAnotherEnvironmentIsRefused(t *testing.T) {
	onEach(t, testDatabaseOfAnotherEnvironmentIsRefused)
}

func testDatabaseOfAnotherEnvironmentIsRefused(t *testing.T, e engine) {
	path := e.newPlace(t)
	s, err := e.open(context.Background(), path, "production")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the refusal does not stamp it anew
		s, err := e.open(context.Background(), path, "development")
		if s != nil || !errors.Is(err, store.ErrStamp) {
			t.Fatalf("opened %v with error %v, want ErrStamp", s, err)
		}
		for _, say := range []string{"production", "development"} {
			if !strings.Contains(err.Error(), say) {
				t.Errorf("refusal %q does not name %s", err, say)
			}
		}
	}
	if s, err = e.open(context.Background(), path, "production"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseIsReadableByItsOwnerAlone(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"new": func(string) error { return nil },
		"left readable by all": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mintmark.db")
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, engines[0].openAt(t, path))
			files, err := filepath.Glob(path + "*")
			if err != nil || len(files) < 2 { // the database and its log
				t.Fatalf("files %v, %v", files, err)
			}
			for _, f := range files {
				info, err := os.Stat(f)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v", filepath.Base(f), info.Mode().Perm())
				}
			}
		})
	}
}

func TestDatabaseOpensUnderAnyName(t *testing.T) {
	for _, name := range []string{"plain.db", "with space.db", "with?question.db", "with%41percent.db", "with#hash.db", "ünïcode.db"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			mustAppend(t, engines[0].openAt(t, path))
			if info, err := os.Stat(path); err != nil || info.Size() == 0 {
				t.Errorf("the database is not at %s: %v", path, err)
			}
		})
	}
}

func TestDatabaseThatCannotBeOpenedIsAnError(t *testing.T) {
	dir := t.TempDir()
	noDatabase := filepath.Join(dir, "no-database.db")
	if err := os.WriteFile(noDatabase, []byte(strings.Repeat("this is no SQLite database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"another format":    noDatabase,
		"a directory":       dir,
		"missing directory": filepath.Join(dir, "missing", "mintmark.db"),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(context.Background(), path, environment)
			if err == nil || s != nil {
				t.Fatalf("opened %v, error %v", s, err)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
		})
	}
	t.Run("context ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if s, err := store.Open(ctx, filepath.Join(dir, "new.db"), environment); s != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("opened %v, error %v", s, err)
		}
	})
}

// everything is each thing that a store can be asked for.
var everything = map[string]func(context.Context, *opened) error{
	"ping":   func(ctx context.Context, s *opened) error { return s.Ping(ctx) },
	"append": func(ctx context.Context, s *opened) error { return s.Append(ctx, entry(`{}`), nil) },
	"claim": func(ctx context.Context, s *opened) error {
		return s.Append(ctx, entry(`{}`), []record.Change{newClaim("n", noon, time.Minute)})
	},
	"claim a token": func(ctx context.Context, s *opened) error {
		return s.Append(ctx, entry(`{}`), []record.Change{newUse("t", noon, time.Minute)})
	},
	"count a token": func(ctx context.Context, s *opened) error {
		return s.Append(ctx, entry(`{}`), []record.Change{use("a", "2026-11-22", 1)})
	},
	"read": func(ctx context.Context, s *opened) error {
		_, err := s.Read(ctx, 0, 10)
		return err
	},
	"find card": func(ctx context.Context, s *opened) error {
		_, err := s.FindOnlyCard(ctx, "bank", []byte("lookup"))
		return err
	},
}

func TestClosedDatabaseIsAMatterOfAvailability(t *testing.T) {
	onEach(t, testClosedDatabaseIsAMatterOfAvailability)
}

func testClosedDatabaseIsAMatterOfAvailability(t *testing.T, e engine) {
	for name, ask := range everything {
		t.Run(name, func(t *testing.T) {
			s, _ := e.openNew(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			requireUnavailable(t, ask(context.Background(), s))
		})
	}
}

func TestCallerWhoIsGoneGetsHisOwnError(t *testing.T) { onEach(t, testCallerWhoIsGoneGetsHisOwnError) }

func testCallerWhoIsGoneGetsHisOwnError(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, ask := range everything {
		t.Run(name, func(t *testing.T) {
			err := ask(ctx, s)
			requireUnavailable(t, err)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v does not tell that the caller is gone", errors.Unwrap(err))
			}
		})
	}
	if all := entries(t, s); len(all) != 0 {
		t.Errorf("%d entries stand in the log", len(all))
	}
}

// An operator's tool may write to the file while we do: we wait for it.
func TestWriterWaitsForAnotherProcess(t *testing.T) {
	s, path := engines[0].openNew(t)
	if waits, err := store.AskWriter(s.Store, "PRAGMA busy_timeout"); err != nil || waits < 1000 {
		t.Errorf("it waits for %d ms, %v", waits, err)
	}
	if err := store.OnWriter(s.Store, "PRAGMA busy_timeout = 60000"); err != nil { // this test may stand still as long
		t.Fatal(err)
	}
	other, err := engines[0].beside(t, path).Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	do := func(text string) {
		t.Helper()
		if _, err := other.ExecContext(context.Background(), text); err != nil {
			t.Fatal(err)
		}
	}
	do("BEGIN IMMEDIATE")
	do("INSERT INTO stamp VALUES ('held', 'by another')")
	if all := entries(t, s); len(all) != 0 { // readers do not wait
		t.Errorf("%d entries", len(all))
	}
	written := make(chan error, 1)
	go func() { written <- appendTo(s) }()
	do("ROLLBACK")
	if err := <-written; err != nil {
		t.Error(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if all := entries(t, s); len(all) != 1 {
		t.Errorf("%d entries, want one", len(all))
	}
}

// Connections go on writing to a file that has lost its name, be it the database or its
// write-ahead log alone. What is written there does not last, and is no record.
func TestFileThatWasReplacedIsNoRecord(t *testing.T) {
	replaced := func(path string) error {
		return errors.Join(os.WriteFile(path+"-other", nil, 0o600), os.Rename(path+"-other", path))
	}
	for name, fault := range map[string]struct {
		file    string
		replace func(path string) error
	}{
		"removed": {"", os.Remove}, "replaced": {"", replaced},
		"write-ahead log removed": {"-wal", os.Remove}, "write-ahead log replaced": {"-wal", replaced},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := engines[0].openNew(t)
			mustAppend(t, s)
			path, replace := path+fault.file, fault.replace
			if err := os.Link(path, path+"-kept"); err != nil {
				t.Fatal(err)
			}
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := appendEntry(t, s); !errors.Is(err, audit.ErrChanged) {
					t.Errorf("append: %v, want ErrChanged", err)
				}
				if _, err := s.Head(context.Background()); !errors.Is(err, audit.ErrChanged) {
					t.Errorf("head: %v, want ErrChanged", err)
				}
			}
			if err := os.Rename(path+"-kept", path); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s)
		})
	}
}

// A database has one lock, by whatever name it is opened.
func TestDatabaseUnderAnotherNameIsTaken(t *testing.T) {
	_, path := engines[0].openNew(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if s, err := store.Open(context.Background(), link, environment); s != nil || !errors.Is(err, store.ErrTaken) {
		t.Errorf("opened %v with %v, want ErrTaken", s, err)
	}
}

// A program that was being started when a database was closed has the descriptors of
// before, for a moment.
func TestClosedDatabaseIsFreeBesideAProgramThatStarts(t *testing.T) {
	s, path := engines[0].openNew(t)
	inherited := descriptorOf(t, path+"-writer")
	defer func() { _ = unix.Close(inherited) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	engines[0].openAt(t, path)
}

// descriptorOf gives another descriptor of a file that this process has open, such as a
// fork makes.
func descriptorOf(t *testing.T, path string) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	for _, d := range open {
		fd, err := strconv.Atoi(d.Name())
		if err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink("/proc/self/fd/" + d.Name()); err != nil || target != path {
			continue
		}
		again, err := unix.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	t.Fatalf("%s is not open", path)
	return 0
}
