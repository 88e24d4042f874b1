package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Verification says what a log is held against.
type Verification struct {
	Source Source
	// Origin is the log's; empty for what its checkpoints say, which must be one.
	Origin string
	// Pins are the SHA-256 of the public keys that are trusted to sign checkpoints.
	Pins map[[sha256.Size]byte]bool
	// Keys are such keys, as SPKI, for checkpoints that come without theirs.
	Keys [][]byte
	// Anchored are checkpoints that were kept elsewhere, by where.
	Anchored map[string][]Checkpoint
	// Rows are the business rows that belong to the log; nil where there are none to be
	// read.
	Rows BusinessRows
	// MaxUnsigned is how old an entry under no checkpoint may be; zero for no limit. Now is
	// the time that it is held against, zero for that of the newest entry.
	MaxUnsigned time.Duration
	Now         time.Time
	// Progress is told the number of entries done, now and then; nil for nobody.
	Progress func(done, of uint64)
}

// A Fault is one thing that is wrong, with the entry where it shows.
type Fault struct {
	Seq  uint64
	What string
}

func (f Fault) String() string { return fmt.Sprintf("entry %d: %s", f.Seq, f.What) }

// Report is what a verification found.
type Report struct {
	Origin      string
	Entries     uint64
	Expired     uint64    // of these, without body
	Checkpoints uint64    // verified
	Anchored    uint64    // of these, from anchors
	Covered     uint64    // entries that the largest checkpoint covers
	Root        tlog.Hash // of all entries, up to the first that is missing
	// Open are intents without a result: operations under way, or ended by a crash.
	Open []Row
	// Unprovable counts business rows from the time of expired entries.
	Unprovable uint64
	// Faults are what is wrong, the first entry first; at most maxFaults.
	Faults []Fault
}

// maxFaults bounds a report.
const maxFaults = 100

// verifier goes through a log once.
type verifier struct {
	Verification
	log    LogInfo
	report Report
	claims *claims

	tree   *Tree
	broken bool      // entries are missing: the tree cannot be made
	next   uint64    // the number of the next entry: the tree's size while it can be made
	good   uint64    // the size of the largest checkpoint that the tree agreed with
	since  time.Time // of the oldest entry behind it; zero if there is none
	newest time.Time // of all entries
	ops    *operations
}

func newVerifier(v Verification, l LogInfo, all *ledger, size uint64) *verifier {
	return &verifier{Verification: v, log: l, tree: NewTree(0, nil), ops: &operations{ledger: all, open: map[string]openOperation{}, size: size}}
}

// Verify reads a whole log and holds it against everything it can be held against: each
// entry against its leaf, the tree against every checkpoint, the checkpoints' signatures,
// results against intents, and the business rows against the entries. It goes on after a
// fault. The error is one of reading; what is wrong with the log is in the report.
//
// Where there are several logs VerifyAll is wanted: a row may have its entry in any of them.
func Verify(ctx context.Context, v Verification) (Report, error) {
	all := newLedger(v.Rows)
	size, err := v.Source.Size(ctx)
	if err != nil {
		return Report{}, err
	}
	f := newVerifier(v, LogInfo{}, all, size)
	// The rows first: what is in them has its entry by now, if it ever has.
	if err := all.read(ctx); err != nil {
		return f.report, err
	}
	if err := f.run(ctx); err != nil {
		return f.report, err
	}
	if err := all.finish(ctx); err != nil {
		return f.report, err
	}
	for _, what := range all.lost {
		f.fault(f.next, "%s", what)
	}
	f.report.Unprovable = all.unprovable
	return f.done(), nil
}

// run reads the log.
func (f *verifier) run(ctx context.Context) error {
	f.claims = newClaims(f.Verification)
	if err := f.entries(ctx, f.ops.size); err != nil {
		return err
	}
	if err := f.rest(ctx); err != nil {
		return err
	}
	f.ops.finish(f)
	f.report.Entries, f.report.Root = f.next, f.tree.Root()
	return nil
}

// done gives the report.
func (f *verifier) done() Report {
	slices.SortStableFunc(f.report.Faults, func(a, b Fault) int { return cmp.Compare(a.Seq, b.Seq) })
	return f.report
}

func (f *verifier) fault(seq uint64, format string, a ...any) {
	if len(f.report.Faults) < maxFaults {
		f.report.Faults = append(f.report.Faults, Fault{seq, fmt.Sprintf(format, a...)})
	}
}

// entries goes through the entries, and through the checkpoints between them.
func (f *verifier) entries(ctx context.Context, size uint64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := f.next
		rows, err := f.Source.Rows(ctx, before, page)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		for _, r := range rows {
			f.entry(r)
			if err := f.reached(ctx); err != nil {
				return err
			}
		}
		if f.next <= before { // a server that lies, or rows that stand still
			f.fault(before, "missing: entries before it are given for it, again and again")
			return nil
		}
		if f.Progress != nil {
			f.Progress(f.next, max(size, f.next))
		}
	}
}

// entry takes one entry into the tree.
func (f *verifier) entry(r Row) {
	want := f.next
	switch {
	case r.Seq > want:
		// What is not there has no leaf: from here on entries are only counted.
		f.fault(want, "missing: the next is entry %d", r.Seq)
		f.broken = true
	case r.Seq < want:
		f.fault(r.Seq, "out of order: it stands behind entry %d", want-1)
		return
	}
	f.next = r.Seq + 1
	if f.since.IsZero() {
		f.since = r.At
	}
	if r.At.After(f.newest) {
		f.newest = r.At
	}
	leaf := r.LeafHash()
	switch {
	case !r.Expired() && sha256.Sum256(r.Body) != r.BodySHA256:
		f.fault(r.Seq, "its body was changed")
	case len(r.Hashes) == 0 || r.Hashes[0] != leaf:
		f.fault(r.Seq, "it was changed: it is not the leaf that was recorded")
	}
	// The tree goes on with the recorded leaf: if that is the one that was signed, the
	// fault is this entry's and no other's.
	if len(r.Hashes) != 0 {
		leaf = r.Hashes[0]
	}
	if !f.broken {
		if made := f.tree.Add(leaf); len(r.Hashes) != 0 && !slices.Equal(made, r.Hashes) {
			f.fault(r.Seq, "the tree's hashes that were recorded with it are others")
		}
	}
	if r.Expired() {
		f.report.Expired++
	}
	f.ops.entry(f, r)
}

// reached holds the tree against the checkpoints of its size, and those of a smaller one
// that were kept while the entries behind them were read: a checkpoint comes a moment
// after its entries.
func (f *verifier) reached(ctx context.Context) error {
	for {
		c, err := f.claims.at(ctx, f.next)
		if err != nil || c == nil {
			return err
		}
		if err := f.claim(ctx, *c); err != nil {
			return err
		}
	}
}

// claim holds the tree against one checkpoint. The error is one of reading.
func (f *verifier) claim(ctx context.Context, c claim) error {
	last := max(c.Size, 1) - 1
	if err := f.claims.trusted(c); err != nil {
		f.fault(last, "%s: %v", c.from, err)
		return nil
	}
	if f.broken {
		return nil // that is why
	}
	since := time.Time{}
	agrees := f.tree.Root() == c.Root
	if c.Size < f.next {
		var err error
		if agrees, since, err = f.late(ctx, c); err != nil {
			return err
		}
	}
	switch {
	case !agrees && f.faultBefore(f.next): // a late proof fails with anything that is wrong by now
		return nil
	case !agrees && f.good > last: // another checkpoint of as many entries was signed for what is there
		f.fault(last, "%s was signed for other entries: the log has two histories", c.from)
		return nil
	case !agrees:
		f.fault(f.good, "%s was signed for other entries: one of %d to %d was changed, with all that was recorded of it", c.from, f.good, last)
		return nil
	}
	f.good, f.since = c.Size, since
	f.report.Checkpoints++
	f.report.Covered = max(f.report.Covered, c.Size)
	if c.anchored {
		f.report.Anchored++
	}
	return nil
}

// late holds the tree against a checkpoint of fewer entries than it has by now, by a proof
// of consistency (RFC 6962, 2.1.2), and gives the time of the first entry behind it. The
// proof's hashes are read again and need not be believed: it fails with any others.
func (f *verifier) late(ctx context.Context, c claim) (agrees bool, since time.Time, err error) {
	rows, err := f.Source.Rows(ctx, c.Size, 1)
	if err != nil {
		return false, since, err
	}
	if len(rows) == 0 {
		return false, since, nil // it was there when it was read
	}
	if c.Size == 0 { // of nothing there is no proof
		return c.Root == emptyRoot, rows[0].At, nil
	}
	size, root := int64(f.tree.Size()), f.tree.Root()
	proof, err := tlog.ProveTree(size, int64(c.Size), HashReader(ctx, f.Source))
	if errors.Is(err, errNoHash) {
		return false, since, nil
	}
	if err != nil {
		return false, since, err
	}
	return tlog.CheckTree(proof, size, root, int64(c.Size), c.Root) == nil, rows[0].At, nil
}

// faultBefore reports whether something is known to be wrong with the first entries.
func (f *verifier) faultBefore(size uint64) bool {
	return slices.ContainsFunc(f.report.Faults, func(k Fault) bool { return k.Seq < size })
}

// rest is what was signed and is not there. A log that is being written to has grown
// meanwhile.
func (f *verifier) rest(ctx context.Context) error {
	for {
		if err := f.reached(ctx); err != nil {
			return err
		}
		c, err := f.claims.beyond(ctx)
		if err != nil {
			return err
		}
		if c == nil {
			break
		}
		before := f.next
		if err := f.entries(ctx, c.Size); err != nil {
			return err
		}
		if f.next != before {
			continue
		}
		if err := f.claims.trusted(*c); err != nil {
			f.fault(c.Size-1, "%s: %v", c.from, err)
		} else {
			f.fault(before, "missing, with all after it: %s was signed for %d entries", c.from, c.Size)
		}
		f.claims.drop(*c)
	}
	f.report.Origin = f.claims.origin
	f.uncovered()
	switch {
	case f.report.Checkpoints != 0 || len(f.report.Faults) != 0:
	case f.log.Origin != "" && f.next == 0:
		f.fault(0, "missing, with all after it and all checkpoints: the log had one")
	case f.next > 0 && !f.begun():
		f.fault(0, "nothing is signed: there is no checkpoint")
	}
	return nil
}

// uncovered finds entries under no checkpoint that are too old for that: a log whose
// checkpoints were deleted from some size on can hold anything behind it.
func (f *verifier) uncovered() {
	now := f.Now
	// Whoever takes a log that nobody writes signs what the process before left, however late.
	// But that did not begin anything so long after the oldest of it.
	if now.IsZero() || f.log.Idle {
		now = f.newest
	}
	if f.MaxUnsigned == 0 || f.since.IsZero() || f.fewLeft() || f.report.Checkpoints == 0 || now.Sub(f.since) <= f.MaxUnsigned {
		return
	}
	f.fault(f.good, "entries %d to %d are under no checkpoint, since %s", f.good, f.next-1, f.since.UTC().Format(time.RFC3339))
}

// begun reports whether the log may have no checkpoint yet: one of several, of which none was
// ever noted, with no more entries than a process makes before its first.
func (f *verifier) begun() bool {
	if f.log.Origin != "" || f.log.Number == 0 && !f.log.Idle {
		return false
	}
	return f.fewLeft() || f.MaxUnsigned != 0 && f.newest.Sub(f.since) <= f.MaxUnsigned
}

// mostByCommand is how many entries a command may make, in whatever time: of a ceremony, one
// for each key and what frames them. Commands sign no checkpoint.
const mostByCommand = 64

// fewLeft reports whether what is under no checkpoint may be a command's, on a log that nobody
// writes any more.
func (f *verifier) fewLeft() bool { return f.log.Idle && f.next-f.good <= mostByCommand }
