package audit

import (
	"context"
	"log/slog"
)

// Queued is how many appends wait.
func Queued(w *Writer) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// Underway is how many operations have their ticket and no result yet.
func Underway(l *Log) int { return int(l.writer.underway.Load()) }

// Gathering reports whether a commit waits for operations, or has not noticed that they came.
func Gathering(l *Log) bool {
	w := l.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.want != 0 || len(w.enough) != 0
}

// AwaitReset waits until this end of a connection knows that the other has gone away.
func AwaitReset(s *SyslogAnchor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.conn.Read(make([]byte, 1))
}

// Busy reports whether somebody commits.
func Busy(w *Writer) bool { return len(w.turn) != 0 }

// Step is what Run does at each tick.
func Step(c *Checkpointer) { c.step(context.Background()) }

// Anchorage feeds one anchor.
type Anchorage struct{ *anchorage }

// NewAnchorage makes one.
func NewAnchorage(a Anchor) Anchorage {
	return Anchorage{newAnchorage(a, slog.New(slog.DiscardHandler))}
}

// Run, Take, Close and Stats are the anchorage's.
func (a Anchorage) Run()              { a.run() }
func (a Anchorage) Take(c Checkpoint) { a.take(c) }
func (a Anchorage) Close()            { a.close() }
func (a Anchorage) Stats() AnchorStats {
	return a.stats()
}
