//go:build benchbare

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/mintmark/mintmark/internal/config"
)

// A build with this tag can leave out record and verification, to measure what they cost.
// One that was given a version, as releases are, does nothing at all.
func init() {
	if version != unversioned {
		fmt.Fprintln(os.Stderr, "mintmark: built with the tag benchbare, which is for measuring; this is no release")
		os.Exit(exitFailure)
	}
}

func checkBuild(environment string) error {
	if environment == config.Production {
		return exit(exitConfiguration, errors.New("built with the tag benchbare, which can leave out record and verification: not for production"))
	}
	fmt.Fprintln(os.Stderr, "mintmark: built for measuring: MINTMARK_BENCH_OFF leaves out record or verification")
	return nil
}
