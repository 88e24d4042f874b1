package span

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// A Tracer begins the spans of requests, under which all others hang.
type Tracer struct {
	provider  trace.TracerProvider
	continues func(trace.SpanContext) bool
}

// NewTracer gives a tracer. continues says which traces that a caller names in its
// traceparent header (W3C Trace Context) are gone on with; nil for none. The header comes
// before anybody is authenticated, and decides what is kept and under which number.
func NewTracer(p trace.TracerProvider, continues func(trace.SpanContext) bool) *Tracer {
	return &Tracer{provider: p, continues: continues}
}

// Request begins the span of a request.
func (t *Tracer) Request(ctx context.Context, h http.Header, name string) (context.Context, Span) {
	if t.continues != nil {
		named := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(h))
		if c := trace.SpanContextFromContext(named); c.IsValid() && t.continues(c) {
			// Without the tracestate, which is the caller's to fill as it likes.
			ctx = trace.ContextWithRemoteSpanContext(ctx, c.WithTraceState(trace.TraceState{}))
		}
	}
	ctx, s := t.provider.Tracer(scope).Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	if !s.IsRecording() {
		return ctx, Span{}
	}
	return ctx, Span{s}
}
