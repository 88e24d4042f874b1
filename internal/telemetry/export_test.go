package telemetry

import "context"

// Flush sends what waits, and returns when it was tried.
func (t *Traces) Flush(ctx context.Context) { _ = t.provider.ForceFlush(ctx) } // its errors are the exporter's, who says them
