package provisioning

import (
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// A NonceClaim takes Apple's nonce for one attempt: the change that must be committed
// with the intent, before the token is asked for anything. It is a lease. Whoever
// stores it sets Fence, one higher than the last for this ID; ErrNonceUsed if the nonce
// has been used or another's lease still runs.
type NonceClaim struct {
	Tenant string
	ID     [32]byte  // from ClaimID
	Now    time.Time // the claimant's clock, which leases are held against
	Until  time.Time // when the lease runs out

	Fence int64 // set by the store
}

// IsChange marks NonceClaim as a record.Change.
func (*NonceClaim) IsChange() {}

// End is the change that ends the claim.
func (c *NonceClaim) End(used bool) record.Change { return NonceEnd{Claim: *c, Used: used} }

// A NonceEnd ends a claim: the nonce is used up, or free again. It is refused with
// ErrNonceUsed when somebody else has taken the nonce since, which the fence shows.
type NonceEnd struct {
	Claim NonceClaim
	Used  bool
}

// IsChange marks NonceEnd as a record.Change.
func (NonceEnd) IsChange() {}
