package hsm

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Answers reports whether the key under k's CKA_ID on this member answers to a pin that
// somebody else made: another member with a copy of the key, whoever imported it, or a
// network, of whose pin the first three bytes (the key check value) are enough.
//
// Errors: *KeyError for a key that is not there, or one with RetryAfter.
func (t *Token) Answers(ctx context.Context, k Key, pin Pin) (bool, error) {
	kcv, short := strings.CutPrefix(string(pin), pinTDEA+":")
	short = short && len(kcv) == hex.EncodedLen(kcvSize)
	if !short {
		if err := pin.check(k.Algorithm); err != nil {
			return false, fmt.Errorf("pin of key %s: %w", k.Name, err)
		}
	}
	return work(ctx, t, "prove-pin", func(u *unit) (bool, error) {
		public, private, err := u.findPair(k)
		switch {
		case err != nil:
			return false, err
		case short && k.Algorithm == TDEA:
			answer, err := u.tdeaAnswer(k, private)
			return err == nil && strings.EqualFold(hex.EncodeToString(answer[:min(kcvSize, len(answer))]), kcv), err
		case k.Algorithm.Public():
			got, err := u.pinNew(k, public, private)
			return got == pin, err
		default:
			return u.provePin(k, private, pin)
		}
	})
}

// A Template says in PKCS#11's words what a key of a purpose is made like.
type Template struct {
	Mechanism string   `json:"mechanism" yaml:"mechanism"` // that makes it
	True      []string `json:"true" yaml:"true"`           // the flags that are true; every other one is false
	Allowed   []string `json:"allowed" yaml:"allowed"`     // CKA_ALLOWED_MECHANISMS
}

// TemplateOf gives the template of private and secret keys.
func TemplateOf(p Purpose, a Algorithm) Template {
	from := templateFor("", nil, p, a)
	t := Template{Mechanism: nameOf(mechanismNames, from.mechanism)}
	for _, at := range from.private {
		if name, ok := flagNames[at.Type]; ok && len(at.Value) == 1 && at.Value[0] != 0 {
			t.True = append(t.True, name)
		}
	}
	for _, m := range from.allowed {
		t.Allowed = append(t.Allowed, nameOf(mechanismNames, m))
	}
	slices.Sort(t.True)
	return t
}

// Equal reports whether two templates say the same, in any order.
func (t Template) Equal(other Template) bool {
	same := func(a, b []string) bool {
		a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
		return slices.Equal(a, b)
	}
	return t.Mechanism == other.Mechanism && same(t.True, other.True) && same(t.Allowed, other.Allowed)
}
