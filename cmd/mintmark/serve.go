package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "serve --config FILE", Short: "Run the service", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := loadPlan(path)
			if err != nil {
				return err
			}
			return serve(c.Context(), p, func(*service) error { return nil }, func(addresses) error { return nil })
		},
	}
	configFlag(c, &path)
	return c
}

// configFlag is the flag that names the configuration file.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "mintmark.yaml", "configuration `file`")
}

// serve opens and runs a service. prepare is called before it listens, ready after.
func serve(ctx context.Context, p *plan, prepare func(*service) error, ready func(addresses) error) error {
	p.warnings()
	if err := harden(); err != nil {
		p.log.Warn("process not hardened", "error", err)
	}
	s, err := open(ctx, p)
	if err != nil {
		return err
	}
	err = prepare(s)
	if err == nil {
		err = s.serve(ctx, ready)
	}
	return errors.Join(err, s.close())
}
