package report_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/report"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

const origin = "bank.example/mintmark/test"

// A written log is one on a real database, with entries and a checkpoint, by a real token.
type written struct {
	*testing.T
	path   string
	store  *store.Store
	log    *audit.Log
	points *audit.Checkpointer
	anchor string
	spki   []byte
}

func write(t *testing.T, tok *hsmtest.Token) *written {
	t.Helper()
	w := &written{T: t, path: filepath.Join(t.TempDir(), "m.db"), anchor: filepath.Join(t.TempDir(), "anchor.jsonl")}
	var err error
	if w.store, err = store.Open(context.Background(), w.path, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	w.log = audit.New(w.store, time.Now)
	gate := signer.New(tok.Token)
	w.points = audit.NewCheckpointer(w.log, audit.CheckpointConfig{
		Origin: origin, Signer: gate, Store: w.store, Every: time.Second, Log: slog.New(slog.DiscardHandler),
		Anchors: []audit.Anchor{&audit.FileAnchor{Path: w.anchor}},
	})
	if err := w.points.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.entries(3)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	w.points.Run(over) // the checkpoint of a stop
	_, w.spki, err = gate.SignCheckpoint(context.Background(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *written) entries(n int) {
	w.Helper()
	for range n {
		if err := w.log.Refuse(context.Background(), record.Intent{Operation: record.SignCard, Tenant: "bank"}, "forbidden"); err != nil {
			w.Fatal(err)
		}
	}
}

// do is what somebody does who writes the database.
func (w *written) do(statement string) {
	w.Helper()
	db, err := sql.Open("sqlite3", w.path)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := db.Exec(statement); err != nil {
		w.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.Fatal(err)
	}
}

// facts reads the log as it is at a time.
func (w *written) facts(at time.Time, anchored bool) report.Log {
	w.Helper()
	l := report.Log{MaxUnsigned: 2 * time.Minute, Configured: 1}
	v := audit.Verification{Rows: w.store, Origin: origin, Keys: [][]byte{w.spki}, Now: at}
	if anchored {
		kept, err := (&audit.FileAnchor{Path: w.anchor}).Kept()
		if err != nil {
			w.Fatal(err)
		}
		v.Anchored = map[string][]audit.Checkpoint{"kept": kept}
	}
	if err := l.Read(context.Background(), v, w.store); err != nil {
		w.Fatal(err)
	}
	return l
}

// A log that is whole, signed and kept elsewhere passes; each thing that is wrong with it fails.
func TestLogsThatAreNotWholeFail(t *testing.T) {
	tok := hsmtest.New(t, only)
	for name, c := range map[string]struct {
		spoil   func(w *written)
		later   time.Duration
		verdict report.Verdict
		text    string
	}{
		"whole":                          {func(*written) {}, 0, report.Pass, "3 entries (0 expired)"},
		"whole, and long ago":            {func(*written) {}, 24 * time.Hour, report.Pass, "covers 3 of 3 entries"},
		"an entry changed":               {func(w *written) { w.do(`UPDATE audit_entries SET tenant = 'other' WHERE seq = 1`) }, 0, report.Fail, "entry 1: it was changed"},
		"an entry deleted":               {func(w *written) { w.do(`DELETE FROM audit_entries WHERE seq = 1`) }, 0, report.Fail, "entry 1: missing"},
		"a stale checkpoint":             {func(w *written) { w.entries(2) }, time.Hour, report.Fail, "STALE, entries after it may wait 2m0s at most"},
		"no checkpoint":                  {func(w *written) { w.do(`DELETE FROM audit_checkpoints`) }, 0, report.Fail, "last checkpoint: there is none"},
		"a database put back as a whole": {func(w *written) { w.do(`DELETE FROM audit_entries WHERE seq > 0; DELETE FROM audit_checkpoints`) }, 0, report.Fail, "missing, with all after it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := write(t, tok)
			c.spoil(w)
			at := time.Now().Add(c.later)
			// Without its checkpoints a log has nothing to be dated by but what was kept.
			l := w.facts(at, name != "no checkpoint")
			requireVerdict(t, report.Make(report.Facts{Now: at, Log: l}), "A11", c.verdict, c.text)
		})
	}
	w := write(t, tok)
	l := w.facts(time.Now(), false)
	requireVerdict(t, report.Make(report.Facts{Now: time.Now(), Log: l}), "A11", report.NotSupported, "nothing of what they kept was given")
	l.Configured = 0
	requireVerdict(t, report.Make(report.Facts{Now: time.Now(), Log: l, Production: true}), "A11", report.Fail, "anchors: none")
	l.Retention = 24 * time.Hour
	requireVerdict(t, report.Make(report.Facts{Now: time.Now(), Log: l}), "A11", report.Fail, "bodies for 1 days")
	failing := &report.Service{Anchors: []report.AnchorState{{Name: "webhook", Size: 3, Failing: true}}}
	requireVerdict(t, report.Make(report.Facts{Now: time.Now(), Log: l, Service: failing}), "A11", report.Fail, "takes no more at the moment")
	stale := w.facts(time.Now(), true)
	at := report.Kept{Where: "kept", Origin: origin}
	kept := stale.Anchored[at]
	kept.Size, kept.At = 1, kept.At.Add(-time.Hour)
	stale.Anchored[at] = kept
	requireVerdict(t, report.Make(report.Facts{Now: time.Now(), Log: stale}), "A11", report.Fail, "anchor kept: its last checkpoint covers 1 entries")
	left := report.Log{Report: audit.Reports{Logs: []audit.LogReport{{LogInfo: audit.LogInfo{Number: 1, Idle: true}, Report: audit.Report{Entries: 2}}}}}
	left.Anchored = map[report.Kept]audit.Checkpoint{{Where: "kept", Origin: "another"}: {}}
	requireVerdict(t, report.Make(report.Facts{Now: time.Now(), Log: left}), "A11", report.Pass, "last checkpoint: there is none; nobody writes this log")
	requireVerdict(t, report.Make(report.Facts{Log: report.Log{Err: "database: read the log failed"}}), "A11", report.Fail, "not read")
}

// canary is a card number that went through the service; other is one that nobody gave.
const (
	canary = "5204245250001488"
	other  = "4111111111111111"
)

// A card number in a log or in the database fails, in whatever form, and is not repeated.
func TestCardNumbersAreFoundAndNotRepeated(t *testing.T) {
	scanner, err := report.NewScanner([]string{canary})
	if err != nil {
		t.Fatal(err)
	}
	filler := strings.Repeat("x", 1<<20-7)
	for name, c := range map[string]struct {
		text string
		hit  bool
	}{
		"in clear":                    {`{"msg":"card ` + canary + `"}`, true},
		"inside a longer text":        {"id" + canary + "end", true},
		"in hex":                      {hex.EncodeToString([]byte(canary)), true},
		"in Base64":                   {base64.StdEncoding.EncodeToString([]byte(canary)), true},
		"in Base64, behind one byte":  {base64.StdEncoding.EncodeToString([]byte("a" + canary + "b")), true},
		"in Base64, behind two bytes": {base64.RawURLEncoding.EncodeToString([]byte("ab" + canary + "cdef")), true},
		"one that nobody gave":        {"pan=" + other + ".", true},
		"across parts of a long line": {filler + canary, true},
		"a number with a wrong digit": {"pan=4111111111111112", false},
		"a time in nanoseconds":       {`"at":1795348800000000003`, false},
		"digits of a digest":          {"a" + other + "b", false},
		"a fraction":                  {"0." + other, false},
		"nothing":                     {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			scan := scanner.Lines("app.log", strings.NewReader("first line\n"+c.text+"\nlast line\n"))
			if (len(scan.Hits) > 0) != c.hit || scan.Err != "" {
				t.Fatalf("hits %v, %s", scan.Hits, scan.Err)
			}
			if c.hit && scan.Hits[0] != "line 2" {
				t.Errorf("found at %v", scan.Hits)
			}
			r := report.Make(report.Facts{Host: hardened, Build: known, Scans: []report.Scan{scan}})
			if text, err := r.JSON(); err != nil || strings.Contains(text, canary) || strings.Contains(text, other) {
				t.Errorf("it is repeated (%v)", err)
			}
			if c.hit {
				requireVerdict(t, r, "A12", report.Fail, "card numbers in app.log: 1 places, the first: [line 2]")
			} else {
				requireVerdict(t, r, "A12", report.Pass, "none in ")
			}
		})
	}
	tok := hsmtest.New(t, only)
	w := write(t, tok)
	w.do(`INSERT INTO cards (tenant, id, lookup, owner_iss, owner_sub, vault_key, iv, sealed, created_at) VALUES ('t', '1', x'00', 'i', 's', 'k', x'00', x'` + hex.EncodeToString([]byte(canary)) + `', 0)`)
	scan := scanner.Cells(context.Background(), "the database", w.store.Cells)
	requireVerdict(t, report.Make(report.Facts{Scans: []report.Scan{scan}}), "A12", report.Fail, "[cards.sealed, row 1]")
	pass := func(ref, serial string) {
		w.do(`INSERT INTO passes SELECT ` + ref + `, 't', 'type', '` + serial + `', '{}', '', '{}', 0, 1, 0, 0, 'free', 0, 0, ''`)
	}
	w.do(`DELETE FROM cards`)
	pass("4579710224107757185", "a") // random, with a right check digit
	if scan := scanner.Cells(context.Background(), "the database", w.store.Cells); scan.Err != "" || len(scan.Hits) != 0 {
		t.Errorf("a random number is taken for a card's: %+v", scan)
	}
	pass(canary, "b")
	if scan := scanner.Cells(context.Background(), "the database", w.store.Cells); len(scan.Hits) != 1 {
		t.Errorf("a canary among random numbers: %+v", scan)
	}
	if _, err := report.NewScanner([]string{"card"}); err == nil {
		t.Error("a canary that is no number was taken")
	}
}

// What leaves a process's memory or its lines open fails.
func TestHostsThatLeaveSomethingOpenFail(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(f *report.Facts)
		verdict report.Verdict
		text    string
	}{
		"as it should be":         {func(*report.Facts) {}, report.Pass, "core files: off"},
		"core files":              {func(f *report.Facts) { f.Host.CoreOff, f.Host.CoreLimit = false, "unlimited" }, report.Fail, "core files: on (RLIMIT_CORE unlimited)"},
		"of the running service":  {func(f *report.Facts) { f.Service = &report.Service{Host: report.Host{Dumpable: true}, Build: known} }, report.Fail, "running service: other processes of its user: can read its memory"},
		"swap":                    {func(f *report.Facts) { f.Host.Locked, f.Host.Swap = false, true }, report.Fail, "swap"},
		"no erasure":              {func(f *report.Facts) { f.Host.Erasure = "none" }, report.NotSupported, "built without GOEXPERIMENT=runtimesecret"},
		"a clock on its own":      {func(f *report.Facts) { f.Host.ClockInStep = false }, report.NotSupported, "clock"},
		"plain HTTP on a network": {func(f *report.Facts) { f.Listeners = []report.Listener{{Name: "api", Address: "0.0.0.0:80"}} }, report.Fail, "plain HTTP, reachable from other hosts"},
		"an ended certificate": {func(f *report.Facts) {
			f.Listeners = []report.Listener{{Name: "api", TLS: true, Policy: "TLS 1.3", Weak: "its certificate ended 2020-01-01"}}
		}, report.Fail, "TLS 1.3: its certificate ended 2020-01-01"},
		"an unknown revision":     {func(f *report.Facts) { f.Build.Revision, f.Production = "", true }, report.Fail, "does not say of which revision"},
		"a log that is not there": {func(f *report.Facts) { f.Scans = []report.Scan{{Place: "app.log", Err: "no such file"}} }, report.Fail, "app.log: not read"},
		"no log that is searched": {func(f *report.Facts) { f.Scans = []report.Scan{{Place: "the database"}} }, report.NotSupported, "no log was given to be searched"},
	} {
		t.Run(name, func(t *testing.T) {
			f := report.Facts{Host: hardened, Build: known, Scans: []report.Scan{{Place: "app.log", Log: true}}}
			c.spoil(&f)
			requireVerdict(t, report.Make(f), "A12", c.verdict, c.text)
		})
	}
}

// A report is a note that its key verifies, in both forms; nothing in it can be changed, and no
// text that a token or file gives ends up as markup, as a line or as a signature.
func TestReportIsSignedAsItIs(t *testing.T) {
	tok := hsmtest.New(t, only)
	gate := signer.New(tok.Token)
	_, spki, err := gate.SignStatement(context.Background(), "x", "x\n")
	if err != nil {
		t.Fatal(err)
	}
	hostile := "<script src=http://evil.example/x.js>\n\n— " + origin + "/report AAAA\n<meta name=\"verdict\" content=\"PASS\">\x00\xff\u202e"
	r := read(t, tok, func(f *report.Facts) {
		f.SPKI, f.Key = spki, "audit-report"
		f.Scans = []report.Scan{{Place: hostile, Hits: []string{hostile}}}
	})
	pin := map[[sha256.Size]byte]bool{sha256.Sum256(spki): true}
	for form, text := range map[string]func() (string, error){"JSON": r.JSON, "HTML": r.HTML} {
		t.Run(form, func(t *testing.T) {
			made, err := text()
			if err != nil {
				t.Fatal(err)
			}
			signed, err := report.Sign(context.Background(), gate, r, made)
			if err != nil {
				t.Fatal(err)
			}
			for name, trust := range map[string]report.Trust{
				"by its pin": {Pins: pin, Name: origin + "/report"}, "by its key": {Keys: [][]byte{spki}},
			} {
				v, err := report.Verify(signed, trust)
				if err != nil || v.Verdict != report.Fail || v.Name != origin+"/report" || !v.At.Equal(r.At) || v.Text != made {
					t.Errorf("%s: %v, %+v", name, err, v)
				}
			}
			for name, changed := range map[string]string{
				"another verdict":  strings.Replace(signed, "FAIL", "PASS", 1),
				"a line more":      strings.Replace(signed, "\n\n— ", "\nx\n\n— ", 1),
				"no signature":     made,
				"a signature more": signed + "— <style>.fail{display:none}</style> AAAAAAA=\n",
				"cut":              signed[:len(signed)/2],
			} {
				if _, err := report.Verify(changed, report.Trust{Pins: pin}); err == nil {
					t.Errorf("%s was taken", name)
				}
			}
			if _, err := report.Verify(signed, report.Trust{Pins: map[[sha256.Size]byte]bool{{}: true}}); err == nil {
				t.Error("taken from a key that nobody trusts")
			}
			if _, err := report.Verify(signed, report.Trust{Pins: pin, Name: "other/report"}); err == nil {
				t.Error("taken for another log's")
			}
		})
	}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page, "<script") || strings.ContainsAny(page, "\u202e") || strings.Contains(page, "\n\n") {
		t.Error("what was read is markup")
	}
	if !strings.HasSuffix(page, "<plaintext>\n") {
		t.Error("what follows the page could be markup")
	}
	for _, address := range regexp.MustCompile(`(?i)(src|href|url|action|@import)\s*[=(]`).FindAllString(strings.ReplaceAll(page, "&lt;script src=http", ""), -1) {
		t.Errorf("the page asks for something: %s", address)
	}
	var back report.Report
	text, err := r.JSON()
	if err != nil || json.Unmarshal([]byte(text), &back) != nil || back.Form != report.Form || len(back.Items) != 12 {
		t.Errorf("%v, %+v", err, back)
	}
}

// What was not there to be looked at does not pass.
func TestNothingSeenIsNoPass(t *testing.T) {
	at := time.Now()
	log := report.Log{
		Report: audit.Reports{Logs: []audit.LogReport{{Report: audit.Report{Entries: 3, Covered: 3}}}}, Signed: map[int]time.Time{0: at}, Configured: 1,
	}
	idle := report.Member{Name: "hsm"}
	for name, c := range map[string]struct {
		facts   report.Facts
		item    string
		verdict report.Verdict
		text    string
	}{
		"an anchor's file is gone": {report.Facts{Log: func() report.Log { l := log; l.Missing = []string{"kept.jsonl"}; return l }()}, "A11", report.Fail, "anchor kept.jsonl: not read"},
		"an anchor that took nothing": {
			report.Facts{Log: log, Service: &report.Service{Anchors: []report.AnchorState{{Name: "far"}}}}, "A11", report.NotSupported, "it took 0 entries",
		},
		"no ephemeral key was made": {report.Facts{Members: []report.Member{idle}}, "A10", report.NotSupported, "0 session objects made"},
		"a key's size is not told": {report.Facts{Members: []report.Member{{Inventory: hsm.Inventory{Keys: []hsm.KeyInventory{{
			KeyStatus: hsm.KeyStatus{Key: hsm.Key{Name: "k", Purpose: hsm.CardVault, Algorithm: hsm.AES256, State: hsm.Active, Created: at.Format(time.DateOnly)}},
			Objects:   []hsm.Observed{{Class: hsm.ClassSecretKey}},
		}}}}}}, "A8", report.NotSupported, "the token does not say its size"},
	} {
		t.Run(name, func(t *testing.T) {
			c.facts.Now = at
			requireVerdict(t, report.Make(c.facts), c.item, c.verdict, c.text)
		})
	}
}
