package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// claim is a checkpoint, and where it was found.
type claim struct {
	Checkpoint
	from     string
	anchored bool
}

// claims are all checkpoints that a log is held against, in order of size: those of the
// source and those of anchors.
type claims struct {
	origin   string
	pins     map[[sha256.Size]byte]bool
	known    [][]byte // SPKI of trusted keys
	own      checkpointPages
	next     *Checkpoint // of own
	anchored []claim
}

func newClaims(v Verification) *claims {
	c := &claims{origin: v.Origin, pins: maps.Clone(v.Pins), own: checkpointPages{source: v.Source}}
	if c.pins == nil {
		c.pins = map[[sha256.Size]byte]bool{}
	}
	for _, spki := range v.Keys {
		c.pins[sha256.Sum256(spki)] = true
		c.known = append(c.known, spki)
	}
	for name, all := range v.Anchored {
		for _, k := range all {
			c.anchored = append(c.anchored, claim{k, fmt.Sprintf("the checkpoint %d of anchor %s", k.Size, name), true})
		}
	}
	slices.SortFunc(c.anchored, func(a, b claim) int { return cmp.Compare(a.Size, b.Size) })
	return c
}

// at gives and takes the next checkpoint of a size at most; nil if there is none.
func (c *claims) at(ctx context.Context, size uint64) (*claim, error) {
	next, err := c.beyond(ctx)
	if err != nil || next == nil || next.Size > size {
		return nil, err
	}
	c.drop(*next)
	return next, nil
}

// beyond gives the next checkpoint, whatever its size.
func (c *claims) beyond(ctx context.Context) (*claim, error) {
	if c.next == nil {
		var err error
		if c.next, err = c.own.next(ctx); err != nil {
			return nil, err
		}
	}
	if len(c.anchored) != 0 && (c.next == nil || c.anchored[0].Size < c.next.Size) {
		return &c.anchored[0], nil
	}
	if c.next == nil {
		return nil, nil
	}
	return &claim{*c.next, fmt.Sprintf("checkpoint %d", c.next.Size), false}, nil
}

// drop takes the next checkpoint away.
func (c *claims) drop(k claim) {
	if k.anchored {
		c.anchored = c.anchored[1:]
		return
	}
	c.next = nil
}

// trusted is nil if a trusted key signed the checkpoint, for this log.
func (c *claims) trusted(k claim) error {
	if c.origin == "" {
		c.origin = k.Origin
	}
	if k.Origin != c.origin {
		return fmt.Errorf("it is of another log, %q", k.Origin)
	}
	var keys []*CheckpointKey
	for _, spki := range append(slices.Clone(c.known), k.SPKI) {
		if !c.pins[sha256.Sum256(spki)] {
			continue
		}
		key, err := NewCheckpointKey(k.Origin, spki)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	// A note that comes without its key is verified with one that came with another.
	if c.pins[sha256.Sum256(k.SPKI)] && !slices.ContainsFunc(c.known, func(b []byte) bool { return bytes.Equal(b, k.SPKI) }) {
		c.known = append(c.known, k.SPKI)
	}
	// A list with one key twice is refused.
	slices.SortFunc(keys, func(a, b *CheckpointKey) int { return cmp.Compare(a.id, b.id) })
	keys = slices.CompactFunc(keys, func(a, b *CheckpointKey) bool { return a.id == b.id })
	if len(keys) == 0 {
		return ErrSignature
	}
	return k.Verify(keys...)
}
