package audit

import (
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// A Tree is the right edge of a Merkle tree (RFC 6962, 2.1): what is needed to add to
// it and to know its root, and no more. It is the roots of the complete subtrees into
// which the leaves fall, one for each bit set in the size, the largest first.
type Tree struct {
	size  uint64
	peaks []tlog.Hash
}

// NewTree gives the tree of a size with the hashes at PeakIndexes of that size.
func NewTree(size uint64, peaks []tlog.Hash) *Tree {
	return &Tree{size: size, peaks: slices.Clone(peaks)}
}

// PeakIndexes says where the hashes of a tree's right edge are among the stored hashes,
// in tlog's numbering.
func PeakIndexes(size uint64) []int64 {
	var all []int64
	for done := uint64(0); done < size; {
		level := bits.Len64(size-done) - 1
		all = append(all, tlog.StoredHashIndex(level, int64(done>>level)))
		done += 1 << level
	}
	return all
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Root is the Merkle tree hash; of no leaves, the hash of nothing.
func (t *Tree) Root() tlog.Hash {
	if t.size == 0 {
		return emptyRoot
	}
	root := t.peaks[len(t.peaks)-1]
	for _, left := range slices.Backward(t.peaks[:len(t.peaks)-1]) {
		root = tlog.NodeHash(left, root)
	}
	return root
}

// emptyRoot is SHA-256 of nothing.
var emptyRoot = func() tlog.Hash {
	h, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic(err)
	}
	return h
}()

// Add adds a leaf and gives the hashes to store with it: its own, then that of each
// subtree it completes.
func (t *Tree) Add(leaf tlog.Hash) []tlog.Hash {
	stored := []tlog.Hash{leaf}
	h := leaf
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.peaks) - 1
		h = tlog.NodeHash(t.peaks[last], h)
		t.peaks = t.peaks[:last]
		stored = append(stored, h)
	}
	t.peaks = append(t.peaks, h)
	t.size++
	return stored
}

// Clone gives a copy that can be added to while this one stays.
func (t *Tree) Clone() *Tree { return NewTree(t.size, t.peaks) }

// Equal reports whether two trees have the same leaves.
func (t *Tree) Equal(other *Tree) bool {
	return t.size == other.size && slices.Equal(t.peaks, other.peaks)
}

// StoredAt says with which entry, and where among its hashes, a stored hash is kept.
func StoredAt(index int64) (seq uint64, at int) {
	level, n := tlog.SplitStoredHashIndex(index)
	return uint64(n+1)<<level - 1, level
}
