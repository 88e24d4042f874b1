package audit_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
)

// late is a log at work: its checkpoints are kept when entries up to a number have been
// read, those behind them among these.
type late struct {
	audit.Source
	after uint64
	read  uint64
}

func (l *late) Rows(ctx context.Context, from uint64, limit int) ([]audit.Row, error) {
	rows, err := l.Source.Rows(ctx, from, min(limit, 5))
	if n := len(rows); n != 0 {
		l.read = max(l.read, rows[n-1].Seq+1)
	}
	return rows, err
}

func (l *late) Checkpoints(ctx context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	if l.read < l.after {
		return nil, nil
	}
	return l.Source.Checkpoints(ctx, from, limit)
}

// Checkpoints that are kept while their entries, and others after them, have been read
// count as those that were there before; they find what was changed under them, too.
func TestCheckpointKeptDuringTheReadingIsNoFault(t *testing.T) {
	s := newScene(t)
	for range 6 {
		s.cards(2) // four entries and a checkpoint
	}
	verify := func(after uint64, limit time.Duration) audit.Report {
		t.Helper()
		report, err := audit.Verify(t.Context(), audit.Verification{
			Source: &late{Source: s.store, after: after}, Origin: origin, Keys: [][]byte{s.sign.spki}, MaxUnsigned: limit, Now: s.clock.Now(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	for after := range uint64(25) {
		if r := verify(after, 0); len(r.Faults) != 0 || r.Checkpoints != 6 || r.Covered != 24 {
			t.Errorf("kept after entry %d was read: %d checkpoints, %d entries covered, %v", after, r.Checkpoints, r.Covered, r.Faults)
		}
	}
	// What is behind a late checkpoint keeps its age.
	s.clock.Add(time.Minute)
	s.beside("DELETE FROM audit_checkpoints WHERE size > 12")
	if r := verify(24, time.Second); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, "entries 12 to 23 are under no checkpoint") {
		t.Errorf("behind a late checkpoint: %v", r.Faults)
	}
	// What was changed with all its hashes is denied by one that comes late.
	s.beside("UPDATE audit_entries SET tenant = 'other' WHERE seq = 9")
	s.forge()
	if r := verify(24, 0); len(r.Faults) != 1 || r.Faults[0].Seq != 8 || !strings.Contains(r.Faults[0].What, "one of 8 to 11 was changed") {
		t.Errorf("changed before a late checkpoint: %v", r.Faults)
	}
	s.beside("UPDATE audit_entries SET hashes = x'' WHERE seq = 7")
	if r := verify(24, 0); len(r.Faults) == 0 || r.Faults[0].Seq != 7 {
		t.Errorf("without its hashes: %v", r.Faults)
	}
}
