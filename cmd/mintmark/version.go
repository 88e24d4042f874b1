package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = unversioned

const unversioned = "unversioned"

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version and how it was built", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "mintmark %s\n%s %s/%s, memory erasure: %s\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, hsm.MemoryErasure)
			return err
		},
	}
}
