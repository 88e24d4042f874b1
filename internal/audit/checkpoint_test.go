package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
)

func TestCheckpointIsASignedNoteOfSizeAndRoot(t *testing.T) {
	s := newScene(t)
	s.cards(3)
	c := s.latest()
	head, err := s.store.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	text := origin + "\n6\n" + head.Root().String() + "\n"
	if c.Size != 6 || c.Root != head.Root() || c.Origin != origin || !strings.HasPrefix(c.Note, text+"\n— "+origin+" ") {
		t.Errorf("checkpoint %+v", c)
	}
	// The key id is that of type 0x02: the start of the SPKI's digest.
	key, err := audit.NewCheckpointKey(origin, s.sign.spki)
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(s.sign.spki)
	if key.KeyHash() != binary.BigEndian.Uint32(pin[:]) || key.Pin() != pin {
		t.Errorf("key id %08x", key.KeyHash())
	}
	n, err := note.Open([]byte(c.Note), note.VerifierList(key))
	if err != nil || n.Text != text || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		t.Errorf("note %+v, %v", n, err)
	}
}

// Whoever has openssl and the key can verify a checkpoint.
func TestOpenSSLVerifiesACheckpoint(t *testing.T) {
	s := newScene(t)
	s.cards(1)
	opensslVerify(t, s.latest().Note, s.sign.spki)
}

// opensslVerify verifies a note as docs/audit.md says.
func opensslVerify(t *testing.T, signed string, spki []byte) {
	t.Helper()
	text, lines, _ := strings.Cut(signed, "\n\n")
	sig, err := base64.StdEncoding.DecodeString(strings.Fields(lines)[2])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"text": []byte(text + "\n"), "other": []byte(text + "!\n"), "sig": sig[4:],
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, good := range map[string]bool{"text": true, "other": false} {
		cmd := exec.Command("openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", name)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); (err == nil) != good {
			t.Errorf("openssl says of the %s: %v\n%s", name, err, out)
		}
	}
}

func TestCheckpointIsMadeWhenThereIsSomethingNew(t *testing.T) {
	s := newScene(t)
	s.step()
	if _, ok := s.points.Latest(); ok {
		t.Error("an empty log was signed")
	}
	s.cards(1)
	s.step()
	s.step()
	if st := s.points.Stats(); st.Made != 1 || st.Entries != 2 || st.Unsigned != 0 || st.Failed != 0 {
		t.Errorf("figures %+v", st)
	}
	s.cards(1)
	all, err := s.store.Checkpoints(context.Background(), 0, 10)
	if err != nil || len(all) != 2 || all[0].Size != 2 || all[1].Size != 4 {
		t.Errorf("checkpoints %v, %v", all, err)
	}
	// The next process goes on from the last.
	s.open()
	s.step()
	if st := s.points.Stats(); st.Made != 0 || s.latest().Size != 4 {
		t.Errorf("after a start: %+v", st)
	}
}

// Run makes the last checkpoint when it is told to end, and tells the anchors.
func TestRunEndsWithACheckpoint(t *testing.T) {
	anchor := &memoryAnchor{}
	s := newScene(t, func(c *audit.CheckpointConfig) { c.Anchors = []audit.Anchor{anchor} })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { s.points.Run(ctx); close(ended) }()
	if err := s.card(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if s.latest().Size != 2 || len(anchor.got()) == 0 || anchor.last().Size != 2 {
		t.Errorf("last checkpoint %d, anchored %v", s.latest().Size, anchor.got())
	}
}

func TestLineOfACheckpointIsReadAsItWasWritten(t *testing.T) {
	s := newScene(t)
	s.cards(2)
	want := s.latest()
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(line, "\n") {
		t.Errorf("more than a line: %s", line)
	}
	var got audit.Checkpoint
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for old, lie := range map[string]string{`"size":4`: `"size":5`, `"origin":"bank`: `"origin":"bonk`, want.Root.String()[:5]: "AAAAA"} {
		if err := json.Unmarshal([]byte(strings.Replace(string(line), old, lie, 1)), &got); err == nil {
			t.Errorf("%s for %s: the line says something else than its note and is taken", lie, old)
		}
	}
}

func TestParseCheckpointTakesNothingElse(t *testing.T) {
	const root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	for name, text := range map[string]string{
		"empty": "", "no signature": "o\n1\n" + root + "\n", "no origin": "\n1\n" + root + "\n\n— o x\n",
		"no root": "o\n1\n\n— o x\n", "short root": "o\n1\nAAAA\n\n— o x\n", "extension": "o\n1\n" + root + "\nmore\n\n— o x\n",
		"zeroes": "o\n01\n" + root + "\n\n— o x\n", "sign": "o\n+1\n" + root + "\n\n— o x\n", "huge": "o\n9223372036854775808\n" + root + "\n\n— o x\n",
	} {
		if c, err := audit.ParseCheckpoint(text); err == nil {
			t.Errorf("%s: taken as %+v", name, c)
		}
	}
	if c, err := audit.ParseCheckpoint("o\n1\n" + root + "\n\n— o x\n"); err != nil || c.Size != 1 || c.Origin != "o" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Appends do not wait for the token. When too much has no checkpoint nothing new is
// begun, and it is again as soon as there is one.
func TestBacklogHoldsAndResumesByItself(t *testing.T) {
	for name, tc := range map[string]struct {
		until func(s *scene) // what makes the backlog too large
	}{
		"too many": {func(s *scene) {
			for s.card() == nil {
			}
		}},
		"too old": {func(s *scene) {
			if err := s.card(); err != nil {
				s.Fatal(err)
			}
			s.clock.Add(time.Minute)
			if err := s.card(); err != nil {
				s.Fatal(err)
			}
			s.clock.Add(time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.cards(2)
			away := errors.New("token is away")
			s.sign.fail(away)
			s.step()
			tc.until(s)
			s.requireHeld(s.card())
			if _, err := s.log.Open(full); err == nil {
				t.Error("an operation was opened")
			}
			s.requireHeld(s.points.Well())
			// Refusals, starts and stops still have their entries.
			if err := s.log.Refuse(context.Background(), full, "x"); err != nil {
				t.Error(err)
			}
			s.step()
			s.requireHeld(s.card())
			s.sign.fail(nil)
			s.step()
			if err := s.card(); err != nil {
				t.Errorf("after the checkpoint: %v", err)
			}
			s.step()
			s.requireWhole()
		})
	}
}

// What was begun before may end, and its output leaves, up to twice the limit; beyond it
// nothing leaves, and nothing is put on record as having left.
func TestOutputsAreHeldBeyondTwiceTheLimit(t *testing.T) {
	ctx := context.Background()
	s := newScene(t)
	s.sign.fail(errors.New("token is away"))
	var tickets []*record.Ticket
	for range 3 {
		ticket, err := s.log.Begin(ctx, full)
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	s.clock.Add(time.Minute + time.Second)
	s.requireHeld(s.card())
	if _, err := s.log.Conclude(ctx, tickets[0], record.Done()); err != nil {
		t.Errorf("within twice the limit: %v", err)
	}
	s.clock.Add(time.Minute)
	receipt, err := s.log.Conclude(ctx, tickets[1], record.Done())
	s.requireHeld(err)
	if receipt != nil {
		t.Error("a receipt beyond twice the limit")
	}
	if _, err := s.log.Conclude(ctx, tickets[2], record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}); err != nil {
		t.Errorf("a failure is not on record: %v", err)
	}
	if n := len(entries(t, s.store)); n != 5 {
		t.Errorf("%d entries, want 3 intents, a result and a failure", n)
	}
}

func TestFullDiskHoldsAndResumesByItself(t *testing.T) {
	free := uint64(100)
	s := newScene(t, func(c *audit.CheckpointConfig) {
		c.Limits.Free = 50
		c.Free = func() (uint64, error) { return free, nil }
	})
	s.cards(1)
	free = 49
	s.step()
	s.requireHeld(s.card())
	free = 50
	s.step()
	s.cards(1)
}

// A database that goes back under the process, or is another one, is signed no more, and
// nothing leaves; if the right one comes back, so does the service.
func TestDatabaseThatChangesUnderTheProcessIsNotSigned(t *testing.T) {
	for name, tamper := range map[string][]string{
		"tail deleted":     {"DELETE FROM audit_entries WHERE seq > 3"},
		"last one changed": {"UPDATE audit_entries SET hashes = zeroblob(length(hashes)) WHERE seq = 5"},
		"peak changed":     {"UPDATE audit_entries SET hashes = zeroblob(length(hashes)) WHERE seq = 3"},
		"emptied":          {"DELETE FROM audit_entries"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.cards(3)
			ticket, err := s.log.Begin(context.Background(), full)
			if err != nil {
				t.Fatal(err)
			}
			s.beside("CREATE TABLE keep AS SELECT * FROM audit_entries")
			s.beside(tamper...)
			before := s.latest()
			s.step()
			if got := s.latest(); got.Size != before.Size {
				t.Errorf("checkpoint %d was signed", got.Size)
			}
			s.requireHeld(s.card())
			if _, err := s.log.Conclude(context.Background(), ticket, record.Done()); err == nil {
				t.Error("an output would leave")
			}
			s.beside("DELETE FROM audit_entries", "INSERT INTO audit_entries SELECT * FROM keep")
			s.step()
			s.cards(1)
		})
	}
}

// While the database is known to lack an entry nothing is appended: written behind the gap it
// would close the log's end again. Nothing but the entry's return ends that.
func TestNothingIsAppendedBehindAGap(t *testing.T) {
	ctx := context.Background()
	for name, tc := range map[string]struct {
		meanwhile bool // an append ends between the comparison and what it finds
		there     int
	}{
		"found":                        {false, 6},
		"found while one was appended": {true, 7},
	} {
		t.Run(name, func(t *testing.T) {
			look := &looked{}
			s := newScene(t, func(c *audit.CheckpointConfig) { look.CheckpointStore, c.Store = c.Store, look })
			s.cards(3)
			if err := s.log.Refuse(ctx, full, "x"); err != nil { // seven: the next one's hashes alone are the edge
				t.Fatal(err)
			}
			s.step()
			s.beside("CREATE TABLE keep AS SELECT * FROM audit_entries", "DELETE FROM audit_entries WHERE seq = 6")
			if tc.meanwhile {
				look.then = func() {
					if err := s.log.Refuse(ctx, full, "x"); err != nil {
						t.Error(err)
					}
				}
			}
			before := s.latest()
			for range 2 {
				s.step()
				s.requireHeld(s.points.Well())
				for doing, err := range map[string]error{
					"begin": s.card(), "refuse": s.log.Refuse(ctx, full, "x"), "stop": s.log.Note(ctx, audit.Lifecycle{Event: "stop"}),
				} {
					if !errors.Is(err, audit.ErrChanged) {
						t.Errorf("%s: %v, want ErrChanged", doing, err)
					}
				}
			}
			if n := len(entries(t, s.store)); n != tc.there || s.latest().Size != before.Size {
				t.Errorf("%d entries, want %d; checkpoint %d", n, tc.there, s.latest().Size)
			}
			s.beside("INSERT INTO audit_entries SELECT * FROM keep WHERE seq = 6")
			s.step()
			s.cards(1)
			s.requireWhole()
		})
	}
}

// looked is a store beside which something happens, once, when its head has been read.
type looked struct {
	audit.CheckpointStore
	then func()
}

func (l *looked) Head(ctx context.Context) (*audit.Tree, error) {
	head, err := l.CheckpointStore.Head(ctx)
	if then := l.then; then != nil {
		l.then = nil
		then()
	}
	return head, err
}

// A write-ahead log that is overwritten in its place, with what it held before, takes
// entries back as an older database does; the connection that wrote them still sees them.
func TestWriteAheadLogThatGoesBackIsNotSigned(t *testing.T) {
	s := newScene(t)
	s.cards(1)
	old, err := os.ReadFile(s.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	s.cards(5)
	now, err := os.ReadFile(s.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	before := s.latest()
	if err := os.WriteFile(s.path+"-wal", old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.step()
	if got := s.latest(); got.Size != before.Size {
		t.Errorf("checkpoint %d was signed", got.Size)
	}
	s.requireHeld(s.card())
	if err := os.WriteFile(s.path+"-wal", now, 0o600); err != nil {
		t.Fatal(err)
	}
	s.step()
	s.cards(1)
	s.requireWhole()
}

// Production does not start on entries that should have had checkpoints, nor on a last
// checkpoint that no pinned key signed. What a crash leaves is taken up, however long ago.
func TestStrictStartRefusesWhatNoProcessLeaves(t *testing.T) {
	s := newScene(t)
	pins := map[[sha256.Size]byte]bool{sha256.Sum256(s.sign.spki): true}
	strict := func(c *audit.CheckpointConfig) { c.Strict, c.Pins = true, pins }
	lax := func(c *audit.CheckpointConfig) { c.Pins = map[[sha256.Size]byte]bool{} }
	s.cards(1)
	if err := s.card(); err != nil {
		t.Fatal(err)
	}
	s.clock.Add(48 * time.Hour)
	s.open(strict)
	s.cards(1)
	s.open(lax)
	if err := s.reopen(lax, func(c *audit.CheckpointConfig) { c.Strict = true }); !errors.Is(err, audit.ErrSignature) {
		t.Errorf("started with %v on another key's checkpoint", err)
	}
	s.beside("DELETE FROM audit_checkpoints WHERE size > 2")
	if err := s.reopen(strict); !errors.Is(err, audit.ErrChanged) {
		t.Errorf("started with %v on deleted checkpoints", err)
	}
	s.open(lax)
}

// A process does not start on a database that is older than its checkpoints or anchors,
// or another log's.
func TestStartRefusesWhatCheckpointsDeny(t *testing.T) {
	anchored := func(s *scene) func(*audit.CheckpointConfig) {
		return func(c *audit.CheckpointConfig) {
			c.Anchors = []audit.Anchor{&audit.FileAnchor{Path: filepath.Join(filepath.Dir(s.path), "anchor")}}
		}
	}
	for name, tc := range map[string]struct {
		tamper []string
		want   error
	}{
		"nothing":                                {nil, nil},
		"tail deleted":                           {[]string{"DELETE FROM audit_entries WHERE seq > 3"}, audit.ErrChanged},
		"tail and checkpoint deleted":            {[]string{"DELETE FROM audit_entries WHERE seq > 3", "DELETE FROM audit_checkpoints"}, audit.ErrChanged},
		"hashes changed":                         {[]string{"UPDATE audit_entries SET hashes = zeroblob(length(hashes)) WHERE seq = 5"}, audit.ErrChanged},
		"emptied, and the anchor says otherwise": {[]string{"DELETE FROM audit_entries", "DELETE FROM audit_checkpoints"}, audit.ErrChanged},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.open(anchored(s))
			s.cards(3)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.points.Run(ctx) // feeds the anchor
			if err := (&audit.FileAnchor{Path: filepath.Join(filepath.Dir(s.path), "anchor")}).Keep(ctx, s.latest()); err != nil {
				t.Fatal(err)
			}
			s.beside(tc.tamper...)
			if err := s.reopen(anchored(s)); !errors.Is(err, tc.want) {
				t.Errorf("started with %v, want %v", err, tc.want)
			}
		})
	}
	s := newScene(t)
	s.cards(1)
	if err := s.reopen(func(c *audit.CheckpointConfig) { c.Origin = "another/test" }); err == nil || !strings.Contains(err.Error(), origin) {
		t.Errorf("another log's name: %v", err)
	}
}
