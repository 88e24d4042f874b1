package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// CheckpointStore keeps checkpoints beside the entries.
type CheckpointStore interface {
	// Head gives the tree of what is committed, TreeAt that of its first entries, both as
	// the database has them.
	Head(ctx context.Context) (*Tree, error)
	TreeAt(ctx context.Context, size uint64) (*Tree, error)
	// SaveCheckpoint keeps a checkpoint; one of the same size stays as it is.
	SaveCheckpoint(ctx context.Context, c Checkpoint) error
	// LastCheckpoint gives the largest; false if there is none.
	LastCheckpoint(ctx context.Context) (Checkpoint, bool, error)
	// Rows gives entries from a number on, at most limit, in order.
	Rows(ctx context.Context, from uint64, limit int) ([]Row, error)
	// Logs gives the logs of the database, this one among them.
	Logs(ctx context.Context) ([]LogInfo, error)
}

// CheckpointConfig says how checkpoints are made.
type CheckpointConfig struct {
	Origin string
	// Base is the origin of the database's log 0. What anchors kept of the logs beside this one
	// is left to them to compare, but each must be there. Empty for a log that has none beside it.
	Base   string
	Signer Signer
	Store  CheckpointStore
	Limits Limits
	// Free gives the bytes that are free where the database is; nil if that is not ours
	// to know.
	Free func() (uint64, error)
	// Pins are the SHA-256 of the keys that may have signed the last checkpoint; nil for
	// any.
	Pins map[[sha256.Size]byte]bool
	// Strict refuses to start where a doubt about the log would be a warning.
	Strict bool
	// Anchors are told of every checkpoint.
	Anchors []Anchor
	// Every is how often a checkpoint is made when there are new entries.
	Every time.Duration
	Log   *slog.Logger
}

// signWithin bounds one checkpoint: reading, signing and keeping it.
const signWithin = 10 * time.Second

// Checkpointer makes the log's checkpoints. Appends never wait for it.
type Checkpointer struct {
	cfg     CheckpointConfig
	log     *Log
	anchors []*anchorage

	mu     sync.Mutex // guards all below
	last   Checkpoint // empty before the first
	made   uint64     // signatures
	failed uint64     // tries that made none
	// trouble is the reason why none is made, as it was logged; empty while all is well.
	trouble string
	held    bool // operations may not begin, as it was logged
}

// NewCheckpointer gives the log's checkpointer, and puts its limits on the log.
func NewCheckpointer(l *Log, cfg CheckpointConfig) *Checkpointer {
	c := &Checkpointer{cfg: cfg, log: l}
	for _, a := range cfg.Anchors {
		c.anchors = append(c.anchors, newAnchorage(a, cfg.Log))
	}
	l.guard.limits.Store(&cfg.Limits)
	return c
}

// Start compares the database with the last checkpoint in it and with anchors that can be
// read, and takes up from there. ErrChanged says that the database is an older copy, or
// another one.
func (c *Checkpointer) Start(ctx context.Context) error {
	if err := c.log.writer.sync(ctx); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	last, ok, err := c.cfg.Store.LastCheckpoint(ctx)
	if err != nil {
		return fmt.Errorf("read the last checkpoint: %w", err)
	}
	if ok {
		if err := c.agrees(ctx, last, "the last checkpoint in the database"); err != nil {
			return err
		}
		c.mu.Lock()
		c.last = last
		c.mu.Unlock()
		c.log.writer.signed(last.Size, c.log.now())
	}
	if err := c.takeUp(ctx, last, ok); err != nil {
		return err
	}
	logs, err := c.cfg.Store.Logs(ctx)
	if err != nil {
		return fmt.Errorf("list the logs: %w", err)
	}
	if err := c.listed(logs, ok); err != nil {
		return err
	}
	for _, a := range c.cfg.Anchors {
		if err := c.anchorAgrees(ctx, a, logs); err != nil {
			return err
		}
	}
	return nil
}

// listed compares what the database's list says of this log with its checkpoints. Where one
// was kept there is one for good.
func (c *Checkpointer) listed(logs []LogInfo, signed bool) error {
	for _, l := range logs {
		if l.Origin == c.cfg.Origin && !signed {
			return c.object(fmt.Errorf("%w: the log has no checkpoint, and had one", ErrChanged))
		}
	}
	return nil
}

// maxCompared is how many of an anchor's checkpoints a start compares: about an hour of
// them. Verify compares all.
const maxCompared = 4096

// anchorAgrees compares the database with what an anchor that can be read has kept: the
// newest checkpoints, and before them those that a smaller one follows, where a history
// ended.
func (c *Checkpointer) anchorAgrees(ctx context.Context, a Anchor, logs []LogInfo) error {
	reader, ok := a.(interface{ Kept() ([]Checkpoint, error) })
	if !ok {
		return nil
	}
	kept, err := reader.Kept()
	if err != nil {
		return fmt.Errorf("read anchor %s: %w", a.Name(), err)
	}
	own := kept[:0:0]
	for _, k := range kept {
		if k.Origin == c.cfg.Origin || !sibling(c.cfg.Base, k.Origin) {
			own = append(own, k)
			continue
		}
		if !slices.ContainsFunc(logs, func(l LogInfo) bool { return OriginOf(c.cfg.Base, l) == k.Origin }) {
			return fmt.Errorf("%w: anchor %s has checkpoints of the log %s, and the database no such log", ErrChanged, a.Name(), k.Origin)
		}
	}
	kept = own
	for i, k := range kept {
		if len(kept)-i > maxCompared && kept[i+1].Size > k.Size {
			continue
		}
		if err := c.agrees(ctx, k, "anchor "+a.Name()); err != nil {
			return err
		}
	}
	return nil
}

// agrees compares the database with a checkpoint that was made of it.
func (c *Checkpointer) agrees(ctx context.Context, k Checkpoint, from string) error {
	if k.Origin != c.cfg.Origin {
		return fmt.Errorf("%s is of the log %s, this one is %s", from, k.Origin, c.cfg.Origin)
	}
	head := c.log.writer.State().Tree
	if k.Size > head.Size() {
		return fmt.Errorf("%w: %s has %d entries, the database %d", ErrChanged, from, k.Size, head.Size())
	}
	tree, err := c.cfg.Store.TreeAt(ctx, k.Size)
	if err != nil {
		return err
	}
	if tree.Root() != k.Root {
		return fmt.Errorf("%w: its first %d entries are not those of %s", ErrChanged, k.Size, from)
	}
	return nil
}

// Run makes checkpoints and feeds the anchors until the context ends; then it makes the
// last one.
func (c *Checkpointer) Run(ctx context.Context) {
	var anchors sync.WaitGroup
	for _, a := range c.anchors {
		anchors.Go(a.run)
	}
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	always := context.WithoutCancel(ctx) // a checkpoint that is being made is finished
	for ctx.Err() == nil {
		c.step(always)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	c.step(always)
	for _, a := range c.anchors {
		a.close()
	}
	anchors.Wait()
}

// step looks at disk and database, and makes a checkpoint if there are new entries.
func (c *Checkpointer) step(ctx context.Context) {
	c.log.guard.full.Store(c.full())
	ctx, cancel := context.WithTimeout(ctx, signWithin)
	defer cancel()
	made, err := c.checkpoint(ctx)
	c.report(err, errors.Is(err, ErrChanged))
	c.reportHeld(c.Well())
	if made != nil {
		for _, a := range c.anchors {
			a.take(*made)
		}
	}
}

func (c *Checkpointer) full() bool {
	if c.cfg.Free == nil || c.cfg.Limits.Free == 0 {
		return false
	}
	free, err := c.cfg.Free()
	return err == nil && free < c.cfg.Limits.Free
}

// checkpoint signs what is committed, if the database agrees that it is.
func (c *Checkpointer) checkpoint(ctx context.Context) (*Checkpoint, error) {
	err := c.log.writer.sync(ctx)
	at, state := c.log.now(), c.log.writer.State()
	if err == nil {
		err = c.unchanged(ctx, state)
	}
	if errors.Is(err, ErrChanged) { // taken back by nothing but a comparison that went well
		c.log.writer.dispute(state.Tree)
	}
	if err != nil {
		return nil, err
	}
	c.log.writer.settle()
	if state.Tree.Size() <= state.Signed {
		return nil, nil
	}
	made, err := sign(ctx, c.cfg.Signer, c.cfg.Origin, state.Tree, at)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	if err := c.cfg.Store.SaveCheckpoint(ctx, made); err != nil {
		return nil, err
	}
	c.log.writer.signed(made.Size, at)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = made
	c.made++
	return &made, nil
}

// unchanged compares the database with what this process committed and, if it differed
// before, with what it differed from: an append that had begun by then may have closed the
// log's end behind a gap.
func (c *Checkpointer) unchanged(ctx context.Context, state State) error {
	if state.Disputed != nil {
		if err := c.holds(ctx, state.Disputed); err != nil {
			return err
		}
	}
	return c.holds(ctx, state.Tree)
}

// holds compares the database with a tree that was committed: its head, and the tree of that
// size as other connections than the writing one read it. The writing one knows pages that it
// wrote, and would not see others in their place. The database may be further: appends go on
// meanwhile.
func (c *Checkpointer) holds(ctx context.Context, committed *Tree) error {
	head, err := c.cfg.Store.Head(ctx)
	if err != nil {
		return err
	}
	if head.Size() < committed.Size() {
		return fmt.Errorf("%w: it has %d entries of %d", ErrChanged, head.Size(), committed.Size())
	}
	read, err := c.cfg.Store.TreeAt(ctx, committed.Size())
	if err != nil {
		return err
	}
	if !read.Equal(committed) || head.Size() == committed.Size() && !head.Equal(committed) {
		return fmt.Errorf("%w: its first %d entries are others", ErrChanged, committed.Size())
	}
	return nil
}

// report logs a change of state, once.
func (c *Checkpointer) report(err error, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := ""
	if err != nil {
		c.failed++
		text = err.Error()
	}
	if text == c.trouble {
		return
	}
	c.trouble = text
	switch {
	case err == nil:
		c.cfg.Log.Info("checkpoints are made again")
	case changed:
		c.cfg.Log.Error("the audit log was changed under this process: nothing is signed and nothing leaves", "error", err)
	default:
		c.cfg.Log.Warn("no checkpoint can be made", "error", err)
	}
}

// reportHeld logs, once, that operations may not begin, and that they may again.
func (c *Checkpointer) reportHeld(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (why != nil) == c.held {
		return
	}
	c.held = why != nil
	if c.held {
		c.cfg.Log.Error("nothing new is begun", "error", why)
		return
	}
	c.cfg.Log.Info("operations may begin again")
}

// Latest gives the last checkpoint; false before the first.
func (c *Checkpointer) Latest() (Checkpoint, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.last.Note != ""
}

// Well is nil while operations may begin.
func (c *Checkpointer) Well() error { return c.log.guard.begin(c.log.writer.State(), c.log.now()) }

// Stats are the figures of the log.
type Stats struct {
	Entries     uint64        // committed
	Unsigned    uint64        // of these, without a checkpoint
	UnsignedAge time.Duration // of the oldest of them
	Made        uint64        // checkpoints
	Failed      uint64        // tries that made none
	Anchors     []AnchorStats
}

// Stats gives the figures.
func (c *Checkpointer) Stats() Stats {
	var s Stats
	state := c.log.writer.State()
	if state.Tree != nil {
		s.Entries, s.Unsigned = state.Tree.Size(), state.Unsigned()
	}
	if !state.Since.IsZero() {
		s.UnsignedAge = max(0, c.log.now().Sub(state.Since))
	}
	c.mu.Lock()
	s.Made, s.Failed = c.made, c.failed
	c.mu.Unlock()
	for _, a := range c.anchors {
		s.Anchors = append(s.Anchors, a.stats())
	}
	return s
}
