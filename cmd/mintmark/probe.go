package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// probeWithin bounds a probe: longer than /readyz itself takes.
const probeWithin = 5 * time.Second

func probeCommand() *cobra.Command {
	var admin string
	c := &cobra.Command{
		Use: "probe livez|readyz", Short: "Ask a running service on this host whether it is well, for containers",
		Long: "Asks the admin listener, which is on loopback alone, and prints its answer. It ends with\n" +
			"status 0 if the service is well and 1 if not, or if there is none.",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"livez", "readyz"},
		RunE: func(c *cobra.Command, args []string) error {
			return probe(c.Context(), "http://"+admin+"/"+args[0], c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&admin, "admin", "127.0.0.1:9090", "`address` of the admin listener")
	return c
}

func probe(ctx context.Context, url string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return exit(exitUsage, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the service: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(out, io.LimitReader(res.Body, 64<<10)); err != nil {
		return fmt.Errorf("ask the service: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return errors.New("the service is not well")
	}
	return nil
}
