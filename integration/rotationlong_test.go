//go:build rotation

package integration

import (
	"os"
	"strconv"
)

// Rotations that follow each other without a pause, of a server at its full speed.
func init() {
	raceDetector, rotations = false, 25
	if n, err := strconv.Atoi(os.Getenv("ROTATIONS")); err == nil {
		rotations = n
	}
}
