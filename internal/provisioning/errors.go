package provisioning

import (
	"errors"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/signer"
)

// ErrUnknownCard is returned for a card that does not exist or is not the caller's:
// the two are not told apart.
var ErrUnknownCard = errors.New("unknown card")

// ErrNonceUsed is returned for a nonce that has been used, is in use by a request under
// way, or was taken over from this request after its lease ran out.
var ErrNonceUsed = errors.New("nonce already used")

// ErrWalletType is returned for a wallet type that is not supported.
var ErrWalletType = errors.New("wallet type not supported")

// ErrTooManyCards is returned where an owner has more cards than one answer holds.
var ErrTooManyCards = errors.New("too many cards for one answer")

// ErrEncryptedCard is returned for an encrypted card that does not open or is not for this
// request: signer.ErrEncryptedCard, whatever the cause.
var ErrEncryptedCard = signer.ErrEncryptedCard

// ErrMessageUsed is returned for an encrypted card whose jti has been used, or is in use by
// a request under way.
var ErrMessageUsed = errors.New("encrypted card already used")

// A busyMessage is an encrypted card that a request under way has: it is used or free again
// once the lease has run out.
type busyMessage struct{ after time.Duration }

func (*busyMessage) Error() string { return "encrypted card in use by another request" }

// RetryAfter is how long a caller should wait before it tries again.
func (e *busyMessage) RetryAfter() time.Duration { return e.after }

// A FieldError is a member of a request that is missing or malformed. It holds nothing
// of the input.
type FieldError struct {
	Member  string // by its name in the API
	Problem string
}

// Error names the member and the problem.
func (e *FieldError) Error() string { return fmt.Sprintf("%s %s", e.Member, e.Problem) }

// CardReason is why a card cannot be provisioned. The texts are stable.
type CardReason string

// The reasons.
const (
	CardExpired CardReason = "card-expired"        // its expiration month is past
	CardProduct CardReason = "product-unsupported" // no configuration for its product
	CardNotTest CardReason = "card-not-test"       // a trace is asked for, and its product is no test product
	CardData    CardReason = "card-data"           // its data break the field rules, or its product's
)

// A CardError is a card that exists, is the caller's, and cannot be provisioned.
type CardError struct{ Reason CardReason }

// Error is the reason.
func (e *CardError) Error() string { return "card cannot be provisioned: " + string(e.Reason) }
