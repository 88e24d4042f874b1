package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Right allows one operation. Rights are granted per client in the configuration;
// a claim of that name in a token grants nothing.
type Right string

// The rights, one per operation.
const (
	SignCards Right = "signCards" // have card payloads sealed for a wallet
)

var rights = []Right{SignCards}

// Rights lists every right there is.
func Rights() []Right { return slices.Clone(rights) }

// ParseRight finds the right called name, exactly as the constants above spell it.
// Its error lists the known ones.
func ParseRight(name string) (Right, error) {
	if r := Right(name); slices.Contains(rights, r) {
		return r, nil
	}
	known := make([]string, len(rights))
	for i, r := range rights {
		known[i] = string(r)
	}
	return "", fmt.Errorf("unknown right %q; known are: %s", name, strings.Join(known, ", "))
}

// ErrForbidden is wrapped by the error of [Caller.May]: the caller is known, and the
// right is not granted to it.
var ErrForbidden = errors.New("forbidden")

// Caller is who sent a request. The zero value is nobody, and has no right.
type Caller struct {
	Tenant  string // from the configuration of the client
	Issuer  string // iss: the client
	Subject string // sub: what the client says acts there; unique only together with Tenant and Issuer
	TokenID string // jti, empty if the token has none

	rights []Right // the client's own slice, never written to
}

// May returns nil if the caller has the right, and otherwise an error that wraps
// [ErrForbidden] and names the right.
func (c Caller) May(r Right) error {
	if slices.Contains(c.rights, r) {
		return nil
	}
	return fmt.Errorf("%w: the right %s is not granted", ErrForbidden, r)
}
