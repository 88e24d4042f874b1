package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
)

// A database that was rolled back with all that it holds looks whole. Only what was kept
// elsewhere shows it.
func TestRollbackIsShownByAnAnchor(t *testing.T) {
	s := lived(t)
	file := &audit.FileAnchor{Path: filepath.Join(t.TempDir(), "anchor")}
	keep := func() {
		t.Helper()
		if err := file.Keep(t.Context(), s.latest()); err != nil {
			t.Fatal(err)
		}
	}
	keep()
	older, err := os.ReadFile(backup(t, s))
	if err != nil {
		t.Fatal(err)
	}
	s.cards(3)
	anchor := s.latest()
	keep()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(s.path + name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	s.store = nil
	s.open() // nothing here says that anything is wrong
	s.requireWhole()
	report := s.verify(map[string]audit.Checkpoint{"elsewhere": anchor})
	if len(report.Faults) != 1 || report.Faults[0].Seq != 16 || !strings.Contains(report.Faults[0].What, "anchor elsewhere was signed for 22 entries") {
		t.Errorf("faults: %v", report.Faults)
	}
	// It goes on from there, and is another history for ever.
	s.clock.Add(time.Hour)
	s.cards(4)
	report = s.verify(map[string]audit.Checkpoint{"elsewhere": anchor})
	if len(report.Faults) == 0 || report.Faults[0].Seq != 16 || !strings.Contains(report.Faults[0].What, "other entries") {
		t.Errorf("faults: %v", report.Faults)
	}
	// Nor is it mended by growing past the old one, with the anchor at hand again.
	keep()
	kept, err := file.Kept()
	if err != nil || len(kept) != 3 || s.latest().Size <= anchor.Size {
		t.Fatalf("kept %v, %v", kept, err)
	}
	if report = s.verifyAll(map[string][]audit.Checkpoint{"elsewhere": kept}); len(report.Faults) == 0 || report.Faults[0].Seq != 16 {
		t.Errorf("faults: %v", report.Faults)
	}
	err = s.reopen(func(c *audit.CheckpointConfig) { c.Anchors = []audit.Anchor{file} })
	if !errors.Is(err, audit.ErrChanged) {
		t.Errorf("started with %v", err)
	}
}

// An anchor that was replaced is found by its signature, whatever else it says.
func TestReplacedAnchorIsFound(t *testing.T) {
	s := lived(t)
	other := live(t)
	other.cards(1)
	for name, tc := range map[string]struct {
		anchor audit.Checkpoint
		want   string
	}{
		"of another log, signed by another key": {other.latest(), "not signed by a trusted key"},
		"with another size":                     {lie(t, s.latest(), "\n16\n", "\n15\n"), "not signed by a trusted key"},
		"of another origin":                     {lie(t, s.latest(), origin+"\n", "bank.example/mintmark/other\n"), "another log"},
	} {
		report := s.verify(map[string]audit.Checkpoint{"file": tc.anchor})
		if len(report.Faults) != 1 || !strings.Contains(report.Faults[0].What, tc.want) || !strings.Contains(report.Faults[0].What, "anchor file") {
			t.Errorf("%s: %v", name, report.Faults)
		}
	}
}

func lie(t testing.TB, c audit.Checkpoint, old, new string) audit.Checkpoint {
	t.Helper()
	got, err := audit.ParseCheckpoint(strings.Replace(c.Note, old, new, 1))
	if err != nil {
		t.Fatal(err)
	}
	got.SPKI = c.SPKI
	return got
}
