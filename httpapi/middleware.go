package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// Keys of values that middleware leaves in the Gin context.
const (
	requestIDKey = "mintmark.requestID"
	callerKey    = "mintmark.caller"
	outcomeKey   = "mintmark.outcome"
)

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)

// withRequestID takes the caller's X-Request-Id if it has the form of one and not that
// of a card number, or makes one, and sends it back.
func withRequestID(c *gin.Context) {
	id := c.GetHeader("X-Request-Id")
	for !requestIDForm.MatchString(id) || secret.LooksLikePAN(id) { // one of ours may, too
		id = uuid.Must(uuid.NewV7()).String()
	}
	c.Set(requestIDKey, id)
	c.Header("X-Request-Id", id)
}

func requestID(c *gin.Context) string { return c.GetString(requestIDKey) }

// observe logs one line and counts once a request: route, never path or query.
func (s *server) observe(c *gin.Context) {
	began := time.Now()
	c.Next()
	route := c.FullPath()
	if route == "" {
		route = "none"
	}
	took := time.Since(began)
	s.cfg.Metrics.answered(route, c.Request.Method, c.Writer.Status(), took)
	attrs := []slog.Attr{
		slog.String("requestId", requestID(c)),
		slog.String("route", route),
		slog.String("method", knownMethod(c.Request.Method)),
		slog.Int("status", c.Writer.Status()),
		slog.Duration("took", took),
	}
	if who, ok := c.Get(callerKey); ok {
		caller := who.(access.Caller)
		attrs = append(attrs, slog.String("tenant", caller.Tenant), slog.String("iss", caller.Issuer))
	}
	if outcome := c.GetString(outcomeKey); outcome != "" {
		attrs = append(attrs, slog.String("problem", outcome))
	}
	if id := span.TraceID(c.Request.Context()); id != "" {
		attrs = append(attrs, slog.String("traceId", id))
	}
	s.log.LogAttrs(c, slog.LevelInfo, "request", attrs...)
}

// knownMethod bounds what a caller can put into logs and metrics.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	default:
		return "other"
	}
}

// recovering gives the middleware that answers a panic with 500 and keeps the server up. The
// panic's value is not logged: it may hold what was being worked on. The stack holds names,
// lines and machine words.
func recovering(m *Metrics, log *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		defer func() {
			if r := recover(); r != nil {
				m.panicked()
				log.ErrorContext(c, "panic in a handler", "requestId", requestID(c), "route", c.FullPath(), "stack", string(debug.Stack()))
				internalError(c)
			}
		}()
		c.Next()
	}
}

// wrongMethod answers 405 in the form of the route.
func wrongMethod(c *gin.Context) {
	if c.Request.URL.Path == proximityPath {
		legacyError{status: http.StatusMethodNotAllowed, text: "Method not allowed"}.write(c)
		return
	}
	notAllowed.write(c)
}

// internalError answers 500 in the form of the route.
func internalError(c *gin.Context) {
	if c.FullPath() == proximityPath {
		proximityError(nil).write(c)
		return
	}
	problemOf(nil).write(c)
}

func secureHeaders(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Header("X-Content-Type-Options", "nosniff")
}

// closeWhenStopping has the client open its next connection elsewhere.
func (s *server) closeWhenStopping(c *gin.Context) {
	if s.cfg.Stopping != nil && s.cfg.Stopping.Err() != nil {
		c.Header("Connection", "close")
	}
}

// withDeadline gives the request its time.
func (s *server) withDeadline(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.cfg.RequestTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}
