package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	var path string
	check := &cobra.Command{
		Use: "check --config FILE", Short: "Say all that is wrong with a configuration, without opening anything", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := loadPlan(path)
			if err != nil {
				return err
			}
			if err := p.checkCheckpointKey(); err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "%s is in order: %s, %d clients, roles %s, Apple's root: %s\n\n", path, p.cfg.Environment, len(p.cfg.Clients), strings.Join(p.cfg.Roles, " and "), p.trusts())
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PURPOSE\tMEMBER\tACTIVE KEY\tPINNED")
			for _, m := range p.cfg.HSM.Members {
				for _, purpose := range p.bound() {
					name, pinned := "none", "no"
					if k, err := p.keyring.Active(purpose); err == nil {
						name = k.Name
						if _, ok := k.Pins[m.Name]; ok {
							pinned = "yes"
						}
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", purpose, m.Name, name, pinned)
				}
			}
			for _, name := range p.cfg.Ignored() {
				fmt.Fprintf(out, "warning: environment variable %s names no field\n", name)
			}
			for _, err := range p.passWarnings() {
				fmt.Fprintf(out, "warning: %v\n", err)
			}
			return w.Flush()
		},
	}
	configFlag(check, &path)
	return group("config", "Look at a configuration", check)
}
