// Package leaktest fails a package's tests that leave a goroutine behind.
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
//
// goleak looks for less than half a second. What was told to end may need longer on a machine
// that is busy, and is waited for here: a leak does not end.
package leaktest

import (
	"time"

	"go.uber.org/goleak"
)

// within is how long goroutines may take to end.
const within = time.Minute

// Main runs the tests and exits.
func Main(m goleak.TestingM) { goleak.VerifyTestMain(patient{m}) }

// patient is tests after which it is quiet, or never will be.
type patient struct{ m goleak.TestingM }

func (p patient) Run() int {
	code := p.m.Run()
	for end := time.Now().Add(within); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}
