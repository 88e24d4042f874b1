package signer

import (
	"errors"

	"github.com/mintmark/mintmark/hsm"
)

// withActive has do work with the active key of a purpose. Where the key ceased to be it
// between the choice and the use, as happens when a keyring is taken up under load, it is
// done again, whole, with the one that is active then: nothing of the first was made.
func withActive[T any](g *Gate, p hsm.Purpose, do func(hsm.Key) (T, error)) (T, error) {
	const tries = 3 // a keyring is taken up in two steps
	for i := 1; ; i++ {
		var v T
		key, err := g.keys.Active(p)
		if err == nil {
			v, err = do(key)
		}
		var unusable *hsm.KeyError
		left := errors.As(err, &unusable) && (unusable.Problem == hsm.KeyRetired || unusable.Problem == hsm.KeyNext)
		if !left || i == tries {
			return v, err
		}
	}
}
