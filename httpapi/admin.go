package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// A Check is one thing that must be well for the service to serve.
type Check struct {
	Name string
	// Required is false for what degrades a part of the service and not the whole.
	Required bool
	// Probe reports nil when it is well. Its error is shown on the admin listener.
	Probe func(ctx context.Context) error
}

// checkWithin bounds all probes of one health request together.
const checkWithin = 2 * time.Second

// NewAdmin gives the handler of the admin listener:
//
//	GET /livez    200 while the process serves; touches nothing
//	GET /readyz   200 when every required check is well, else 503; a line for each
//	              that is not: which HSM member, in which state, since when
//	GET /healthz  the same status with every check by name
//	GET /metrics  Prometheus
//
// and what further routes add.
func NewAdmin(m *Metrics, log *slog.Logger, checks []Check, routes ...func(gin.IRouter)) http.Handler {
	engine := newEngine()
	engine.Use(withRequestID, recovering(m, log), secureHeaders)
	engine.NoRoute(func(c *gin.Context) { notFound.write(c) })
	engine.NoMethod(wrongMethod)
	engine.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "live\n") })
	engine.GET("/readyz", func(c *gin.Context) {
		ok, results := probe(c.Request.Context(), checks)
		if !ok {
			c.String(http.StatusServiceUnavailable, "not ready\n"+failing(results))
			return
		}
		c.String(http.StatusOK, "ready\n"+failing(results))
	})
	engine.GET("/healthz", func(c *gin.Context) {
		ok, results := probe(c.Request.Context(), checks)
		status, body := http.StatusOK, health{Status: "ready", Checks: results}
		if !ok {
			status, body.Status = http.StatusServiceUnavailable, "not ready"
		}
		writeJSON(c, status, "application/json", body)
	})
	engine.GET("/metrics", gin.WrapH(m.handler()))
	for _, add := range routes {
		add(engine)
	}
	return engine
}

// failing is a line for each check that is not well: of a service that is ready, what
// degrades it.
func failing(results []checkResult) string {
	var b strings.Builder
	for _, r := range results {
		if !r.OK {
			fmt.Fprintf(&b, "%s: %s\n", r.Name, r.Error)
		}
	}
	return b.String()
}

// health is the body of /healthz.
type health struct {
	Status string        `json:"status"`
	Checks []checkResult `json:"checks"`
}

type checkResult struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Required bool   `json:"required"`
	Error    string `json:"error,omitempty"`
}

// probe asks all checks at the same time, so that one that hangs takes no time from the
// others, and answers when the time is up. A probe that does not heed its context, such
// as a call that hangs inside a PKCS#11 module, is left behind with its goroutine.
func probe(ctx context.Context, checks []Check) (bool, []checkResult) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, ch := range checks {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- ch.ask(ctx) }()
	}
	ok := true
	results := make([]checkResult, len(checks))
	for i, ch := range checks {
		results[i] = checkResult{Name: ch.Name, OK: true, Required: ch.Required}
		if err := await(ctx, answers[i]); err != nil {
			results[i].OK, results[i].Error = false, err.Error()
			ok = ok && !ch.Required
		}
	}
	return ok, results
}

// ask is Probe in a goroutine of its own, where a panic would end the process.
func (ch Check) ask(ctx context.Context) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the probe panicked")
		}
	}()
	return ch.Probe(ctx)
}

// await gives the answer, which counts even if the time ran out meanwhile for others.
func await(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer:
		return err
	default:
		return fmt.Errorf("no answer within %v", checkWithin)
	}
}
