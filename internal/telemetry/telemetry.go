// Package telemetry sends spans (package span) to a receiver: OTLP over HTTP with protobuf,
// as the OpenTelemetry Collector, Tempo and Jaeger take it.
//
//	traces, err := telemetry.Open(telemetry.Config{Endpoint: "http://127.0.0.1:4318", Percent: 100, …})
//	handler := httpapi.New(httpapi.Config{Tracer: traces.Tracer(), …})
//	…
//	err = traces.Close(ctx)
//
// Sending never holds a request up: spans wait in a bounded queue, and what finds no place in
// it, or is not taken by the receiver at the first try, is lost and counted. That the receiver
// takes none is said in the log when it begins and when it is over.
//
// The way out is that of everything else (package outbound): https to addresses that are
// public or listed. Beside it there is plain HTTP to this host, where a collector commonly
// listens.
package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// Config says where traces go.
type Config struct {
	// Endpoint is the receiver's URL, without a path for /v1/traces; see CheckEndpoint.
	Endpoint string
	// Percent is how many requests of a hundred are traced, 1 to 100.
	Percent int
	// AcceptParent goes on with the traces that callers name.
	AcceptParent bool
	// Version and Environment are told with the spans.
	Version, Environment string
	// Client speaks https. Close closes it.
	Client *outbound.Client
	// Sent is told of spans that the receiver took, or did not, or that found no place in the
	// queue; nil for nobody. It is called by several goroutines at once.
	Sent func(spans int, taken bool)
	Log  *slog.Logger
}

// Traces sends spans until it is closed.
type Traces struct {
	provider *sdk.TracerProvider
	tracer   *span.Tracer
	client   *outbound.Client
}

// Open gives the sender. Nothing is sent yet, and the receiver need not be there.
func Open(cfg Config) (*Traces, error) {
	if err := CheckEndpoint(cfg.Endpoint); err != nil {
		return nil, fmt.Errorf("traces: endpoint %w", err)
	}
	if cfg.Percent < 1 || cfg.Percent > 100 || cfg.Log == nil {
		return nil, errors.New("traces: 1 to 100 percent and a log are needed")
	}
	// The library's own words are about what is reported here already, or debugging of it.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	otel.SetLogger(logr.Discard())
	sampler := sdk.TraceIDRatioBased(float64(cfg.Percent) / 100)
	provider := sdk.NewTracerProvider(
		sdk.WithSpanProcessor(newQueue(newExporter(cfg))),
		sdk.WithSampler(sdk.ParentBased(sampler)),
		sdk.WithIDGenerator(idGenerator{}),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "mintmark"),
			attribute.String("service.version", cfg.Version),
			attribute.String("deployment.environment.name", cfg.Environment),
		)),
	)
	t := &Traces{provider: provider, tracer: span.NewTracer(provider, nil), client: cfg.Client}
	if cfg.AcceptParent {
		t.tracer = span.NewTracer(provider, harmless)
	}
	return t, nil
}

// Tracer begins the spans of requests.
func (t *Traces) Tracer() *span.Tracer { return t.tracer }

// Close sends what waits, and ends.
func (t *Traces) Close(ctx context.Context) error {
	defer t.client.Close()
	if err := t.provider.Shutdown(ctx); err != nil {
		return errors.New("traces: the last spans were not sent")
	}
	return nil
}

// harmless reports whether a caller's numbers are no card number: 16 and 8 bytes of its choice
// would stand in the log and at the receiver.
func harmless(c trace.SpanContext) bool {
	return !secret.LooksLikePAN(c.TraceID().String()) && !secret.LooksLikePAN(c.SpanID().String())
}

// idGenerator draws numbers that the net under the log lets through: one in some hundred has
// the look of a card number.
type idGenerator struct{}

func (idGenerator) NewIDs(ctx context.Context) (id trace.TraceID, _ trace.SpanID) {
	for !id.IsValid() || secret.LooksLikePAN(id.String()) {
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	}
	return id, idGenerator{}.NewSpanID(ctx, id)
}

func (idGenerator) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() || secret.LooksLikePAN(id.String()) {
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	}
	return id
}

const (
	// queueLength is how many spans wait or are being sent.
	queueLength = 2048
	// batchLength is how many are sent at once, and batchEvery when what there is goes.
	batchLength = 512
	batchEvery  = 5 * time.Second
)

// queue has spans wait. The library's own drops what finds no place and tells nobody how much,
// so that it is not let in.
type queue struct {
	sdk.SpanProcessor
	to *exporter
}

func newQueue(e *exporter) queue {
	return queue{to: e, SpanProcessor: sdk.NewBatchSpanProcessor(e,
		sdk.WithMaxQueueSize(queueLength), sdk.WithMaxExportBatchSize(batchLength), sdk.WithBatchTimeout(batchEvery))}
}

// OnEnd takes a span (sdk.SpanProcessor).
func (q queue) OnEnd(s sdk.ReadOnlySpan) {
	if q.to.waiting.Add(1) > queueLength {
		q.to.waiting.Add(-1)
		q.to.sent(1, false)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// exporter is the queue's way to the receiver.
type exporter struct {
	post    func(ctx context.Context, body []byte) error
	sent    func(int, bool)
	log     *slog.Logger
	waiting atomic.Int64 // spans that are not sent yet

	mu   sync.Mutex
	lost bool // whether the last batch was; guarded by mu
}

func newExporter(cfg Config) *exporter {
	sent := cfg.Sent
	if sent == nil {
		sent = func(int, bool) {}
	}
	return &exporter{post: poster(cfg.Endpoint, cfg.Client), sent: sent, log: cfg.Log}
}

// sendWithin bounds one batch.
const sendWithin = 5 * time.Second

// ExportSpans sends one batch (sdk.SpanExporter).
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	body, err := encode(spans)
	if err == nil {
		err = e.post(ctx, body)
	}
	e.waiting.Add(-int64(len(spans)))
	e.sent(len(spans), err == nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && !e.lost:
		e.log.Warn("traces are lost: the receiver does not take them", "error", err)
	case err == nil && e.lost:
		e.log.Info("the receiver takes traces again")
	}
	e.lost = err != nil
	return err
}

// Shutdown is sdk.SpanExporter's.
func (e *exporter) Shutdown(context.Context) error { return nil }
