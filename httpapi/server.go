package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/span"
)

// Config says what the API of one listener is made of.
type Config struct {
	// Groups are the groups of routes that are served.
	Groups []Group
	// Certificates says what TLS client certificates are good for; a group without a mode
	// does not look at them.
	Certificates map[Group]CertificateMode

	Callers      Callers
	Provisioning Provisioner // for IssuerGroup
	Wallets      Wallets     // for IssuerGroup
	Approvals    Approvals   // for IssuerGroup
	Merchant     Merchant    // for MerchantGroup
	Passes       Passes      // for PassesGroup
	Keys         PublicKeys  // for KeysGroup
	Refusals     Refusals
	Checkpoints  Checkpoints // nil for none
	Published    *Published  // checkpoints of logs that are named; nil for none
	Docs         bool        // whether /docs/ shows the description
	Metrics      *Metrics
	Log          *slog.Logger
	// Tracer begins the spans of requests; nil for none.
	Tracer *span.Tracer
	// Environment is that of the configuration.
	Environment string
	// Now is the clock.
	Now func() time.Time
	// ClaimLease is how long a bearer token that is good for one use stays claimed by a
	// request that never ends.
	ClaimLease time.Duration
	// DecisionsByCertificate has decisions asked for over TLS with a certificate of the caller's.
	DecisionsByCertificate bool
	// RequestTimeout bounds one request, waiting for the token included.
	RequestTimeout time.Duration
	// Stopping ends when the server is about to stop: from then on each answer closes its
	// connection, so that no client sends a request on one that is being closed.
	Stopping context.Context
}

// server implements the generated ServerInterface.
type server struct {
	cfg Config
	log *slog.Logger

	personalizing anonymous // how often a tenant's devices ask for a signature
	deviceLog     anonymous // how many lines they log
}

var _ ServerInterface = (*server)(nil)

// New gives the handler of the API listener.
func New(cfg Config) http.Handler {
	s := &server{cfg: cfg, log: cfg.Log}
	engine := newEngine()
	engine.Use(s.traced, withRequestID, s.observe, recovering(s.cfg.Metrics, s.log), secureHeaders, s.closeWhenStopping, s.withDeadline)
	engine.NoRoute(func(c *gin.Context) { notFound.write(c) })
	engine.NoMethod(wrongMethod)
	s.register(engine)
	if cfg.Docs {
		docsRoutes(engine)
	}
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
