//go:build !trace

package main

import (
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/provisioning"
)

// newTracer gives none: this build has no traces.
func newTracer(*config.Config) provisioning.Tracer { return nil }
