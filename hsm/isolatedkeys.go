package hsm

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// rings are the keyrings that a member's processes may be working by, each under the number
// that it is told to them with.
type rings struct {
	last  uint64
	known map[uint64]*Keyring
}

// add makes a keyring the one that is wanted. Those before the last are forgotten: a process
// that is told of one has left it when it is told of the next but one.
func (r *rings) add(ring *Keyring) {
	if r.known == nil {
		r.known = map[uint64]*Keyring{}
	}
	r.last++
	r.known[r.last] = ring
	delete(r.known, r.last-rememberedRings)
}

// rememberedRings is how many there are at most.
const rememberedRings = 8

// ringKeys are the keys of a keyring as the child's epoch has them.
type ringKeys struct {
	ring  *Keyring
	found tokenKeys
}

// wanted is the keyring that a process is to work by, as it is told to it.
func (m *isolated) wanted() ringSettings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return settingsOf(m.rings.last, m.rings.known[m.rings.last])
}

// ringOf gives the keyring of a number; nil if it was never told, or is forgotten.
func (m *isolated) ringOf(number uint64) *Keyring {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rings.known[number]
}

// keyring is the one that the child's epoch works by.
func (m *isolated) keyring() *Keyring {
	if keys := m.keys.Load(); keys != nil {
		return keys.ring
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rings.known[m.rings.last]
}

// useAgain is how long a child that cannot take up a keyring yet is left alone.
const useAgain = 50 * time.Millisecond

// Use has the child take up another keyring; see Token.Use. One that comes after it, should
// it be lost meanwhile, begins with it.
func (m *isolated) Use(ctx context.Context, ring *Keyring) error {
	m.mu.Lock()
	m.rings.add(ring)
	m.mu.Unlock()
	b, err := json.Marshal(m.wanted())
	if err != nil {
		return err
	}
	for {
		p := m.current.Load()
		if p == nil {
			return nil
		}
		_, _, err := p.exchange(ctx, request{op: opUse, fields: [][]byte{b}}, func() {})
		if err == nil || errors.Is(err, errProcessLost) || m.closed.Load() {
			return nil
		}
		select {
		case <-time.After(useAgain): // it is loading the module, or opening the token
		case <-ctx.Done():
			return err
		}
	}
}

// Inventory reads the attributes of every object on the token.
func (m *isolated) Inventory(ctx context.Context) (Inventory, error) {
	info, err := m.Info(ctx)
	if err != nil {
		return Inventory{}, err
	}
	b, err := m.first(ctx, m.ec, opInventory)
	if err != nil {
		return Inventory{}, err
	}
	var seen []Observed
	if err := json.Unmarshal(b, &seen); err != nil {
		return Inventory{}, errMessage
	}
	return inventoryOf(m, info, seen), nil
}

// ringSettings are a keyring as it is told to the child.
type ringSettings struct {
	Number  uint64
	Keyring *Keyring
	Digest  string
	Bound   []Purpose // nil for all
}

func settingsOf(number uint64, r *Keyring) ringSettings {
	s := ringSettings{Number: number, Keyring: r, Digest: r.digest}
	if r.bound != nil {
		s.Bound = []Purpose{}
		for _, p := range Purposes() {
			if r.binds(p) {
				s.Bound = append(s.Bound, p)
			}
		}
	}
	return s
}

// keyring is the child's own copy.
func (s ringSettings) keyring() *Keyring {
	r := s.Keyring
	if s.Bound != nil {
		r = r.Only(s.Bound...)
	}
	r.digest, r.number = s.Digest, s.Number
	return r
}
