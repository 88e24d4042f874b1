package merchant

import (
	"errors"
	"fmt"
	"time"
)

// A FieldError is a member of a request that is missing or malformed. It holds nothing of
// the input.
type FieldError struct {
	Member  string // by its name in the API
	Problem string
}

// Error names the member and the problem.
func (e *FieldError) Error() string { return fmt.Sprintf("%s %s", e.Member, e.Problem) }

// A NotAllowedError is a member whose value the caller's configuration does not allow.
type NotAllowedError struct{ Member string }

// Error names the member.
func (e *NotAllowedError) Error() string { return e.Member + " is not one the caller may have signed" }

// A ClaimError is a claim of a merchant JWT that is missing or does not hold.
type ClaimError struct {
	Claim   string
	Problem string
}

// Error names the claim and the problem.
func (e *ClaimError) Error() string { return fmt.Sprintf("claim %s %s", e.Claim, e.Problem) }

// ErrQuota is returned when a caller has had its day's number of tokens signed.
var ErrQuota = errors.New("the day's number of tokens is used up")

// A QuotaError wraps ErrQuota with the time to the next day.
type QuotaError struct{ Wait time.Duration }

// Error is ErrQuota's.
func (e *QuotaError) Error() string { return ErrQuota.Error() }

// Unwrap makes it ErrQuota.
func (e *QuotaError) Unwrap() error { return ErrQuota }
