package audit_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/audit"
)

// The reference of RFC 6962, 2.1, written from its text: the hash of a list of leaves.
func merkleTreeHash(leaves [][]byte) [32]byte {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		left, right := merkleTreeHash(leaves[:k]), merkleTreeHash(leaves[k:])
		return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
	}
}

func leafData(n int) [][]byte {
	var all [][]byte
	for i := range n {
		all = append(all, binary.AppendUvarint(nil, uint64(i)))
	}
	return all
}

func TestTreeIsThatOfTheRFC(t *testing.T) {
	leaves := leafData(300)
	tree := audit.NewTree(0, nil)
	var stored []tlog.Hash
	for n := 0; ; n++ {
		if got, want := tree.Root(), merkleTreeHash(leaves[:n]); got != want {
			t.Fatalf("root of %d leaves is %x, want %x", n, got, want)
		}
		if tree.Size() != uint64(n) || int64(len(stored)) != tlog.StoredHashCount(int64(n)) {
			t.Fatalf("size %d with %d stored hashes after %d leaves", tree.Size(), len(stored), n)
		}
		// The tree is found again in what was stored.
		var peaks []tlog.Hash
		for _, i := range audit.PeakIndexes(uint64(n)) {
			peaks = append(peaks, stored[i])
		}
		if !audit.NewTree(uint64(n), peaks).Equal(tree) {
			t.Fatalf("the stored hashes of %d leaves give another tree", n)
		}
		if n == len(leaves) {
			return
		}
		clone := tree.Clone()
		stored = append(stored, tree.Add(tlog.RecordHash(leaves[n]))...)
		if clone.Size() != uint64(n) || clone.Root() != merkleTreeHash(leaves[:n]) {
			t.Fatal("the clone has grown with the tree")
		}
	}
}

func TestStoredHashIsFoundWithItsEntry(t *testing.T) {
	tree := audit.NewTree(0, nil)
	index := int64(0)
	for seq := range uint64(300) {
		for at := range tree.Add(tlog.Hash{}) {
			if gotSeq, gotAt := audit.StoredAt(index); gotSeq != seq || gotAt != at {
				t.Fatalf("hash %d is with entry %d at %d, want entry %d at %d", index, gotSeq, gotAt, seq, at)
			}
			index++
		}
	}
}

// Proofs made from what is stored convince an implementation that shares nothing with it.
func TestProofsConvinceAnotherImplementation(t *testing.T) {
	const size = 77
	leaves := leafData(size)
	tree := audit.NewTree(0, nil)
	var stored []tlog.Hash
	var roots [][]byte
	for _, l := range leaves {
		root := tree.Root()
		roots = append(roots, root[:])
		stored = append(stored, tree.Add(tlog.RecordHash(l))...)
	}
	root := tree.Root()
	roots = append(roots, root[:])
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var all []tlog.Hash
		for _, i := range indexes {
			all = append(all, stored[i])
		}
		return all, nil
	})
	for n := range uint64(size) {
		p, err := tlog.ProveRecord(size, int64(n), reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, n, size, rfc6962.DefaultHasher.HashLeaf(leaves[n]), slicesOf(p), roots[size]); err != nil {
			t.Errorf("inclusion of %d: %v", n, err)
		}
		if n == 0 {
			continue
		}
		c, err := tlog.ProveTree(size, int64(n), reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, n, size, slicesOf(c), roots[n], roots[size]); err != nil {
			t.Errorf("consistency from %d: %v", n, err)
		}
	}
}

func slicesOf(hashes []tlog.Hash) [][]byte {
	var all [][]byte
	for _, h := range hashes {
		all = append(all, h[:])
	}
	return all
}

// A leaf written out byte by byte, as docs/audit.md describes it.
func TestLeafIsTheDocumentedBytes(t *testing.T) {
	row := audit.Row{
		Entry:      audit.Entry{Seq: 258, At: kept, Kind: audit.KindIntent, Ticket: "t-1", Tenant: "bänk", Body: []byte(`{"a":1}`)},
		BodySHA256: sha256.Sum256([]byte(`{"a":1}`)),
	}
	const want = "0000000000000017" + "6d696e746d61726b20617564697420656e747279207631" + // "mintmark audit entry v1"
		"0000000000000008" + "0000000000000102" +
		"0000000000000008" + "000001a20320a27b" +
		"0000000000000006" + "696e74656e74" +
		"0000000000000003" + "742d31" +
		"0000000000000005" + "62c3a46e6b" +
		"0000000000000020" + "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
	if diff := cmp.Diff(want, hex.EncodeToString(row.Leaf())); diff != "" {
		t.Error(diff)
	}
	if got := row.LeafHash(); !slices.Equal(got[:], rfc6962.DefaultHasher.HashLeaf(row.Leaf())) {
		t.Error("the leaf's hash is not the RFC's")
	}
	gone := row
	gone.Body = nil
	if !gone.Expired() || row.Expired() || gone.LeafHash() != row.LeafHash() {
		t.Error("an expired body changes the leaf")
	}
}
