//go:build bulk

package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func init() { raceDetector = false }

// TestBulkImport imports BULK_N cards (100 000 unless told otherwise) into a development
// server, moves them to another vault key, and prints the figures of docs/provisioning.md.
func TestBulkImport(t *testing.T) {
	cards := 100_000
	if n, err := strconv.Atoi(os.Getenv("BULK_N")); err == nil {
		cards = n
	}
	dir := t.TempDir()
	s := start(t, dir, nil, nil)
	file := s.importFile(cards)
	began := time.Now()
	out, err := s.cards("import", "--tenant", "dev", file)
	took := time.Since(began)
	if err != nil || !strings.Contains(out, fmt.Sprintf("%d stored", cards)) {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("import of %d cards: %v, %.0f a second, server's memory %s; a million: %v",
		cards, took.Round(time.Second), float64(cards)/took.Seconds(), residentMemory(t, s), (took * time.Duration(1_000_000/max(cards, 1))).Round(time.Minute))
	began = time.Now()
	if out, err := s.cards("import", "--tenant", "dev", file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("the same file again, all used before: %v", time.Since(began).Round(time.Second))
	s.stop()
	newVaultKey(t, dir)
	s = start(t, dir, nil, nil)
	began = time.Now()
	if out, err := s.cards("rekey"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took = time.Since(began)
	t.Logf("rekey of %d cards: %v, %.0f a second", cards, took.Round(time.Second), float64(cards)/took.Seconds())
}

// residentMemory is the most that the server had of the machine's memory.
func residentMemory(t *testing.T, s *server) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if peak, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(peak)
		}
	}
	return "unknown"
}
