package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// operationKey is where the span of the operation is left.
const operationKey = "mintmark.operation"

// traced begins the span of a request, by the route's template: the path has what callers
// put there.
func (s *server) traced(c *gin.Context) {
	if s.cfg.Tracer == nil {
		return
	}
	route, method := c.FullPath(), knownMethod(c.Request.Method)
	if route == "" {
		route = "none"
	}
	ctx, request := s.cfg.Tracer.Request(c.Request.Context(), c.Request.Header, method+" "+route)
	c.Request = c.Request.WithContext(ctx)
	defer request.End()
	defer func() {
		if operation, ok := c.Get(operationKey); ok {
			operation.(span.Span).End()
		}
	}()
	c.Next()
	request.Set(span.Method, method)
	request.Set(span.Route, route)
	request.SetInt(span.Status, c.Writer.Status())
	if problem := c.GetString(outcomeKey); problem != "" {
		request.Set(span.Problem, problem)
	}
	if c.Writer.Status() >= http.StatusInternalServerError {
		request.Failed()
	}
}

// operating begins the span of what an authenticated caller asks for. It ends with the
// request.
func operating(c *gin.Context, op record.Operation) {
	ctx, operation := span.Start(c.Request.Context(), string(op))
	if operation.On() {
		c.Set(operationKey, operation)
		c.Request = c.Request.WithContext(ctx)
	}
}

// Traces registers the counts of spans, and gives who counts them.
func (m *Metrics) Traces() func(spans int, taken bool) {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mintmark_trace_spans_total", Help: "Spans sent to the receiver of traces, by what became of them: taken, or lost."}, []string{"outcome"})
	m.registry.MustRegister(sent)
	lost, taken := sent.WithLabelValues("lost"), sent.WithLabelValues("taken")
	return func(spans int, ok bool) {
		if ok {
			taken.Add(float64(spans))
			return
		}
		lost.Add(float64(spans))
	}
}
