package hsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// ringSettings are a keyring as it is told to a child, under the number by which the child
// tells of its keys: what it has found are those of one keyring, and the parent may meanwhile
// have told it to take up the next.
type ringSettings struct {
	Number  uint64
	Keyring *Keyring
	Digest  string
	Bound   []Purpose // nil for all
}

func (r *Keyring) settings(number uint64) ringSettings {
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

// keyring is the keyring that the parent has told, as the child's own token takes it. The
// caller holds mu.
func (c *child) keyring(s ringSettings) *Keyring {
	ring := s.Keyring
	if s.Bound != nil {
		ring = ring.Only(s.Bound...)
	}
	ring.digest = s.Digest
	c.rings[ring], c.lastRing = s.Number, s.Number
	return ring
}

// use has the token take up the keyring that the parent has told, unless it has told the next
// meanwhile: calls may overtake each other.
func (c *child) use(ctx context.Context, t *Token, s ringSettings) error {
	c.mu.Lock()
	if s.Number <= c.lastRing {
		c.mu.Unlock()
		return errSuperseded
	}
	ring := c.keyring(s)
	t.wanted.Store(ring)
	c.mu.Unlock()
	return t.takeUp(ctx, ring)
}

// numberOf is the number of the keyring that an epoch has; those before it are over.
func (c *child) numberOf(ring *Keyring) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := c.rings[ring]
	maps.DeleteFunc(c.rings, func(_ *Keyring, n uint64) bool { return n < number })
	return number
}

// heldKeys are the keys of one keyring as the child's epoch has them.
type heldKeys struct {
	tokenKeys
	ring *Keyring
}

// want makes a keyring the one that children begin with.
func (m *isolated) want(ring *Keyring) ringSettings {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastRing++
	m.rings[m.lastRing] = ring
	m.wanted.Store(ring)
	return ring.settings(m.lastRing)
}

// wantedSettings are those of the keyring that children begin with.
func (m *isolated) wantedSettings() ringSettings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted.Load().settings(m.lastRing)
}

// found takes note of the keys that the child has, and of their keyring; those before it are
// over.
func (m *isolated) found(f keysFound) error {
	m.mu.Lock()
	ring := m.rings[f.Ring]
	for number := range m.rings {
		if ring != nil && number < f.Ring {
			delete(m.rings, number)
		}
	}
	m.mu.Unlock()
	if ring == nil {
		return errMessage
	}
	held := heldKeys{f.keys(ring, m.cfg.Name), ring}
	m.keys.Store(&held)
	m.remember(held.tokenKeys)
	return nil
}

// keyring is the one that work is done by at the moment.
func (m *isolated) keyring() *Keyring {
	if held := m.keys.Load(); held != nil {
		return held.ring
	}
	return m.wanted.Load()
}

// Use has the child take up another keyring; see Token.Use. A child that ends meanwhile is
// followed by one that begins with it.
func (m *isolated) Use(ctx context.Context, ring *Keyring) error {
	// A child that is being started is told its first keyring before any other.
	m.starting.Lock()
	settings := m.want(ring)
	p := m.current.Load()
	m.starting.Unlock()
	if p == nil {
		return nil
	}
	b, err := json.Marshal(settings)
	if err == nil {
		_, _, err = p.exchange(ctx, request{op: opUse, fields: [][]byte{b}}, func() {})
	}
	switch {
	case err == nil, errors.Is(err, errProcessLost):
		return nil
	case errors.Is(err, errNotSent), errors.Is(err, errLate), errors.Is(err, errMessage):
		p.lose(fmt.Errorf("keyring not taken up: %w", err)) // or it would go on with the one before
	}
	return fmt.Errorf("take up keyring on %q: %w", m.cfg.Name, err)
}
