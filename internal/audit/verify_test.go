package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/clocktest"
	"github.com/mintmark/mintmark/internal/record"
)

func checkpointKey(t testing.TB, s *scene) *audit.CheckpointKey {
	t.Helper()
	key, err := audit.NewCheckpointKey(origin, s.sign.spki)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// template is a log with everything in it, made once: a copy is quicker.
var template struct {
	sync.Mutex
	database []byte
	sign     *softSigner
	nonces   int
	now      time.Time
}

// lived is a log with everything in it: cards, refusals, failures, a crash, a start.
func lived(t testing.TB) *scene {
	t.Helper()
	template.Lock()
	defer template.Unlock()
	if template.database == nil {
		s := live(t)
		b, err := os.ReadFile(backup(t, s))
		if err != nil {
			t.Fatal(err)
		}
		template.database, template.sign, template.nonces, template.now = b, s.sign, s.nonces, s.clock.Now()
	}
	s := &scene{TB: t, path: filepath.Join(t.TempDir(), "mintmark.db"), sign: template.sign, nonces: template.nonces, clock: clocktest.New(template.now)}
	if err := os.WriteFile(s.path, template.database, 0o600); err != nil {
		t.Fatal(err)
	}
	s.open()
	t.Cleanup(func() { _ = s.store.Close() })
	return s
}

func live(t testing.TB) *scene {
	t.Helper()
	ctx := context.Background()
	s := newScene(t)
	if err := s.log.Note(ctx, audit.Lifecycle{Event: "start", Version: "v", Environment: "test"}); err != nil {
		t.Fatal(err)
	}
	s.storeCard("card-1") // 1, 2
	s.cards(2)            // 3 to 6; checkpoint 7
	if err := s.log.Refuse(ctx, full, "marker-missing"); err != nil {
		t.Fatal(err)
	} // 7
	s.cards(2) // 8 to 11; checkpoint 12
	ticket, err := s.log.Open(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.log.Conclude(ctx, ticket, record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}); err != nil {
		t.Fatal(err)
	} // 12
	s.clock.Add(time.Minute)
	begin(t, s.log, bare) // 13: ended by a crash
	s.cards(1)            // 14, 15; checkpoint 16
	return s
}

func TestWholeLogIsVerified(t *testing.T) {
	s := lived(t)
	anchor := s.latest()
	if err := s.card(); err != nil { // 16, 17: no checkpoint yet
		t.Fatal(err)
	}
	anchor.SPKI = nil // as in a note alone
	pin := sha256.Sum256(s.sign.spki)
	report, err := audit.Verify(context.Background(), audit.Verification{
		Source: s.store, Rows: s.store, Pins: map[[sha256.Size]byte]bool{pin: true}, Anchored: map[string][]audit.Checkpoint{"elsewhere": {anchor}},
	})
	if err != nil || len(report.Faults) != 0 {
		t.Fatalf("%v, faults: %v", err, report.Faults)
	}
	head, err := s.store.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if report.Entries != 18 || report.Checkpoints != 4 || report.Anchored != 1 || report.Covered != 16 || report.Root != head.Root() || report.Origin != origin {
		t.Errorf("report %+v", report)
	}
	if len(report.Open) != 1 || report.Open[0].Seq != 13 {
		t.Errorf("open intents %v", report.Open)
	}
}

// forge recomputes all that is derived from the entries' contents, as an attacker with
// the database can: digests, hashes, everything but signatures.
func (s *scene) forge() {
	s.Helper()
	rows, err := s.store.Rows(context.Background(), 0, 1000)
	if err != nil {
		s.Fatal(err)
	}
	tree := audit.NewTree(0, nil)
	for _, r := range rows {
		made := audit.NewRow(r.Entry, tree)
		var hashes []byte
		for _, h := range made.Hashes {
			hashes = append(hashes, h[:]...)
		}
		s.beside(fmt.Sprintf("UPDATE audit_entries SET body_sha256 = x'%x', hashes = x'%x' WHERE seq = %d", made.BodySHA256, hashes, r.Seq))
	}
}

// resign signs the log anew with another key, from the first checkpoint on.
func (s *scene) resign() {
	s.Helper()
	s.beside("DELETE FROM audit_checkpoints")
	own := s.sign
	s.sign = newSigner(s)
	s.open()
	s.step()
	s.sign = own
}

// Two histories of one length are told from one that was changed.
func TestTwoHistoriesAreShownByAnAnchor(t *testing.T) {
	s, other := lived(t), lived(t)
	other.beside(`UPDATE audit_entries SET body = replace(body, 'user-1', 'user-2') WHERE seq = 5`)
	other.forge()
	other.beside("DELETE FROM audit_checkpoints")
	other.open()
	other.step()
	anchor := other.latest()
	if anchor.Size != s.latest().Size || anchor.Root == s.latest().Root {
		t.Fatalf("both are the same, or not of one length: %d, %d", anchor.Size, s.latest().Size)
	}
	report := s.verify(map[string]audit.Checkpoint{"elsewhere": anchor})
	if len(report.Faults) != 1 || report.Faults[0].Seq != anchor.Size-1 || !strings.Contains(report.Faults[0].What, "two histories") {
		t.Errorf("faults: %v", report.Faults)
	}
}

// Whatever is done to the database is found, and the first entry that it shows at named.
func TestTamperingIsFoundAndNamed(t *testing.T) {
	type found struct {
		seq  uint64
		what string // a part of the first fault's text
	}
	for name, tc := range map[string]struct {
		tamper []string
		then   func(s *scene)
		want   found
	}{
		"byte of a body flipped": {
			tamper: []string{`UPDATE audit_entries SET body = replace(body, 'user-1', 'user-2') WHERE seq = 5`},
			want:   found{5, "body was changed"},
		},
		"byte of a body flipped, with its digest": {
			tamper: []string{fmt.Sprintf(`UPDATE audit_entries SET body = '{}', body_sha256 = x'%x' WHERE seq = 5`, sha256.Sum256([]byte("{}")))},
			want:   found{5, "not the leaf"},
		},
		"time changed":          {tamper: []string{`UPDATE audit_entries SET at = at + 1 WHERE seq = 6`}, want: found{6, "not the leaf"}},
		"kind changed":          {tamper: []string{`UPDATE audit_entries SET kind = 'refusal' WHERE seq = 12`}, want: found{12, "not the leaf"}},
		"ticket changed":        {tamper: []string{`UPDATE audit_entries SET ticket = 'x' WHERE seq = 12`}, want: found{12, "not the leaf"}},
		"tenant changed":        {tamper: []string{`UPDATE audit_entries SET tenant = 'x' WHERE seq = 7`}, want: found{7, "not the leaf"}},
		"hash of a tree's node": {tamper: []string{`UPDATE audit_entries SET hashes = substr(hashes, 1, 32) || zeroblob(32) WHERE seq = 1`}, want: found{1, "hashes"}},
		"entry changed with all that derives from it": {
			tamper: []string{`UPDATE audit_entries SET body = replace(body, 'marker-missing', 'x') WHERE seq = 7`}, then: (*scene).forge,
			want: found{7, "one of 7 to 11 was changed"},
		},
		"tail deleted":                  {tamper: []string{`DELETE FROM audit_entries WHERE seq >= 14`}, want: found{14, "missing, with all after it"}},
		"middle row deleted":            {tamper: []string{`DELETE FROM audit_entries WHERE seq = 7`}, want: found{7, "missing: the next is entry 8"}},
		"first row deleted":             {tamper: []string{`DELETE FROM audit_entries WHERE seq = 0`}, want: found{0, "missing"}},
		"middle row deleted and closed": {tamper: []string{`DELETE FROM audit_entries WHERE seq = 7`, `UPDATE audit_entries SET seq = -seq WHERE seq > 7`, `UPDATE audit_entries SET seq = -seq - 1 WHERE seq < 0`}, want: found{7, "not the leaf"}},
		"middle row deleted, closed and forged": {
			tamper: []string{`DELETE FROM audit_entries WHERE seq = 7`, `UPDATE audit_entries SET seq = -seq WHERE seq > 7`, `UPDATE audit_entries SET seq = -seq - 1 WHERE seq < 0`}, then: (*scene).forge,
			want: found{7, "one of 7 to 11 was changed"},
		},
		"two reordered":                    {tamper: []string{`UPDATE audit_entries SET seq = -1 WHERE seq = 4`, `UPDATE audit_entries SET seq = 4 WHERE seq = 5`, `UPDATE audit_entries SET seq = 5 WHERE seq = -1`}, want: found{4, "not the leaf"}},
		"signed with another key":          {then: (*scene).resign, want: found{15, "not signed by a trusted key"}},
		"checkpoints deleted":              {tamper: []string{`DELETE FROM audit_checkpoints`}, want: found{0, "there is no checkpoint"}},
		"checkpoint's root changed":        {tamper: []string{`UPDATE audit_checkpoints SET root = zeroblob(32) WHERE size = 12`}, want: found{11, "the note says something else"}},
		"checkpoint's note changed":        {tamper: []string{`UPDATE audit_checkpoints SET note = replace(note, 'bank', 'bonk') WHERE size = 12`}, want: found{11, "another log"}},
		"checkpoint moved":                 {tamper: []string{`UPDATE audit_checkpoints SET size = 11 WHERE size = 12`}, want: found{10, "the note says something else"}},
		"bodies emptied":                   {tamper: []string{`UPDATE audit_entries SET body = '' WHERE seq IN (5, 6)`}, want: found{5, "no retention"}},
		"first bodies emptied":             {tamper: []string{`UPDATE audit_entries SET body = '' WHERE seq < 3`}, want: found{0, "no retention"}},
		"nonce marked as used":             {tamper: []string{`INSERT INTO apple_nonces VALUES ('bank', x'00', 'used', 1, 1)`}, want: found{16, "no entry says how"}},
		"used nonce freed":                 {tamper: []string{`UPDATE apple_nonces SET state = 'free' WHERE rowid = 1`}, want: found{4, "row is missing"}},
		"used nonce deleted":               {tamper: []string{`DELETE FROM apple_nonces WHERE rowid = 2`}, want: found{6, "row is missing"}},
		"card put in":                      {tamper: []string{`INSERT INTO cards SELECT 'bank', 'card-2', x'aa', owner_iss, owner_sub, vault_key, iv, sealed, created_at FROM cards`}, want: found{16, "card card-2 of tenant bank"}},
		"card moved to another tenant":     {tamper: []string{`UPDATE cards SET tenant = 'other'`}, want: found{16, "of tenant other"}},
		"entries appended by someone":      {tamper: []string{`INSERT INTO audit_entries SELECT 16, at, kind, ticket, tenant, body, body_sha256, hashes FROM audit_entries WHERE seq = 7`}, want: found{16, "not the leaf"}},
		"result put in without an intent":  {tamper: []string{`UPDATE audit_entries SET ticket = 'x' WHERE seq = 15`}, then: (*scene).forge, want: found{15, "a result and no intent"}},
		"entry numbered beyond all reason": {tamper: []string{`UPDATE audit_entries SET seq = 9000000000000000000 WHERE seq = 15`}, want: found{15, "missing, with all after it"}},
		"retention of what comes after": {
			tamper: []string{`UPDATE audit_entries SET kind = 'lifecycle', body = '{"event":"retention","before":17}' WHERE seq = 7`}, then: (*scene).forge,
			want: found{7, "it expires entries that come after it"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := lived(t)
			s.beside(tc.tamper...)
			if tc.then != nil {
				tc.then(s)
			}
			report := s.verify(nil)
			if len(report.Faults) == 0 {
				t.Fatal("nothing was found")
			}
			if f := report.Faults[0]; f.Seq != tc.want.seq || !strings.Contains(f.What, tc.want.what) {
				t.Errorf("first fault is %v, want %+v\nall: %v", f, tc.want, report.Faults)
			}
		})
	}
}

// A source that gives the same rows for ever ends with a fault, not never.
func TestSourceThatDoesNotAdvanceIsAFault(t *testing.T) {
	s := lived(t)
	report, err := audit.Verify(t.Context(), audit.Verification{Source: stuck{s.store}, Origin: origin, Keys: [][]byte{s.sign.spki}})
	if err != nil || len(report.Faults) == 0 {
		t.Errorf("%v, faults: %v", err, report.Faults)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Verify(ctx, audit.Verification{Source: stuck{s.store}}); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller is gone: %v", err)
	}
}

// Deleting the checkpoints behind a change hides it from what is left of them, and shows
// for what it is: entries that nobody signed in time.
func TestOldEntriesUnderNoCheckpointAreAFault(t *testing.T) {
	s := lived(t)
	s.beside("DELETE FROM audit_checkpoints WHERE size > 7", "UPDATE audit_entries SET body = replace(body, 'marker-missing', 'x') WHERE seq = 7")
	s.forge()
	for age, want := range map[time.Duration]int{time.Minute: 0, time.Minute - time.Millisecond: 1} {
		for name, now := range map[string]time.Time{"now": s.clock.Now(), "at the newest": {}} {
			report, err := audit.Verify(t.Context(), audit.Verification{Source: s.store, Rows: s.store, Keys: [][]byte{s.sign.spki}, MaxUnsigned: age, Now: now})
			if err != nil || len(report.Faults) != want || report.Covered != 7 {
				t.Errorf("%v, %s: %v, %v", age, name, err, report.Faults)
			}
			if want == 1 && !strings.Contains(report.Faults[0].What, "entries 7 to 15 are under no checkpoint") {
				t.Errorf("fault %v", report.Faults[0])
			}
		}
	}
}

// stuck gives the first rows whatever it is asked for.
type stuck struct{ audit.Source }

func (s stuck) Rows(ctx context.Context, _ uint64, limit int) ([]audit.Row, error) {
	return s.Source.Rows(ctx, 0, limit)
}

// backup copies the database.
func backup(t testing.TB, s *scene) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	s.beside("VACUUM INTO '" + path + "'")
	return path
}

// Expired bodies leave their digests: the tree is whole, nothing looks lost, and who
// expired them is on record.
func TestRetentionLeavesTombstones(t *testing.T) {
	ctx := context.Background()
	s := lived(t)
	s.clock.Add(24 * time.Hour)
	s.cards(1) // 16, 17
	if err := s.log.ExpireOlder(ctx, s.store, s.clock.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	} // 18
	if err := s.log.ExpireOlder(ctx, s.store, s.clock.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.step()
	rows, err := s.store.Rows(ctx, 0, 100)
	if err != nil || len(rows) != 19 {
		t.Fatalf("%d entries, %v", len(rows), err)
	}
	for _, r := range rows {
		if r.Expired() != (r.Seq < 16) {
			t.Errorf("entry %d: expired %v", r.Seq, r.Expired())
		}
	}
	report := s.requireWhole()
	if report.Expired != 16 || report.Unprovable != 6 {
		t.Errorf("report %+v", report)
	}
	if want := `{"event":"retention","before":16}`; string(rows[18].Body) != want {
		t.Errorf("on record is %s", rows[18].Body)
	}
	s.open()
	s.cards(1)
	s.beside("UPDATE audit_entries SET body = '' WHERE seq = 16")
	if report := s.verify(nil); len(report.Faults) == 0 || report.Faults[0].Seq != 16 {
		t.Errorf("a body emptied beyond retention: %v", report.Faults)
	}
}
