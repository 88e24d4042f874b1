package store_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/store/pgtest"
)

// What a constraint refuses stands in a PostgreSQL server's log with its values. None of
// ours gets so far.
func TestServerLogHasNoValues(t *testing.T) {
	e := engines[1]
	s, _ := e.openNew(t)
	const canary = "canary-7f3a9c"
	claim := func() *provisioning.NonceClaim {
		c := newClaim(canary, noon, time.Minute)
		c.Tenant = canary
		return c
	}
	mustAppend(t, s, claim(), newCard(canary, canary, canary))
	_ = appendTo(s, claim())
	_ = appendTo(s, newCard(canary, "another", canary))
	_ = appendTo(s, provisioning.CardRow{Owner: provisioning.Owner{Tenant: canary}, ID: canary})
	b, err := os.ReadFile(pgtest.Shared(t).LogFile())
	if err != nil || !strings.Contains(string(b), "ready to accept connections") {
		t.Fatalf("the server's log: %v", err)
	}
	if strings.Contains(string(b), canary) || strings.Contains(string(b), hex.EncodeToString([]byte(canary))) {
		t.Errorf("the server's log has values:\n%s", b)
	}
}

// A database made before there was a tree gets one when it is migrated, and who waits is told
// how far it is.
func TestOldLogGrowsATree(t *testing.T) { onEach(t, testOldLogGrowsATree) }

func testOldLogGrowsATree(t *testing.T, e engine) {
	place := e.newPlace(t)
	db, err := e.open(context.Background(), place, environment)
	if err != nil {
		t.Fatal(err)
	}
	s := withWriter(db)
	for range 11 {
		mustAppend(t, s)
	}
	before, err := s.Rows(context.Background(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	beside := e.beside(t, place)
	undoAfter(t, beside, 4)
	for _, text := range []string{
		"UPDATE audit_entries SET hashes = NULL, body_sha256 = NULL",
		"DELETE FROM goose_db_version WHERE version_id >= 4",
	} {
		execute(t, beside, text)
	}
	var counted []uint64
	err = e.migrate(context.Background(), place, environment, func(_ store.Step, done, of uint64) {
		if of != 0 {
			counted = append(counted, done, of)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, []uint64{1, 11, 11, 11}, counted)
	again := e.openAt(t, place)
	after, err := again.Rows(context.Background(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	same(t, before, after)
	mustAppend(t, again)
}

// undoAfter takes back the migrations after a version.
func undoAfter(t *testing.T, db *sql.DB, version int) {
	t.Helper()
	names, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Backward(names) {
		number, _, _ := strings.Cut(filepath.Base(name), "_")
		if n, err := strconv.Atoi(number); err != nil || n <= version {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, down, _ := strings.Cut(string(text), "-- +goose Down")
		for _, statement := range strings.Split(down, ";") {
			if strings.TrimSpace(statement) != "" {
				execute(t, db, statement)
			}
		}
	}
}

// One request's refusal undoes its own changes and nobody else's, when many are committed
// together.
func TestRefusedChangeUndoesItsOwnAlone(t *testing.T) { onEach(t, testRefusedChangeUndoesItsOwnAlone) }

func testRefusedChangeUndoesItsOwnAlone(t *testing.T, e engine) {
	s, place := e.openNew(t)
	mustAppend(t, s, newClaim("taken", noon, time.Minute))
	batch := []*audit.Append{
		{Entry: entry(`{"n":1}`), Changes: changes(newClaim("a", noon, time.Minute), newCard("bank", "a", "a"))},
		{Entry: entry(`{"n":2}`), Changes: changes(newCard("bank", "b", "b"), newClaim("taken", noon, time.Minute))},
		{Entry: entry(`{"n":3}`)},
		{Entry: entry(`{"n":4}`), Changes: changes(newCard("bank", "c", "a"))}, // the id of another
		{Entry: entry(`{"n":5}`), Changes: changes(newCard("bank", "d", "d"))},
	}
	errs := commitTogether(t, s, batch)
	for i, refused := range []bool{false, true, false, true, false} {
		if (errs[i] != nil) != refused {
			t.Errorf("append %d: %v", i+1, errs[i])
		}
	}
	if !errors.Is(errs[1], provisioning.ErrNonceUsed) {
		t.Errorf("append 2: %v, want ErrNonceUsed", errs[1])
	}
	var bodies []string
	for _, got := range entries(t, s)[1:] {
		bodies = append(bodies, string(got.Body))
	}
	same(t, []string{`{"n":1}`, `{"n":3}`, `{"n":5}`}, bodies)
	same(t, []string{"a", "d"}, rowsOf(t, e.beside(t, place), "SELECT id FROM cards ORDER BY 1"))
}
