package span_test

import (
	"context"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mintmark/mintmark/internal/span"
)

// Whoever wants no traces does not pay for them.
func TestWithoutATraceNothingIsAllocated(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n := testing.AllocsPerRun(1000, func() {
		ctx, at := span.Start(ctx, "hsm.sign")
		defer at.End()
		at.Set(span.Member, "a")
		at.SetInt(span.Status, 200)
		at.Failed()
		span.Event(ctx, "admitted")
		if at.On() || span.On(ctx) || span.TraceID(ctx) != "" {
			t.Error("a span that nobody asked for")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOff(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for b.Loop() {
		_, at := span.Start(ctx, "hsm.sign")
		at.End()
	}
}

// recording gives a tracer and what it has recorded so far.
func recording(continues func(trace.SpanContext) bool) (*span.Tracer, func() tracetest.SpanStubs) {
	kept := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept), sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())))
	return span.NewTracer(provider, continues), kept.GetSpans
}

func TestSpansHangUnderTheirRequest(t *testing.T) {
	tracer, spans := recording(nil)
	ctx, request := tracer.Request(context.Background(), http.Header{}, "POST /x")
	inner, at := span.Start(ctx, "gate.sign-tav")
	if span.TraceID(inner) == "" || span.TraceID(inner) != span.TraceID(ctx) {
		t.Error("not one trace")
	}
	span.Event(inner, "admitted")
	at.Set(span.Member, "a")
	at.Failed()
	at.End()
	request.SetInt(span.Status, 500)
	request.End()

	all := spans()
	if len(all) != 2 {
		t.Fatalf("%d spans", len(all))
	}
	child, root := all[0], all[1]
	if child.Parent.SpanID() != root.SpanContext.SpanID() || root.Parent.IsValid() {
		t.Error("the one does not hang under the other")
	}
	if child.Name != "gate.sign-tav" || len(child.Events) != 1 || child.Status.Code != codes.Error || child.Status.Description != "" ||
		child.Attributes[0] != attribute.String("mintmark.hsm.member", "a") {
		t.Errorf("the inner span is %+v", child)
	}
	if root.SpanKind != trace.SpanKindServer || root.Attributes[0] != attribute.Int("http.response.status_code", 500) {
		t.Errorf("the request's is %+v", root)
	}
}

// The header comes from whoever calls, before anybody has looked at who that is.
func TestACallersTraceIsGoneOnWithWhereThatIsWanted(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	named := http.Header{"Traceparent": {"00-" + id + "-00f067aa0ba902b7-01"}, "Tracestate": {"a=5204245250001488"}}
	dropped := http.Header{"Traceparent": {"00-" + id + "-00f067aa0ba902b7-00"}}
	any := func(trace.SpanContext) bool { return true }
	for name, test := range map[string]struct {
		continues func(trace.SpanContext) bool
		header    http.Header
		same      bool
		spans     int
	}{
		"nobody's":               {nil, named, false, 1},
		"anybody's":              {any, named, true, 1},
		"anybody's, not kept":    {any, dropped, false, 0},
		"not this one":           {func(trace.SpanContext) bool { return false }, named, false, 1},
		"nobody's, not kept":     {nil, dropped, false, 1},
		"anybody's, none":        {any, http.Header{}, false, 1},
		"anybody's, no numbers":  {any, http.Header{"Traceparent": {"00-xyz"}}, false, 1},
		"anybody's, all zeroes":  {any, http.Header{"Traceparent": {"00-00000000000000000000000000000000-0000000000000000-01"}}, false, 1},
		"anybody's, too long":    {any, http.Header{"Traceparent": {"00-" + id + "0-00f067aa0ba902b7-01"}}, false, 1},
		"anybody's, twice given": {any, http.Header{"Traceparent": {"x", "00-" + id + "-00f067aa0ba902b7-01"}}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tracer, spans := recording(test.continues)
			ctx, request := tracer.Request(context.Background(), test.header, "GET /x")
			request.End()
			if got := span.TraceID(ctx) == id; got != test.same {
				t.Errorf("trace %s", span.TraceID(ctx))
			}
			all := spans()
			if len(all) != test.spans {
				t.Fatalf("%d spans", len(all))
			}
			if len(all) == 1 && all[0].SpanContext.TraceState().Len() != 0 {
				t.Error("the caller's tracestate goes on")
			}
		})
	}
}
