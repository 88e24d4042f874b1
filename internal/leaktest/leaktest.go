// Package leaktest fails a package's tests that leave goroutines behind:
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
//
// goleak looks for less than half a second. A goroutine that was told to end has no such
// limit: on a machine with more to do it may not have run once by then.
package leaktest

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end, far beyond what those need that do.
const patience = 30 * time.Second

// Main runs a package's tests, waits until every goroutine that they started is over, and ends
// the process. m is a *testing.M, or what stands around one.
func Main(m interface{ Run() int }) {
	code := m.Run()
	if code == 0 {
		if err := left(); err != nil {
			fmt.Fprintf(os.Stderr, "leaktest: the tests passed, and %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// left waits, and says which goroutines do not end.
func left() error {
	for began := time.Now(); ; {
		err := goleak.Find() // which waits a little itself
		if err == nil || time.Since(began) > patience {
			return err
		}
	}
}
