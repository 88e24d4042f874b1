package approval_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/store"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// notes is a kind of change that keeps lines: a document is one line of text, without blanks at
// its ends. One that begins with an exclamation mark cannot be made.
type notes struct {
	mu   sync.Mutex // guards kept
	kept []string
}

func (*notes) Name() string { return "note" }

func (*notes) Canonical(_ context.Context, document []byte) ([]byte, error) {
	text := strings.TrimSpace(string(document))
	if text == "" {
		return nil, &approval.DocumentError{What: "it is empty"}
	}
	return []byte(text), nil
}

var errNote = errors.New("the note cannot be kept")

func (n *notes) Apply(_ context.Context, document []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if strings.HasPrefix(string(document), "!") {
		return errNote
	}
	n.kept = append(n.kept, string(document))
	return nil
}

func (n *notes) all() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.kept, ", ")
}

// A world is dual control over a real database and its log, with a clock.
type world struct {
	*testing.T
	*approval.Service
	notes notes
	log   *audit.Log
	store *store.Store
	path  string
	clock *clocktest.Clock
}

func newWorld(t *testing.T, separation approval.Separation) *world {
	t.Helper()
	w := &world{T: t, clock: clocktest.New(start), path: filepath.Join(t.TempDir(), "m.db")}
	var err error
	if w.store, err = store.Open(context.Background(), w.path, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	w.log = audit.New(w.store, w.clock.Now)
	w.Service, err = approval.New(approval.Config{
		Recorder: w.log, Store: w.store, Kinds: []approval.Kind{&w.notes}, Now: w.clock.Now,
		Within: time.Hour, Lease: time.Minute, Separation: separation,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func person(iss, sub string) approval.Caller {
	return approval.Caller{Person: approval.Person{Tenant: "bank", Issuer: iss, Subject: sub}, RequestID: "request"}
}

var (
	alice = person("console-a", "alice")
	bob   = person("console-b", "bob")
)

func (w *world) propose(text string) approval.Change {
	w.Helper()
	c, err := w.Propose(context.Background(), alice, "note", []byte(text))
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) state(id string) approval.State {
	w.Helper()
	c, err := w.Change(context.Background(), id)
	if err != nil {
		w.Fatal(err)
	}
	return c.State
}

// entries gives kind, operation, person and outcome of every entry.
func (w *world) entries() string {
	w.Helper()
	var all []string
	rows, err := w.store.Rows(context.Background(), 0, 100)
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range rows {
		body := string(r.Body)
		for _, what := range []string{"changes.propose", "changes.approve", "changes.reject", "alice", "bob", "done", "failed"} {
			if strings.Contains(body, `"`+what+`"`) {
				all = append(all, what)
			}
		}
		all = append(all, "/")
	}
	return strings.Join(all, " ")
}

// One proposes, another approves, and only then is it made; both are on record.
func TestChangeIsMadeByTwo(t *testing.T) {
	w := newWorld(t, approval.ByClient)
	c := w.propose(" lower the limit ")
	if c.State != approval.Open || string(c.Document) != "lower the limit" || w.notes.all() != "" {
		t.Errorf("proposed %+v, made %q", c, w.notes.all())
	}
	done, err := w.Approve(context.Background(), bob, c.ID, c.SHA256)
	if err != nil || done.State != approval.Applied || done.Decider != bob.Person {
		t.Errorf("approved %+v, %v", done, err)
	}
	if got, err := w.Change(context.Background(), c.ID); err != nil || got.State != approval.Applied || got.Decider != bob.Person || got.Proposer != alice.Person {
		t.Errorf("kept %+v, %v", got, err)
	}
	if w.notes.all() != "lower the limit" {
		t.Errorf("made %q", w.notes.all())
	}
	if got, want := w.entries(), "changes.propose alice done / changes.approve bob / done /"; got != want {
		t.Errorf("on record: %s", got)
	}
	if _, err := w.Approve(context.Background(), bob, c.ID, c.SHA256); !errors.Is(err, approval.ErrNotOpen) {
		t.Errorf("approved twice: %v", err)
	}
}

// Whoever is refused is on record, and nothing is made.
func TestApprovalsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		separation approval.Separation
		who        approval.Caller
		digest     string // "" for the right one
		wait       time.Duration
		want       error
	}{
		"the proposer":                          {approval.ByClient, alice, "", 0, approval.ErrSamePerson},
		"the proposer's other client":           {approval.ByClient, person("console-b", "alice"), "", 0, approval.ErrSamePerson},
		"another name at the proposer's client": {approval.ByClient, person("console-a", "bob"), "", 0, approval.ErrSamePerson},
		"the proposer, by subject":              {approval.BySubject, alice, "", 0, approval.ErrSamePerson},
		"nobody":                                {approval.ByClient, person("console-b", ""), "", 0, approval.ErrSamePerson},
		"a name that cannot stand on record":    {approval.ByClient, person("console-b", "5204245250001488"), "", 0, approval.ErrSamePerson},
		"another document":                      {approval.ByClient, bob, strings.Repeat("0", 64), 0, approval.ErrOtherDocument},
		"too late":                              {approval.ByClient, bob, "", time.Hour, approval.ErrNotOpen},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.separation)
			change := w.propose("x")
			w.clock.Add(c.wait)
			digest := c.digest
			if digest == "" {
				digest = change.SHA256
			}
			if _, err := w.Approve(context.Background(), c.who, change.ID, digest); !errors.Is(err, c.want) {
				t.Errorf("answered %v", err)
			}
			if w.notes.all() != "" {
				t.Error("it was made")
			}
			if got := w.entries(); !strings.Contains(got, "changes.approve") {
				t.Errorf("on record: %s", got)
			}
		})
	}
}

// A document that was put in the place of the proposed one, under its digest, is not made.
func TestOtherDocumentUnderTheSameDigestIsNotMade(t *testing.T) {
	w := newWorld(t, approval.ByClient)
	change := w.propose("x")
	db, err := sql.Open("sqlite3", w.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`UPDATE changes SET document = CAST('y' AS BLOB)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(context.Background(), bob, change.ID, change.SHA256); !errors.Is(err, approval.ErrOtherDocument) || w.notes.all() != "" {
		t.Errorf("answered %v, made %q", err, w.notes.all())
	}
}

// Where a client vouches for its subjects, two of them are two people.
func TestSubjectsOfOneClientAreTwoPeopleIfItIsSaid(t *testing.T) {
	w := newWorld(t, approval.BySubject)
	c := w.propose("x")
	if _, err := w.Approve(context.Background(), person("console-a", "bob"), c.ID, c.SHA256); err != nil || w.notes.all() != "x" {
		t.Errorf("%v, made %q", err, w.notes.all())
	}
}

// A change that cannot be made stays open, on record; one that was rejected does not.
func TestFailedAndRejectedChanges(t *testing.T) {
	w := newWorld(t, approval.ByClient)
	bad := w.propose("! no")
	if _, err := w.Approve(context.Background(), bob, bad.ID, bad.SHA256); !errors.Is(err, errNote) {
		t.Errorf("answered %v", err)
	}
	if got := w.state(bad.ID); got != approval.Open || !strings.Contains(w.entries(), "failed") {
		t.Errorf("it is %s; on record: %s", got, w.entries())
	}
	if _, err := w.Reject(context.Background(), alice, bad.ID); err != nil || w.state(bad.ID) != approval.Rejected {
		t.Errorf("rejected: %v, it is %s", err, w.state(bad.ID))
	}
	if _, err := w.Approve(context.Background(), bob, bad.ID, bad.SHA256); !errors.Is(err, approval.ErrNotOpen) {
		t.Errorf("approved after that: %v", err)
	}
	if _, err := w.Reject(context.Background(), bob, bad.ID); !errors.Is(err, approval.ErrNotOpen) {
		t.Errorf("rejected twice: %v", err)
	}
}

// A crash while a change is made leaves a lease; when that has run out the change is open again,
// and the one who comes late with the old claim ends nothing.
func TestLeaseOfAnApprovalRunsOut(t *testing.T) {
	w := newWorld(t, approval.ByClient)
	c := w.propose("x")
	claim := &approval.Claim{ID: c.ID, SHA256: c.SHA256, By: bob.Person, Now: w.clock.Now(), Until: w.clock.Now().Add(time.Minute)}
	ticket, err := w.log.Begin(context.Background(), record.Intent{Operation: record.ApproveChange}, claim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(context.Background(), bob, c.ID, c.SHA256); !errors.Is(err, approval.ErrNotOpen) || w.state(c.ID) != approval.Applying {
		t.Errorf("taken under the lease: %v, it is %s", err, w.state(c.ID))
	}
	w.clock.Add(time.Minute)
	if got := w.state(c.ID); got != approval.Open {
		t.Errorf("it is %s", got)
	}
	if _, err := w.Approve(context.Background(), bob, c.ID, c.SHA256); err != nil {
		t.Error(err)
	}
	if _, err := w.log.Conclude(context.Background(), ticket, record.Done(), claim.End(false)); !errors.Is(err, approval.ErrNotOpen) {
		t.Errorf("the old claim was ended: %v", err)
	}
}

// Of any number of approvals at once one makes the change.
func TestOneOfManyApprovalsWins(t *testing.T) {
	w := newWorld(t, approval.ByClient)
	c := w.propose("x")
	var won sync.Map
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := w.Approve(context.Background(), bob, c.ID, c.SHA256); err == nil {
				won.Store(i, true)
			} else if !errors.Is(err, approval.ErrNotOpen) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	won.Range(func(any, any) bool { n++; return true })
	if n != 1 || w.notes.all() != "x" {
		t.Errorf("%d won, made %q", n, w.notes.all())
	}
}

// What cannot be proposed is not.
func TestProposalsThatAreRefused(t *testing.T) {
	w := newWorld(t, approval.ByClient)
	var document *approval.DocumentError
	if _, err := w.Propose(context.Background(), alice, "note", []byte(" ")); !errors.As(err, &document) {
		t.Errorf("an empty one: %v", err)
	}
	if _, err := w.Propose(context.Background(), alice, "note", make([]byte, approval.MaxDocument+1)); !errors.As(err, &document) {
		t.Errorf("one too long: %v", err)
	}
	if _, err := w.Propose(context.Background(), alice, "limit", []byte("x")); !errors.Is(err, approval.ErrKind) {
		t.Errorf("of a kind that is none: %v", err)
	}
	if all, err := w.Changes(context.Background(), 10); err != nil || len(all) != 0 {
		t.Errorf("there are %d, %v", len(all), err)
	}
	if _, err := w.Change(context.Background(), "x"); !errors.Is(err, approval.ErrUnknown) {
		t.Errorf("one that is not there: %v", err)
	}
}

// Whoever writes the database can put a change there, or another proposer; the log's verification
// says so.
func TestChangesPutIntoTheDatabaseAreFound(t *testing.T) {
	for name, c := range map[string]struct{ write, fault string }{
		"untouched":                   {`SELECT 1`, ""},
		"another proposer":            {`UPDATE changes SET proposer_sub = 'mallory'`, "proposed change"},
		"another document's digest":   {`UPDATE changes SET sha256 = 'x'`, "proposed change"},
		"applied without an approval": {`UPDATE changes SET state = 'applied', decider_sub = 'bob', decided_at = 1 WHERE state = 'open'`, "applied change"},
		"a proposal that nobody made": {`INSERT INTO changes SELECT 'new', kind, document, sha256, proposer_tenant, proposer_iss, proposer_sub, proposed_at, expires_at, 'open', '', '', '', 0, 0, 0 FROM changes LIMIT 1`, "proposed change new"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, approval.ByClient)
			done := w.propose("one")
			if _, err := w.Approve(context.Background(), bob, done.ID, done.SHA256); err != nil {
				t.Fatal(err)
			}
			w.propose("two")
			db, err := sql.Open("sqlite3", w.path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(c.write); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			report, err := audit.Verify(context.Background(), audit.Verification{Source: w.store, Rows: w.store, Origin: "x"})
			if err != nil {
				t.Fatal(err)
			}
			var faults []string
			for _, f := range report.Faults {
				if !strings.Contains(f.What, "nothing is signed") { // there is no checkpointer here
					faults = append(faults, f.What)
				}
			}
			if got := strings.Join(faults, "; "); (got == "") != (c.fault == "") || !strings.Contains(got, c.fault) {
				t.Errorf("faults: %s", got)
			}
		})
	}
}
