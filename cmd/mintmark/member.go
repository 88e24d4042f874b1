package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
)

// memberCommand is what serve starts for each HSM member with hsm.isolation: process. It is
// not for people, and says so to them.
func memberCommand() *cobra.Command {
	return &cobra.Command{
		Use: hsm.MemberCommand + " NAME", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := harden(); err != nil {
				fmt.Fprintln(c.ErrOrStderr(), "mintmark: process of HSM member not hardened:", err)
			}
			return exit(exitUsage, hsm.ServeMember())
		},
	}
}
