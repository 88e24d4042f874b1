package telemetry_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
	"github.com/mintmark/mintmark/internal/telemetry"
)

// receiver is an OTLP receiver that answers with a status.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []*traces.TracesData
	path   string
	kind   string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		data := &traces.TracesData{}
		if err != nil || proto.Unmarshal(body, data) != nil {
			t.Errorf("no request of OTLP: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got, r.path, r.kind = append(r.got, data), req.URL.Path, req.Header.Get("Content-Type")
		if r.status/100 == 3 {
			w.Header().Set("Location", "http://192.0.2.1/")
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

// sender opens one to an endpoint, and gives what it has counted.
func sender(t *testing.T, cfg telemetry.Config) (*telemetry.Traces, *[2]int) {
	t.Helper()
	var counted [2]int // lost, taken
	var mu sync.Mutex
	cfg.Version, cfg.Environment, cfg.Client = "v1", "test", outbound.New(outbound.Config{})
	cfg.Sent = func(n int, taken bool) {
		mu.Lock()
		defer mu.Unlock()
		if taken {
			counted[1] += n
			return
		}
		counted[0] += n
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s, err := telemetry.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, &counted
}

func TestSpansArriveAsTheyAre(t *testing.T) {
	r := newReceiver(t)
	s, counted := sender(t, telemetry.Config{Endpoint: r.URL, Percent: 100})
	ctx, request := s.Tracer().Request(context.Background(), http.Header{}, "POST /x")
	inner, at := span.Start(ctx, "hsm.sign")
	span.Event(inner, "admitted")
	at.Set(span.Member, "a")
	at.Failed()
	at.End()
	request.SetInt(span.Status, 503)
	request.End()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}

	if len(r.got) != 1 || r.path != "/v1/traces" || r.kind != "application/x-protobuf" || *counted != [2]int{0, 2} {
		t.Fatalf("%d requests to %s of %s, counted %v", len(r.got), r.path, r.kind, *counted)
	}
	of := r.got[0].ResourceSpans[0]
	if got := of.Resource.Attributes[1]; got.Key != "service.name" || got.Value.GetStringValue() != "mintmark" {
		t.Errorf("resource %v", of.Resource)
	}
	all := of.ScopeSpans[0].Spans
	child, root := all[0], all[1]
	if !bytes.Equal(child.ParentSpanId, root.SpanId) || !bytes.Equal(child.TraceId, root.TraceId) || root.ParentSpanId != nil || len(child.TraceId) != 16 {
		t.Error("the one does not hang under the other")
	}
	if child.Name != "hsm.sign" || child.Attributes[0].Value.GetStringValue() != "a" || child.Status.Code != traces.Status_STATUS_CODE_ERROR ||
		child.Events[0].Name != "admitted" || child.Kind != traces.Span_SPAN_KIND_INTERNAL {
		t.Errorf("the inner span is %v", child)
	}
	if root.Kind != traces.Span_SPAN_KIND_SERVER || root.Attributes[0].Value.GetIntValue() != 503 || root.Status.Code != traces.Status_STATUS_CODE_UNSET ||
		root.StartTimeUnixNano > child.StartTimeUnixNano || root.EndTimeUnixNano < child.EndTimeUnixNano {
		t.Errorf("the request's is %v", root)
	}
}

// A receiver that does not take them is said once, not for each batch, and so is that it
// takes them again.
func TestALossIsCountedAndSaidOnce(t *testing.T) {
	r := newReceiver(t)
	var log bytes.Buffer
	s, counted := sender(t, telemetry.Config{Endpoint: r.URL, Percent: 100, Log: slog.New(slog.NewTextHandler(&log, nil))})
	send := func(status int) {
		r.mu.Lock()
		r.status = status
		r.mu.Unlock()
		_, request := s.Tracer().Request(context.Background(), http.Header{}, "GET /x")
		request.End()
		s.Flush(context.Background())
	}
	for _, status := range []int{200, 503, 307, 400, 202, 200} {
		send(status)
	}
	if *counted != [2]int{3, 3} {
		t.Errorf("lost and taken: %v", *counted)
	}
	if text := log.String(); strings.Count(text, "traces are lost") != 1 || strings.Count(text, "takes traces again") != 1 {
		t.Errorf("the log says\n%s", text)
	}
}

// While the receiver does not answer, requests go on: what finds no place in the queue is lost,
// and counted.
func TestWhatFindsNoPlaceIsCounted(t *testing.T) {
	r := newReceiver(t)
	s, counted := sender(t, telemetry.Config{Endpoint: r.URL, Percent: 100})
	const all = 5000
	r.mu.Lock() // its answers wait
	for range all {
		_, request := s.Tracer().Request(context.Background(), http.Header{}, "GET /x")
		request.End()
	}
	r.mu.Unlock()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if counted[0] == 0 || counted[1] == 0 || counted[0]+counted[1] != all {
		t.Errorf("lost and taken of %d: %v", all, *counted)
	}
}

// A trace's number stands in the log, and the net under it must let it through. A caller
// cannot choose one that is a card number.
func TestNumbersHaveNotTheLookOfACardNumber(t *testing.T) {
	s, _ := sender(t, telemetry.Config{Endpoint: "http://127.0.0.1:9", Percent: 100, AcceptParent: true})
	for range 2000 {
		ctx, _ := s.Tracer().Request(context.Background(), http.Header{}, "GET /x")
		if secret.LooksLikePAN(span.TraceID(ctx)) {
			t.Fatal(span.TraceID(ctx))
		}
	}
	for traceparent, goesOn := range map[string]bool{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": true,
		"00-5204245250001488aaaaaaaaaaaaaaaa-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-5204245250001488-01": false,
	} {
		ctx, _ := s.Tracer().Request(context.Background(), http.Header{"Traceparent": {traceparent}}, "GET /x")
		if got := strings.Contains(traceparent, span.TraceID(ctx)); got != goesOn {
			t.Errorf("%s goes on: %t", traceparent, got)
		}
	}
}

func TestWhereTracesMayGo(t *testing.T) {
	for endpoint, well := range map[string]bool{
		"https://otel.example":         true,
		"https://otel.example:4318/x":  true,
		"http://127.0.0.1:4318":        true,
		"http://127.0.0.1:4318/":       true,
		"http://[::1]:4318/v1/traces":  true,
		"http://localhost:4318":        false, // a name is whoever it resolves to
		"http://otel.example:4318":     false,
		"http://10.0.0.1:4318":         false,
		"http://u:p@127.0.0.1:4318":    false,
		"https://u:p@otel.example":     false,
		"https://otel.example?key=abc": false,
		"otel.example:4318":            false,
		"grpc://otel.example":          false,
		"":                             false,
	} {
		if err := telemetry.CheckEndpoint(endpoint); (err == nil) != well {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}
