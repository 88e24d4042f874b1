// Package span says where a request's time went, for an operator who has configured a
// receiver of traces (OpenTelemetry). Every room may use it.
//
//	ctx, at := span.Start(ctx, "gate.sign-tav")
//	defer at.End()
//
// A span hangs under the one that ctx carries. Where ctx carries none, because no receiver is
// configured, the request is not among those that are traced, or nobody asked for the work,
// Start gives ctx back with a Span that does nothing: no memory is taken and no clock read.
//
// What a span says leaves the process and is kept by others. Names and values are therefore
// of small sets that this program or its configuration decides: operations, members,
// PKCS#11 functions, routes, status codes. Nothing that a caller sent is in one, and nothing
// that names a card, a token, a pass or a person; an error is told by its class, never by
// its text.
package span

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope names this program's spans among those of others.
const scope = "github.com/mintmark/mintmark"

// A Key is what a value of a span is called.
type Key string

// The keys: those of OpenTelemetry's conventions where there is one.
const (
	Method    Key = "http.request.method"
	Route     Key = "http.route"
	Status    Key = "http.response.status_code"
	Problem   Key = "mintmark.problem"       // the name of the answer's problem
	Kind      Key = "mintmark.record.kind"   // of an entry of the audit log
	Member    Key = "mintmark.hsm.member"    // as the configuration calls it
	Outcome   Key = "mintmark.hsm.outcome"   // as in mintmark_token_calls_total
	Function  Key = "mintmark.pkcs11.call"   // the function that does the work
	Mechanism Key = "mintmark.pkcs11.method" // the mechanism it does it by
)

// A Span is a stretch of work. The zero value does nothing.
type Span struct{ otel trace.Span }

// Start begins a span under that of ctx. End ends it.
func Start(ctx context.Context, name string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, s := parent.TracerProvider().Tracer(scope).Start(ctx, name)
	return ctx, Span{s}
}

// Event notes a moment in the span of ctx.
func Event(ctx context.Context, name string) {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		s.AddEvent(name)
	}
}

// On reports whether anybody wants to know what ctx's work is.
func On(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// On reports whether anybody wants to know what the span says.
func (s Span) On() bool { return s.otel != nil }

// Set gives a value.
func (s Span) Set(k Key, value string) {
	if s.otel != nil {
		s.otel.SetAttributes(attribute.String(string(k), value))
	}
}

// SetInt gives a number.
func (s Span) SetInt(k Key, value int) {
	if s.otel != nil {
		s.otel.SetAttributes(attribute.Int(string(k), value))
	}
}

// Failed marks the work as failed. Why is for the log: an error may hold anything.
func (s Span) Failed() {
	if s.otel != nil {
		s.otel.SetStatus(codes.Error, "")
	}
}

// End ends the span.
func (s Span) End() {
	if s.otel != nil {
		s.otel.End()
	}
}

// TraceID is that of ctx's trace, for a line of the log to be found by; empty where there is
// none.
func TraceID(ctx context.Context) string {
	c := trace.SpanContextFromContext(ctx)
	if !c.IsSampled() {
		return ""
	}
	return c.TraceID().String()
}
