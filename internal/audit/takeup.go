package audit

import (
	"context"
	"fmt"
	"time"
)

// takeUp looks at what a start goes on from: whether a trusted key signed the last
// checkpoint, and which entries came after it. A strict start is refused on what no
// honest process leaves behind; any other warns.
func (c *Checkpointer) takeUp(ctx context.Context, last Checkpoint, found bool) error {
	if found && c.cfg.Pins != nil {
		known := &claims{origin: c.cfg.Origin, pins: c.cfg.Pins}
		if err := known.trusted(claim{Checkpoint: last}); err != nil {
			if err := c.object(fmt.Errorf("the last checkpoint in the database, of %d entries: %w", last.Size, err)); err != nil {
				return err
			}
		}
	}
	size := c.log.writer.State().Tree.Size()
	if last.Size >= size {
		return nil
	}
	since, begun, err := c.uncovered(ctx, last.Size, size)
	if err != nil {
		return err
	}
	c.cfg.Log.Warn("entries without a checkpoint are taken up", "entries", size-last.Size, "first", last.Size, "since", since)
	// Age alone is no fault here: a process that was killed leaves a second's entries, for
	// as long as it is away. But none begins anything so long after the oldest of them.
	if limit := 2 * c.cfg.Limits.Age; limit != 0 && begun.Sub(since) > limit {
		return c.object(fmt.Errorf("%w: entries %d to %d are under no checkpoint, and operations were begun in them for %v", ErrChanged, last.Size, size-1, begun.Sub(since)))
	}
	return nil
}

// object refuses a strict start, and warns of it otherwise.
func (c *Checkpointer) object(err error) error {
	if c.cfg.Strict {
		return err
	}
	c.cfg.Log.Warn("the log may have been changed: verify it", "error", err)
	return nil
}

// uncovered gives the time of the first of some entries, and of the last intent in them.
func (c *Checkpointer) uncovered(ctx context.Context, from, size uint64) (since, begun time.Time, err error) {
	for from < size {
		rows, err := c.cfg.Store.Rows(ctx, from, page)
		if err != nil {
			return since, begun, fmt.Errorf("read entries without a checkpoint: %w", err)
		}
		if len(rows) == 0 {
			return since, begun, fmt.Errorf("%w: entry %d is missing", ErrChanged, from)
		}
		for _, r := range rows {
			if since.IsZero() {
				since, begun = r.At, r.At
			}
			if r.Kind == KindIntent {
				begun = r.At
			}
		}
		from = rows[len(rows)-1].Seq + 1
	}
	return since, begun, nil
}
