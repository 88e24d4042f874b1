package hsm

import (
	"fmt"
	"maps"
	"slices"
)

// Clone is a copy whose entries can be changed without changing the keyring's. Its digest is
// that of no file.
func (r *Keyring) Clone() *Keyring {
	c := *r
	c.digest = ""
	c.Keys = slices.Clone(r.Keys)
	for i := range c.Keys {
		c.Keys[i].Pins = maps.Clone(c.Keys[i].Pins)
	}
	return &c
}

// Check reports everything that is wrong with the keyring.
func (r *Keyring) Check() error { return r.check() }

// SetState moves a key on in its life, on a day (YYYY-MM-DD), and with it the one that it
// takes the place of: next to active, which retires the key that was active for a purpose of
// which only one may be; active to retired. There is no way back.
func (r *Keyring) SetState(name string, to State, day string) error {
	i := slices.IndexFunc(r.Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return &KeyError{Name: name, Problem: KeyNotListed}
	}
	k := &r.Keys[i]
	switch {
	case k.State == Next && to == Active:
		for j := range r.Keys {
			if other := &r.Keys[j]; other.Purpose == k.Purpose && other.State == Active && !k.Purpose.Several() {
				other.State, other.Retired = Retired, day
			}
		}
	case k.State != Retired && to == Retired:
		k.Retired = day
	default:
		return fmt.Errorf("key %s is %s, and does not become %s", name, k.State, to)
	}
	k.State = to
	return nil
}

// Destroyed takes a retired key that is gone from a member out: its pin there, and its entry
// with the last pin. While another member has the key it stays listed, so that it can be
// destroyed there.
func (r *Keyring) Destroyed(name, member string) error {
	i := slices.IndexFunc(r.Keys, func(k Key) bool { return k.Name == name })
	switch {
	case i < 0:
		return &KeyError{Name: name, Problem: KeyNotListed}
	case r.Keys[i].State != Retired:
		return fmt.Errorf("key %s is %s: %w", name, r.Keys[i].State, ErrNotRetired)
	}
	delete(r.Keys[i].Pins, member)
	if len(r.Keys[i].Pins) == 0 {
		r.Keys = slices.Delete(r.Keys, i, i+1)
	}
	return nil
}

// Promoted is a view in which the key called name is its purpose's active one, if it is next:
// a key to come needs its certificate before it signs anything else.
func (r *Keyring) Promoted(name string) *Keyring {
	chosen, ok := r.Find(name)
	if !ok || chosen.State != Next {
		return r
	}
	view := r.Clone()
	for i, k := range view.Keys {
		switch {
		case k.Name == name:
			view.Keys[i].State = Active
		case k.Purpose == chosen.Purpose && k.State == Active && !k.Purpose.Several():
			view.Keys[i].State = Next
		}
	}
	return view
}
