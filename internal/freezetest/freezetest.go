// Package freezetest stops processes for tests. A signal takes effect a moment after it was sent,
// and until then the process may still answer.
package freezetest

import "fmt"

// Freeze stops a process that this one has started, and returns when none of its threads goes
// on. Whoever waits for the process's end hears of it as before.
//
// Only Linux tells when that is. Elsewhere the signal has been sent.
func Freeze(pid int) error {
	if err := freeze(pid); err != nil {
		return fmt.Errorf("freeze process %d: %w", pid, err)
	}
	return nil
}
