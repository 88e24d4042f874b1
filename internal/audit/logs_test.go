package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", for what only an operator does

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// fleet is processes with a log each on one PostgreSQL, which feed one file anchor.
type fleet struct {
	*testing.T
	dsn    string
	anchor *audit.FileAnchor
	each   map[string]*scene // by the name of its log
}

// newFleet has processes a and b live for a while: two cards and a checkpoint each.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{T: t, dsn: pgtest.NewDatabase(t), anchor: &audit.FileAnchor{Path: filepath.Join(t.TempDir(), "anchor")}, each: map[string]*scene{}}
	sign := newSigner(t)
	for i, name := range []string{"a", "b"} {
		f.each[name] = &scene{TB: t, sign: sign, clock: clocktest.New(kept), nonces: 100 * i}
		if err := f.open(name); err != nil {
			t.Fatal(err)
		}
		f.each[name].cards(2)
		f.keep(name)
	}
	t.Cleanup(func() {
		for _, s := range f.each {
			_ = s.store.Close()
		}
	})
	return f
}

// open starts a process with a log of that name, in the place of the one before.
func (f *fleet) open(name string) error {
	f.Helper()
	s := f.each[name]
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			f.Fatal(err)
		}
	}
	var err error
	if s.store, err = store.OpenPostgres(context.Background(), f.dsn, "test", name); err != nil {
		f.Fatal(err)
	}
	own, err := s.store.OwnLog(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	s.log = audit.New(s.store, s.clock.Now)
	s.points = audit.NewCheckpointer(s.log, audit.CheckpointConfig{
		Origin: audit.OriginOf(origin, own), Base: origin, Signer: s.sign, Store: s.store, Every: time.Hour, Strict: true,
		Anchors: []audit.Anchor{f.anchor}, Log: slog.New(slog.DiscardHandler),
	})
	return s.points.Start(context.Background())
}

// keep has the anchor keep a process's last checkpoint.
func (f *fleet) keep(name string) {
	f.Helper()
	if err := f.anchor.Keep(f.Context(), f.each[name].latest()); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) beside(texts ...string) {
	f.Helper()
	db, err := sql.Open("pgx", f.dsn)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, text := range texts {
		if _, err := db.Exec(text); err != nil {
			f.Fatalf("%s: %v", text, err)
		}
	}
}

// tampered are the tables that tests change.
var tampered = []string{"audit_entries", "audit_checkpoints", "audit_logs", "apple_nonces"}

// save keeps what is in the tables for restore.
func (f *fleet) save() {
	f.Helper()
	for _, table := range tampered {
		f.beside("CREATE SCHEMA IF NOT EXISTS keep", "CREATE TABLE keep."+table+" AS TABLE "+table)
	}
}

func (f *fleet) restore() {
	f.Helper()
	for _, table := range tampered {
		f.beside("DELETE FROM "+table, "INSERT INTO "+table+" TABLE keep."+table)
	}
}

// verify verifies all logs, against the anchor if wanted.
func (f *fleet) verify(anchored bool) audit.Reports {
	f.Helper()
	s := f.each["a"]
	v := audit.Verification{Rows: s.store, Origin: origin, Keys: [][]byte{s.sign.spki}, MaxUnsigned: time.Minute, Now: s.clock.Now()}
	if anchored {
		all, err := f.anchor.Kept()
		if err != nil {
			f.Fatal(err)
		}
		v.Anchored = map[string][]audit.Checkpoint{"file": all}
	}
	r, err := audit.VerifyAll(f.Context(), v, s.store)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// Logs 1 and 2 of a fleet begin here, and end there.
const (
	log1 = "BETWEEN 281474976710656 AND 562949953421311"
	log2 = "BETWEEN 562949953421312 AND 844424930131967"
)

// All logs are verified together, each against what anchors kept of it: the rows of one
// process's operations are explained by its own log.
func TestAllLogsAreVerifiedTogether(t *testing.T) {
	f := newFleet(t)
	r := f.verify(true)
	if faults := r.Faults(); len(faults) != 0 || len(r.Logs) != 3 {
		t.Fatalf("%d logs, faults: %v", len(r.Logs), faults)
	}
	for i, want := range []struct {
		origin   string
		entries  uint64
		anchored uint64
	}{{origin, 0, 0}, {origin + "/a", 4, 1}, {origin + "/b", 4, 1}} {
		got := r.Logs[i]
		if got.Number != i || got.Report.Origin != want.origin || got.Entries != want.entries || got.Anchored != want.anchored {
			t.Errorf("log %d: %+v, want %+v", i, got, want)
		}
	}
	// The same of an export of all.
	var out bytes.Buffer
	if err := audit.ExportAll(t.Context(), f.each["a"].store, &out); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "export")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := audit.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	exported, err := audit.VerifyAll(t.Context(), audit.Verification{Keys: [][]byte{f.each["a"].sign.spki}, Origin: origin}, file)
	if err != nil || len(exported.Faults()) != 0 || len(exported.Logs) != 3 {
		t.Fatalf("%v, %d logs, faults: %v", err, len(exported.Logs), exported.Faults())
	}
	for i, l := range exported.Logs {
		if l.Root != r.Logs[i].Root || l.Name != r.Logs[i].Name {
			t.Errorf("exported log %d: %+v, want %+v", i, l, r.Logs[i])
		}
	}
}

// Whatever is done to a log, or to all of it, is found, with the log and the entry.
func TestTamperingWithOneOfSeveralLogsIsFound(t *testing.T) {
	f := newFleet(t)
	f.save()
	for name, tc := range map[string]struct {
		tamper []string
		want   string // the first fault
		anchor bool   // needed to find it
	}{
		"an entry changed":          {[]string{`UPDATE audit_entries SET tenant = 'x' WHERE seq = 281474976710656 + 2`}, "log a, entry 2: it was changed", false},
		"its entries deleted":       {[]string{`DELETE FROM audit_entries WHERE seq ` + log2}, "log b, entry 0: missing, with all after it", false},
		"all but its listing":       {[]string{`DELETE FROM audit_entries WHERE seq ` + log2, `DELETE FROM audit_checkpoints WHERE size ` + log2}, "log b, entry 0: missing, with all after it and all checkpoints", false},
		"its listing deleted":       {[]string{`DELETE FROM audit_logs WHERE number = 1`}, "log 1, entry 0: the log is not one of those", false},
		"dropped from the middle":   {[]string{`DELETE FROM audit_entries WHERE seq ` + log1, `DELETE FROM audit_checkpoints WHERE size ` + log1, `DELETE FROM audit_logs WHERE number = 1`}, "missing: log 1, with all its entries", false},
		"dropped, with all it made": {[]string{`DELETE FROM audit_entries WHERE seq ` + log2, `DELETE FROM audit_checkpoints WHERE size ` + log2, `DELETE FROM audit_logs WHERE number = 2`, `DELETE FROM apple_nonces WHERE claim IN (SELECT claim FROM apple_nonces ORDER BY ctid DESC LIMIT 2)`}, `missing: the log "` + origin + `/b", of which anchor file has checkpoints`, true},
		"dropped, but for its rows": {[]string{`DELETE FROM audit_entries WHERE seq ` + log2, `DELETE FROM audit_checkpoints WHERE size ` + log2, `DELETE FROM audit_logs WHERE number = 2`}, "missing: used nonce", false},
		"an entry moved to another": {[]string{`DELETE FROM audit_entries WHERE seq = 562949953421312 + 3`, `UPDATE audit_entries SET seq = seq + 281474976710656 WHERE seq = 281474976710656 + 3`}, "log a, entry 3: missing, with all after it", false},
		"entries swapped": {[]string{`UPDATE audit_entries SET seq = -1 WHERE seq = 281474976710656 + 3`, `UPDATE audit_entries SET seq = 281474976710656 + 3 WHERE seq = 562949953421312 + 3`,
			`UPDATE audit_entries SET seq = 562949953421312 + 3 WHERE seq = -1`}, "log a, entry 3: ", false},
		"two logs swapped": {[]string{`UPDATE audit_entries SET seq = -seq WHERE seq ` + log1, `UPDATE audit_entries SET seq = seq - 281474976710656 WHERE seq ` + log2,
			`UPDATE audit_entries SET seq = 281474976710656 - seq WHERE seq < 0`}, "log a, entry 0: checkpoint 4 was signed for other entries", false},
		"checkpoints swapped": {[]string{`UPDATE audit_checkpoints SET size = -size WHERE size ` + log1, `UPDATE audit_checkpoints SET size = size - 281474976710656 WHERE size ` + log2,
			`UPDATE audit_checkpoints SET size = 281474976710656 - size WHERE size < 0`}, `log a, entry 3: checkpoint 4: it is of another log, "` + origin + `/b"`, false},
		"named anew":              {[]string{`UPDATE audit_logs SET name = 'c' WHERE number = 2`}, "log c, entry 0: the log is listed as", false},
		"a nonce used in both":    {[]string{`UPDATE audit_entries SET body = (SELECT body FROM audit_entries WHERE seq = 281474976710656) WHERE seq = 562949953421312`}, "log b, entry 0: its body was changed", false},
		"entries where no log is": {[]string{`INSERT INTO audit_entries SELECT seq + 9 * 281474976710656, at, kind, ticket, tenant, body, body_sha256, hashes FROM audit_entries WHERE seq = 281474976710656`}, "log 10, entry 0: the log is not one of those", false},
	} {
		t.Run(name, func(t *testing.T) {
			f.beside(tc.tamper...)
			defer f.restore()
			if tc.anchor {
				if faults := f.verify(false).Faults(); len(faults) != 0 {
					t.Errorf("found without the anchor: %v", faults)
				}
			}
			faults := f.verify(tc.anchor).Faults()
			if len(faults) == 0 || !strings.HasPrefix(faults[0], tc.want) && !(strings.HasPrefix(tc.want, "missing") && strings.Contains(strings.Join(faults, "\n"), tc.want)) {
				t.Errorf("faults %q, want %q", faults, tc.want)
			}
		})
	}
}

// A log that nobody writes stays as its process left it. What that left unsigned is no fault,
// and is signed by whoever takes the log next.
func TestOpenTailOfALogThatNobodyWrites(t *testing.T) {
	f := newFleet(t)
	b := f.each["b"]
	if err := b.card(); err != nil { // the process ends before its next checkpoint
		t.Fatal(err)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	f.each["a"].clock.Add(24 * time.Hour)
	r := f.verify(true)
	if faults := r.Faults(); len(faults) != 0 || !r.Logs[2].Tail() || r.Logs[1].Tail() {
		t.Errorf("faults %v, %+v", faults, r.Logs)
	}
	if err := f.open("b"); err != nil {
		t.Fatal(err)
	}
	if faults := f.verify(true).Faults(); len(faults) != 1 || !strings.HasPrefix(faults[0], "log b, entry 4: entries 4 to 5 are under no checkpoint") {
		t.Errorf("while somebody writes it: %v", faults)
	}
	b.step()
	if r := f.verify(true); len(r.Faults()) != 0 || r.Logs[2].Covered != 6 {
		t.Errorf("faults %v, %+v", r.Faults(), r.Logs[2])
	}
}

// Commands that write beside a service leave a few entries that nobody signs, in whatever time;
// a process leaves no such thing.
func TestLogThatCommandsWroteIsNoFault(t *testing.T) {
	f := newFleet(t)
	command := func(entries int) {
		t.Helper()
		s, err := store.OpenPostgres(t.Context(), f.dsn, "test", "c")
		if err != nil {
			t.Fatal(err)
		}
		log := audit.New(s, f.each["a"].clock.Now)
		for range entries {
			if err := log.Note(t.Context(), audit.Lifecycle{Event: "ceremony"}); err != nil {
				t.Fatal(err)
			}
			f.each["a"].clock.Add(time.Hour)
		}
		if faults := f.verify(true).Faults(); len(faults) != 1 || !strings.HasPrefix(faults[0], "log c, entry 0: nothing is signed") {
			t.Errorf("while somebody writes it: %v", faults)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	command(3)
	if r := f.verify(true); len(r.Faults()) != 0 || len(r.Logs) != 4 || !r.Logs[3].Tail() {
		t.Errorf("faults %v, %+v", r.Faults(), r.Logs)
	}
	command(62)
	if faults := f.verify(true).Faults(); len(faults) != 1 || !strings.HasPrefix(faults[0], "log c, entry 0: nothing is signed") {
		t.Errorf("more than a command writes: %v", faults)
	}
}

// A process starts beside the checkpoints of others in its anchor, and not where the anchor
// knows a log that is gone, or its own went back.
func TestStartHoldsTheLogsAgainstTheAnchor(t *testing.T) {
	f := newFleet(t)
	for _, name := range []string{"a", "b"} {
		if err := f.open(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.each["b"].cards(1)
	f.keep("b")
	if err := f.open("a"); err != nil {
		t.Error(err)
	}
	f.beside("DELETE FROM audit_entries WHERE seq = 562949953421312 + 5", "DELETE FROM audit_checkpoints WHERE size = 562949953421312 + 6")
	if err := f.open("b"); !errors.Is(err, audit.ErrChanged) {
		t.Errorf("b went back: %v", err)
	}
	f.beside("DELETE FROM audit_checkpoints WHERE size " + log1)
	if err := f.open("a"); !errors.Is(err, audit.ErrChanged) {
		t.Errorf("a lost its checkpoints: %v", err)
	}
	f = newFleet(t)
	for _, text := range []string{"audit_entries WHERE seq " + log2, "audit_checkpoints WHERE size " + log2, "audit_logs WHERE number = 2"} {
		f.beside("DELETE FROM " + text)
	}
	if err := f.open("a"); !errors.Is(err, audit.ErrChanged) || !strings.Contains(fmt.Sprint(err), origin+"/b") {
		t.Errorf("b is gone: %v", err)
	}
}

// Bodies expire by log: another's stay, and its checkpoints.
func TestRetentionIsOfOneLog(t *testing.T) {
	f := newFleet(t)
	a := f.each["a"]
	a.clock.Add(24 * time.Hour)
	if err := a.log.ExpireOlder(t.Context(), a.store, a.clock.Now()); err != nil {
		t.Fatal(err)
	}
	a.step()
	f.each["b"].clock.Add(24 * time.Hour)
	r := f.verify(true)
	if len(r.Faults()) != 0 || r.Logs[1].Expired != 4 || r.Logs[2].Expired != 0 || r.Logs[2].Checkpoints != 2 {
		t.Errorf("faults %v, %+v", r.Faults(), r.Logs)
	}
}
