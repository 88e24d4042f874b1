package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mintmark/mintmark/internal/outbound"
)

// CheckEndpoint says what keeps spans from being sent to an address, for the operator who
// configures it. The error does not repeat the address.
func CheckEndpoint(address string) error {
	u, err := url.Parse(address)
	if err == nil && u.Scheme == "http" && u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() {
			return nil
		}
	}
	if outbound.CheckURL(address) != nil || u.RawQuery != "" {
		return errors.New("must be an https URL, or http:// with an address of this host's own such as 127.0.0.1, without a query")
	}
	return nil
}

// protobufType is what is sent (OTLP 1.x, OTLP/HTTP, binary encoding).
const protobufType = "application/x-protobuf"

// poster gives the way to an endpoint that was checked.
func poster(endpoint string, https *outbound.Client) func(context.Context, []byte) error {
	u, _ := url.Parse(endpoint) // CheckEndpoint did
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	if u.Scheme == "http" {
		return here(u.String())
	}
	return func(ctx context.Context, body []byte) error {
		a, err := https.Post(ctx, u.String(), protobufType, body, nil)
		if err != nil {
			return err
		}
		return taken(a.Status)
	}
}

// here posts to this host in plain HTTP, and nowhere else whatever it is answered.
func here(address string) func(context.Context, []byte) error {
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
			return errors.New("not this host")
		}
		return nil
	}}
	client := &http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, MaxConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, body []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", protobufType)
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection serves again
		return taken(res.StatusCode)
	}
}

func taken(status int) error {
	if status/100 != 2 {
		return fmt.Errorf("it answers %d", status)
	}
	return nil
}

// encode gives a batch as it is sent. An ExportTraceServiceRequest has the one field that
// TracesData has, with the same number, and so the same bytes; its own package would link
// gRPC.
func encode(spans []sdk.ReadOnlySpan) ([]byte, error) {
	if len(spans) == 0 {
		return nil, errors.New("no spans")
	}
	scoped := &traces.ScopeSpans{Scope: &common.InstrumentationScope{Name: spans[0].InstrumentationScope().Name}}
	for _, s := range spans {
		scoped.Spans = append(scoped.Spans, encodeSpan(s))
	}
	return proto.Marshal(&traces.TracesData{ResourceSpans: []*traces.ResourceSpans{{
		Resource:   &resource.Resource{Attributes: encodeValues(spans[0].Resource().Attributes())},
		ScopeSpans: []*traces.ScopeSpans{scoped},
	}}})
}

func encodeSpan(s sdk.ReadOnlySpan) *traces.Span {
	id, trace := s.SpanContext().SpanID(), s.SpanContext().TraceID()
	out := &traces.Span{
		TraceId: trace[:], SpanId: id[:], Name: s.Name(),
		Kind:              traces.Span_SpanKind(s.SpanKind()), // the same numbers
		StartTimeUnixNano: uint64(s.StartTime().UnixNano()),
		EndTimeUnixNano:   uint64(s.EndTime().UnixNano()),
		Attributes:        encodeValues(s.Attributes()),
		Status:            &traces.Status{},
	}
	if s.Parent().IsValid() {
		parent := s.Parent().SpanID()
		out.ParentSpanId = parent[:]
	}
	if s.Status().Code == codes.Error {
		out.Status.Code = traces.Status_STATUS_CODE_ERROR
	}
	for _, e := range s.Events() {
		out.Events = append(out.Events, &traces.Span_Event{Name: e.Name, TimeUnixNano: uint64(e.Time.UnixNano())})
	}
	return out
}

// encodeValues gives values of the two kinds that there are (span.Span.Set and SetInt).
func encodeValues(all []attribute.KeyValue) []*common.KeyValue {
	out := make([]*common.KeyValue, len(all))
	for i, a := range all {
		v := &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: a.Value.String()}}
		if a.Value.Type() == attribute.INT64 {
			v.Value = &common.AnyValue_IntValue{IntValue: a.Value.AsInt64()}
		}
		out[i] = &common.KeyValue{Key: string(a.Key), Value: v}
	}
	return out
}
