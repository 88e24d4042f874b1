//go:build rotation

package integration

// Rotations that follow each other without a pause, of a server at its full speed.
func init() { raceDetector, rotations = false, 25 }
