package access

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// ErrReplayed is returned by the store for a token that has been used, is in use by a
// request under way, or was taken over from this request after its lease ran out.
var ErrReplayed = errors.New("token already used")

// A TokenUse takes a token for its one use: the change that must be committed with
// the intent, before anything is done for the caller. It is a lease. Whoever stores
// it sets Fence, one higher than the last for this ID; ErrReplayed if the token has
// been used or another's lease still runs. From Expires on the row may be removed.
type TokenUse struct {
	Issuer  string
	ID      [32]byte  // SHA-256 over iss and jti; see [Caller.Use]
	Now     time.Time // the claimant's clock, which leases are held against
	Until   time.Time // when the lease runs out
	Expires time.Time // when the token is of no use to anybody any more

	Fence int64 // set by the store
}

var _ record.Claim = (*TokenUse)(nil)

// IsChange marks TokenUse as a record.Change.
func (*TokenUse) IsChange() {}

// End is the change that ends the claim: the token is used up, or free again.
func (u *TokenUse) End(used bool) record.Change { return TokenUseEnd{Claim: *u, Used: used} }

// A TokenUseEnd ends a claim. It is refused with ErrReplayed when somebody else has
// taken the token since, which the fence shows.
type TokenUseEnd struct {
	Claim TokenUse
	Used  bool
}

// IsChange marks TokenUseEnd as a record.Change.
func (TokenUseEnd) IsChange() {}

// claimMargin is how much longer a claim is kept than its token can be authenticated:
// a request may be authenticated at the last moment and claim later, and the replica
// that removes the row may have a faster clock.
const claimMargin = time.Minute

// Use is the claim to be committed before the right is used, nil if the right is not
// granted for single use. A nil one must not be handed on as a record.Change. It is
// for callers that May let through; without a jti all tokens of an issuer are one.
//
// The claim is on iss and jti, not on the token's bytes: one claims set can be signed
// any number of times, and an ECDSA signature can be altered and still hold.
func (c Caller) Use(r Right, now time.Time, lease time.Duration) *TokenUse {
	if _, single := c.granted(r); !single {
		return nil
	}
	return &TokenUse{
		Issuer: c.Issuer, ID: tokenUseID(c.Issuer, c.TokenID),
		Now: now, Until: now.Add(lease), Expires: c.dead.Add(claimMargin),
	}
}

// tokenUseDomain begins every claim's input, so that its SHA-256 is no other digest's.
const tokenUseDomain = "mintmark token use v1"

// tokenUseID is the SHA-256 of the domain, iss and jti, each behind its length as
// eight bytes, big-endian, so that no two pairs have one encoding.
func tokenUseID(iss, jti string) [32]byte {
	var input []byte
	for _, part := range []string{tokenUseDomain, iss, jti} {
		input = binary.BigEndian.AppendUint64(input, uint64(len(part)))
		input = append(input, part...)
	}
	return sha256.Sum256(input)
}
