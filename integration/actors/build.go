package actors

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/porttest"
)

// Build builds mintmark into a folder and gives the binary's path.
func Build(dir string, race bool, tags string) (string, error) {
	path := filepath.Join(dir, "mintmark")
	build := exec.Command("go", "build", fmt.Sprintf("-race=%t", race), "-tags="+tags, "-o", path, "github.com/mintmark/mintmark/cmd/mintmark")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mintmark: %w\n%s", err, out)
	}
	return path, nil
}

// FreeAddress is an address on loopback where nobody listens, and that is nobody else's until
// the test ends.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, release, err := porttest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	return address
}

// Eventually tries until something holds, and says how long that took. It fails the test
// when it does not hold in time.
func Eventually(t testing.TB, within time.Duration, try func() error) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Fatalf("not well after %v: %v", within, err)
		}
		<-tick.C
	}
}
