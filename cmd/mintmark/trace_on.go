//go:build trace

package main

import (
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/signer"
)

// newTracer gives one in a test environment alone.
func newTracer(cfg *config.Config) provisioning.Tracer {
	if cfg.Environment != config.Test {
		return nil
	}
	return signer.Tracer{}
}
