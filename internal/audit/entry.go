package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind says what an entry records.
type Kind string

// The kinds.
const (
	KindIntent    Kind = "intent"    // an operation is about to be done
	KindResult    Kind = "result"    // an operation ended
	KindOperation Kind = "operation" // an operation that consumes nothing, intent and result at once
	KindRefusal   Kind = "refusal"   // a request was refused before anything was begun
	KindLifecycle Kind = "lifecycle" // the service started, stopped or took up a new configuration; bodies expired
)

// An Entry is one line of the log.
type Entry struct {
	Seq    uint64    // its place in the log, from 0, without gaps
	At     time.Time // to the millisecond, UTC
	Kind   Kind
	Ticket string // the operation's ticket: the same for intent and result; empty for refusals and lifecycle
	Tenant string // empty for lifecycle entries
	Body   []byte // JSON; nil once it has expired
}

// A Row is an entry with its place in the tree.
type Row struct {
	Entry
	// BodySHA256 is the body's digest, which stays when the body expires.
	BodySHA256 [sha256.Size]byte
	// Hashes are those that the entry added to the tree: its leaf's, then that of each
	// subtree that it completed, from small to large.
	Hashes []tlog.Hash
}

// NewRow gives an entry its place: the next of the tree.
func NewRow(e Entry, t *Tree) Row {
	r := Row{Entry: e, BodySHA256: sha256.Sum256(e.Body)}
	r.Seq = t.Size()
	r.Hashes = t.Add(r.LeafHash())
	return r
}

// leafDomain begins every leaf, so that it is no other digest's input, and names the
// form.
const leafDomain = "mintmark audit entry v1"

// Leaf is the leaf's data in the tree (docs/audit.md): the domain, the sequence number
// and the time in milliseconds since 1970 as eight bytes each, kind, ticket, tenant and
// the body's SHA-256; each of the seven behind its length as eight bytes. Numbers are
// big-endian. The body stands in it by its digest, so that an entry can be verified when
// its body has expired.
func (r Row) Leaf() []byte {
	var b []byte
	for _, part := range [][]byte{
		[]byte(leafDomain),
		binary.BigEndian.AppendUint64(nil, r.Seq),
		binary.BigEndian.AppendUint64(nil, uint64(r.At.UnixMilli())),
		[]byte(r.Kind), []byte(r.Ticket), []byte(r.Tenant),
		r.BodySHA256[:],
	} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// LeafHash is the leaf's hash in the tree (RFC 6962, 2.1).
func (r Row) LeafHash() tlog.Hash { return tlog.RecordHash(r.Leaf()) }

// Expired reports whether the body is gone and its digest left.
func (r Row) Expired() bool { return r.Body == nil }
