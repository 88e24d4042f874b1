package cluster

import (
	"fmt"
	"os"
	"testing"

	"github.com/mintmark/mintmark/integration/actors"
)

// mintmark is the binary under test.
var mintmark string

// raceDetector says whether the binary has it. Measurements do without.
var raceDetector = true

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "mintmark-cluster-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if mintmark, err = actors.Build(dir, raceDetector, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}
