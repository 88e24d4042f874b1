package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/span"
	"github.com/mintmark/mintmark/internal/telemetry"
)

// checkTracing says what keeps traces from being sent as configured.
func checkTracing(cfg *config.Config) error {
	if cfg.Tracing.Endpoint == "" {
		return nil
	}
	if err := telemetry.CheckEndpoint(cfg.Tracing.Endpoint); err != nil {
		return fmt.Errorf("tracing.endpoint %w", err)
	}
	return nil
}

// openTraces begins to send traces, if there is somewhere to.
func (s *service) openTraces() error {
	cfg := s.plan.cfg
	if cfg.Tracing.Endpoint == "" {
		return nil
	}
	client, err := newOutbound(cfg.Outbound)
	if err != nil {
		return err
	}
	s.traces, err = telemetry.Open(telemetry.Config{
		Endpoint: cfg.Tracing.Endpoint, Percent: cfg.Tracing.Percent, AcceptParent: cfg.Tracing.AcceptParent,
		Version: version, Environment: cfg.Environment,
		Client: client, Sent: s.metrics.Traces(), Log: s.plan.log,
	})
	return err
}

// tracer begins the spans of requests; nil where nobody wants them.
func (s *service) tracer() *span.Tracer {
	if s.traces == nil {
		return nil
	}
	return s.traces.Tracer()
}

// lastTraces is what the last spans get. A receiver that hangs takes no time from the tokens,
// whose calls are waited for next.
const lastTraces = 2 * time.Second

// closeTraces sends what waits. What the receiver does not take by then is lost.
func (s *service) closeTraces() {
	if s.traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastTraces)
	defer cancel()
	if err := s.traces.Close(ctx); err != nil {
		s.plan.log.Warn("not all traces were sent", "error", err)
	}
}
