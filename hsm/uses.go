package hsm

import (
	"sync"
	"sync/atomic"
)

// useCounts are what each key of a member has been given.
type useCounts struct{ uses sync.Map } // *atomic.Uint64, by name

// count adds a unit of work to what a key has been given.
func (u *useCounts) count(name string) {
	n, ok := u.uses.Load(name)
	if !ok {
		n, _ = u.uses.LoadOrStore(name, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// Uses counts the units of work given to the key called name since the process opened the
// token: signatures, seals, openings, HMACs, agreements. Proofs and self-tests do not count.
func (u *useCounts) Uses(name string) uint64 {
	if n, ok := u.uses.Load(name); ok {
		return n.(*atomic.Uint64).Load()
	}
	return 0
}

// Uses is the sum of the members' counts; see Token.Uses.
func (h *HSM) Uses(name string) uint64 {
	var sum uint64
	for _, t := range h.members {
		sum += t.Uses(name)
	}
	return sum
}

// using gives the key called name for one unit of work, and counts it; see usable.
func (e *epoch) using(name string, inactive bool) (*tokenKey, error) {
	k, err := e.usable(name, inactive)
	if err == nil {
		e.token.count(name)
	}
	return k, err
}
