package access

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Caller is who sent a request. The zero value is nobody, and has no right.
type Caller struct {
	Tenant  string // from the configuration of the client
	Issuer  string // iss: the client
	Subject string // sub: what the client says acts there; unique only together with Tenant and Issuer
	User    string // usr: whom the client says it acts for; empty if there is none, or none that can stand in a log
	TokenID string // jti, empty if the token has none
	KeyID   string // kid of the key that signed, from the client's keys; empty if the key has none

	IssuedAt time.Time // iat; zero without a token
	Expires  time.Time // exp; zero without a token

	// Certified says that the connection's certificate is one that the client's rule, or the
	// token's cnf, asks for. Without, any certificate there is proves nothing.
	Certified bool

	grants  []grant        // the client's own slice, never written to
	dead    time.Time      // when no Verifier takes the token any more: exp and the leeway
	payload jsontext.Value // never written to
}

// Payload is the object of the token's claims as the client signed it, in a new
// slice: JSON in valid UTF-8 without duplicate members, nested [MaxDepth] deep at
// most. It is nil for a caller without a token.
func (c Caller) Payload() jsontext.Value { return slices.Clone(c.payload) }

// May returns nil if the caller has the right. Otherwise the error wraps
// [ErrForbidden] and names the right; or, where the right is granted for single use
// and the token has no jti that could be used up, it is an [AuthenticationError] with
// [ReasonTokenID].
func (c Caller) May(r Right) error {
	switch granted, single := c.granted(r); {
	case !granted:
		return fmt.Errorf("%w: the right %s is not granted", ErrForbidden, r)
	case single && c.TokenID == "":
		return refuse(ReasonTokenID)
	}
	return nil
}

// MayIn is May for a call that names a tenant: the grant must be for that tenant's data.
func (c Caller) MayIn(r Right, tenant string) error {
	for _, g := range c.grants {
		if g.Right == r && g.covers(c) && g.reaches(c, tenant) {
			return c.May(r)
		}
	}
	return fmt.Errorf("%w: the right %s is not granted for this tenant", ErrForbidden, r)
}

// granted reports whether a grant of r covers the caller, and whether for one use.
func (c Caller) granted(r Right) (granted, single bool) {
	for _, g := range c.grants {
		if g.Right == r && g.covers(c) {
			granted, single = true, single || g.SingleUse
		}
	}
	return granted, single
}

// AnyOwner reports whether the right is granted for cards of every owner of the tenant.
func (c Caller) AnyOwner(r Right) bool {
	return slices.ContainsFunc(c.grants, func(g grant) bool { return g.Right == r && g.AnyOwner && g.covers(c) })
}
