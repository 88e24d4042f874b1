package access

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds how often a client may call. The zero value is no bound.
type Rate struct {
	PerSecond float64 // calls a second over time
	Burst     int     // calls at once, at least 1
}

func (r Rate) check() error {
	switch {
	case r == Rate{}:
		return nil
	case !(r.PerSecond > 0) || math.IsInf(r.PerSecond, 1):
		return fmt.Errorf("rate is %v calls a second; it must be above 0", r.PerSecond)
	case r.Burst < 1:
		return errors.New("rate has a burst below 1, which lets no call through")
	}
	return nil
}

// limiter is nil for no bound.
func (r Rate) limiter() *rate.Limiter {
	if r == (Rate{}) {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
}

// A RateError says that a client calls more often than it may.
type RateError struct{ after time.Duration }

// Error says when to come again.
func (e *RateError) Error() string {
	return fmt.Sprintf("too many calls; again after %v", e.after.Round(time.Millisecond))
}

// RetryAfter is how long to wait: then one call may be made, if nobody else makes it.
func (e *RateError) RetryAfter() time.Duration { return e.after }

// Admit counts a call of c against its client's rate. Its error is a [*RateError], or
// an [AuthenticationError] for a caller that is none of this Verifier's. All callers
// of one client share its rate: a sub is the client's to choose, so a rate for each
// would be none.
func (v *Verifier) Admit(c Caller) error {
	own, ok := v.clients[c.Issuer]
	if !ok {
		return refuse(ReasonUnknownIssuer)
	}
	now := v.now()
	if own.limiter == nil || own.limiter.AllowN(now, 1) {
		return nil
	}
	missing := 1 - own.limiter.TokensAt(now)
	return &RateError{after: time.Duration(missing / own.Rate.PerSecond * float64(time.Second))}
}
