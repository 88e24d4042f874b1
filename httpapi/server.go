package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/record"
)

// Config says what the API is made of.
type Config struct {
	Verifier     *access.Verifier
	Provisioning Provisioner
	Refusals     Refusals
	Metrics      *Metrics
	Log          *slog.Logger
	// RequestTimeout bounds one request, waiting for the token included.
	RequestTimeout time.Duration
	// Stopping ends when the server is about to stop: from then on each answer closes its
	// connection, so that no client sends a request on one that is being closed.
	Stopping context.Context
}

// Refusals records that an authenticated caller was refused before the domain was
// asked. An error means it could not be recorded; the refusal stands.
type Refusals interface {
	Refuse(ctx context.Context, in record.Intent, reason string) error
}

// server implements the generated ServerInterface.
type server struct {
	cfg Config
	log *slog.Logger
}

var _ ServerInterface = (*server)(nil)

// New gives the handler of the API listener.
func New(cfg Config) http.Handler {
	s := &server{cfg: cfg, log: cfg.Log}
	engine := newEngine()
	engine.Use(withRequestID, s.observe, s.recoverPanic, secureHeaders, s.closeWhenStopping, s.withDeadline)
	engine.NoRoute(func(c *gin.Context) { notFound.write(c) })
	engine.NoMethod(func(c *gin.Context) { notAllowed.write(c) })
	RegisterHandlers(engine, s)
	return engine
}

var (
	notFound = problem{status: http.StatusNotFound, name: "no-such-resource", title: "No such resource",
		detail: "The API description lists the paths."}
	notAllowed = problem{status: http.StatusMethodNotAllowed, name: "method-not-allowed", title: "Method not allowed",
		detail: "The Allow header lists the methods."}
)

// newEngine is Gin without its own logger and recovery, which print what must not be
// printed, and without trust in forwarded headers.
func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	_ = engine.SetTrustedProxies(nil) // nil cannot fail to parse
	return engine
}

// Server gives an HTTP server with the limits of the house: whoever is slow or large
// loses the connection, not the service.
func Server(h http.Handler, addr string, log *slog.Logger) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 128},
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.Background() },
	}
}

// authorize gives the caller if it may use the right; otherwise it has answered.
func (s *server) authorize(c *gin.Context, op record.Operation, right access.Right) (access.Caller, bool) {
	token, err := access.Bearer(c.Request.Header.Values("Authorization"))
	var who access.Caller
	if err == nil {
		who, err = s.cfg.Verifier.Authenticate(token)
	}
	if err != nil {
		reason := string(access.ReasonOf(err))
		s.cfg.Metrics.refused(reason)
		s.log.WarnContext(c, "caller not authenticated", "requestId", requestID(c), "reason", reason)
		s.fail(c, err)
		return access.Caller{}, false
	}
	c.Set(callerKey, who)
	if err := who.May(right); err != nil {
		in := record.Intent{Operation: op, Tenant: who.Tenant, Issuer: who.Issuer, Subject: who.Subject, RequestID: requestID(c)}
		if err := s.cfg.Refusals.Refuse(c.Request.Context(), in, "forbidden"); err != nil {
			s.log.ErrorContext(c, "refusal not recorded", "requestId", requestID(c), "error", err)
		}
		s.fail(c, err)
		return access.Caller{}, false
	}
	return who, true
}
