package access

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// seen remembers which signatures one key has verified, so that a client that comes with the
// same bearer token again, as clients do for its minutes of life, costs no second
// verification. Whether a signature holds depends on token and key alone and never changes;
// all else about a token (its times, the client's rights, whether it was used before) is
// asked each time. What does not verify is not remembered. A nil one remembers nothing.
type seen struct {
	mu sync.Mutex // guards all below
	// Two generations: a token that is in use moves from old to young, what is not asked for
	// any more is forgotten with the old one.
	young, old map[[sha256.Size]byte]struct{}
}

// maxSeen is how many signatures a generation has, 32 bytes each.
const maxSeen = 1024

// verified reports whether verify says yes to j, or has said so before.
func (s *seen) verified(j jws, verify func() bool) bool {
	if s == nil {
		return verify()
	}
	id := j.digest()
	if s.has(id) {
		return true
	}
	if !verify() {
		return false
	}
	s.add(id)
	return true
}

func (s *seen) has(id [sha256.Size]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[id]; ok {
		return true
	}
	_, ok := s.old[id]
	if ok {
		s.keep(id)
	}
	return ok
}

func (s *seen) add(id [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(id)
}

// keep puts a signature into the young generation. The caller has the lock.
func (s *seen) keep(id [sha256.Size]byte) {
	if len(s.young) >= maxSeen {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = map[[sha256.Size]byte]struct{}{}
	}
	s.young[id] = struct{}{}
}

// digest is the SHA-256 of the signing input behind its length, and of the signature: of all
// that a verification looks at but the key.
func (j jws) digest() [sha256.Size]byte {
	b := make([]byte, 0, 8+len(j.input)+len(j.signature))
	b = binary.BigEndian.AppendUint64(b, uint64(len(j.input)))
	b = append(b, j.input...)
	b = append(b, j.signature...)
	return sha256.Sum256(b)
}
