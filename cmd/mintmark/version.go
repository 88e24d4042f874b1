package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = unversioned

const unversioned = "unversioned"

// revision is the source's, where the build does not know it by itself; set as version is.
var revision string

func versionCommand() *cobra.Command {
	var modules bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version and how it was built", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if modules {
				list, _ := moduleList()
				_, err := io.WriteString(c.OutOrStdout(), list)
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "mintmark %s\n%s %s/%s, memory erasure: %s\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, hsm.MemoryErasure)
			return err
		},
	}
	c.Flags().BoolVar(&modules, "modules", false, "print the modules that it is made of, with versions and checksums; the audit report has the list's SHA-256")
	return c
}
