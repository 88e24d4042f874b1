package outbound

import (
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait after some attempts that failed: twice as long each time, from
// first up to longest, give or take a half, so that not all come back at once.
func Backoff(first time.Duration, attempts int, longest time.Duration) time.Duration {
	wait := min(first<<min(attempts, 10), longest)
	return wait/2 + rand.N(wait)
}
