package httpapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/webservice"
)

// PassDevices is what devices ask of the domain; *passes.Service is it.
type PassDevices interface {
	Authenticate(ctx context.Context, id passes.ID, token string) error
	Register(ctx context.Context, id passes.ID, device string, who webservice.Credentials, pushToken string) (created bool, err error)
	Unregister(ctx context.Context, id passes.ID, device string, who webservice.Credentials) error
	Updated(ctx context.Context, id passes.TypeID, device, tag string) (passes.Updates, error)
	Fetch(ctx context.Context, id passes.ID, token, requestID string, since time.Time) (passes.Pkpass, error)
	Personalize(ctx context.Context, id passes.ID, requestID string, p webservice.Personalization) ([]byte, error)
	Refused(ctx context.Context, id passes.ID, requestID string) error
	DeviceLog(tenant string, lines []webservice.LogLine) []passes.DeviceLine
	Knows(tenant string) bool
}

// speaks reports whether a call is of the one version of the protocol; otherwise it has
// answered.
func (s *server) speaks(c *gin.Context, version string) bool {
	if version == webservice.Version {
		return true
	}
	notFound.write(c)
	return false
}

// shown is what a device shows for a pass. What cannot be read is an empty token, which is
// no pass's.
func shown(c *gin.Context) webservice.Credentials {
	who, err := webservice.ParseAuthorization(c.Request.Header.Values("Authorization"), c.GetHeader("X-Pass-Client"))
	if err != nil {
		return webservice.Credentials{}
	}
	return who
}

// failDevice answers a device. A refusal is on record when it returns.
func (s *server) failDevice(c *gin.Context, id passes.ID, err error) {
	if errors.Is(err, passes.ErrUnauthorized) {
		s.cfg.Metrics.refused("pass-token")
		if recorded := s.cfg.Passes.Refused(c.Request.Context(), id, requestID(c)); recorded != nil {
			s.log.ErrorContext(c, "refusal not recorded", "requestId", requestID(c), "error", recorded)
		}
	}
	var invalid *passes.InvalidError
	if errors.As(err, &invalid) { // the issuer's fault, and not the device's
		s.log.ErrorContext(c, "pass cannot be signed", "requestId", requestID(c), "passType", id.Type, "error", err)
		unavailable(time.Minute).write(c)
		return
	}
	s.fail(c, err)
}

// RegisterPassDevice is POST …/devices/{device}/registrations/{type}/{serial}.
func (s *server) RegisterPassDevice(c *gin.Context, tenant TenantId, version Version, device DeviceIdentifier, passType PassTypeIdentifier, serial SerialNumber, _ RegisterPassDeviceParams) {
	if !s.speaks(c, version) {
		return
	}
	id, who := passID(tenant, passType, serial), shown(c)
	err := s.cfg.Passes.Authenticate(c.Request.Context(), id, who.Token)
	var body []byte
	if err == nil {
		body, err = readBody(c, maxBody)
	}
	var pushToken string
	if err == nil {
		if pushToken, err = webservice.ParseRegistration(body); err != nil {
			err = malformedBody("A registration needs a pushToken.")
		}
	}
	var created bool
	if err == nil {
		created, err = s.cfg.Passes.Register(c.Request.Context(), id, device, who, pushToken)
	}
	switch {
	case err != nil:
		s.failDevice(c, id, err)
	case created:
		c.Status(http.StatusCreated)
	default:
		c.Status(http.StatusOK)
	}
}

// UnregisterPassDevice is DELETE …/devices/{device}/registrations/{type}/{serial}.
func (s *server) UnregisterPassDevice(c *gin.Context, tenant TenantId, version Version, device DeviceIdentifier, passType PassTypeIdentifier, serial SerialNumber, _ UnregisterPassDeviceParams) {
	if !s.speaks(c, version) {
		return
	}
	id := passID(tenant, passType, serial)
	if err := s.cfg.Passes.Unregister(c.Request.Context(), id, device, shown(c)); err != nil {
		s.failDevice(c, id, err)
		return
	}
	c.Status(http.StatusOK)
}

// ListUpdatedPasses is GET …/devices/{device}/registrations/{type}. It is not
// authenticated: devices show nothing here, and asking them for it breaks their updates.
func (s *server) ListUpdatedPasses(c *gin.Context, tenant TenantId, version Version, device DeviceIdentifier, passType PassTypeIdentifier, params ListUpdatedPassesParams) {
	if !s.speaks(c, version) {
		return
	}
	tag := ""
	if params.PassesUpdatedSince != nil {
		tag = *params.PassesUpdatedSince
	}
	id := passes.TypeID{Tenant: tenant, Type: passType}
	u, err := s.cfg.Passes.Updated(c.Request.Context(), id, device, tag)
	switch {
	case err != nil:
		s.failDevice(c, passes.ID{TypeID: id}, err)
	case len(u.Serials) == 0:
		c.Status(http.StatusNoContent)
	default:
		writeJSON(c, http.StatusOK, "application/json", map[string]any{"serialNumbers": u.Serials, "lastUpdated": u.Tag})
	}
}

// FetchPass is GET …/passes/{type}/{serial}.
func (s *server) FetchPass(c *gin.Context, tenant TenantId, version Version, passType PassTypeIdentifier, serial SerialNumber, _ FetchPassParams) {
	if !s.speaks(c, version) {
		return
	}
	id := passID(tenant, passType, serial)
	// A date that cannot be read counts as none (RFC 9110, 13.1.3).
	since, _ := http.ParseTime(c.GetHeader("If-Modified-Since"))
	p, err := s.cfg.Passes.Fetch(c.Request.Context(), id, shown(c).Token, requestID(c), since)
	if err != nil && !errors.Is(err, passes.ErrNotModified) {
		s.failDevice(c, id, err)
		return
	}
	c.Header("Last-Modified", p.Modified.Format(http.TimeFormat))
	if err != nil {
		c.Status(http.StatusNotModified)
		return
	}
	c.Data(http.StatusOK, passkit.MediaTypePass, p.Content)
}

// PersonalizePass is POST …/passes/{type}/{serial}/personalize.
func (s *server) PersonalizePass(c *gin.Context, tenant TenantId, version Version, passType PassTypeIdentifier, serial SerialNumber) {
	if !s.speaks(c, version) || !s.mayAnonymously(c, tenant, &s.personalizing) {
		return
	}
	id := passID(tenant, passType, serial)
	body, err := readBody(c, maxBody)
	var p webservice.Personalization
	if err == nil {
		if p, err = webservice.ParsePersonalization(body); err != nil {
			err = malformedBody("A personalisation needs a personalizationToken, and an object as requiredPersonalizationInfo if it has one.")
		}
	}
	var signature []byte
	if err == nil {
		signature, err = s.cfg.Passes.Personalize(c.Request.Context(), id, requestID(c), p)
	}
	if err != nil {
		s.failDevice(c, id, err)
		return
	}
	c.Data(http.StatusOK, "application/octet-stream", signature)
}

// LogPassDevice is POST …/log. Lines beyond what a tenant's devices may log are dropped.
func (s *server) LogPassDevice(c *gin.Context, tenant TenantId, version Version) {
	if !s.speaks(c, version) || !s.mayAnonymously(c, tenant, &s.deviceLog) {
		return
	}
	body, err := readBody(c, maxBody)
	var lines []webservice.LogLine
	if err == nil {
		if lines, err = webservice.ParseLogs(body); err != nil {
			err = malformedBody("The body must be an object with logs, an array of texts.")
		}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	for i := 1; i < len(lines); i++ { // the first was paid for with the call
		if !s.deviceLog.allow(tenant, s.cfg.Now()) {
			lines = lines[:i]
		}
	}
	for _, l := range s.cfg.Passes.DeviceLog(tenant, lines) {
		s.log.InfoContext(c, "device reports", "requestId", requestID(c), "tenant", tenant, "kind", l.Kind,
			"device", l.Device, "passType", l.PassType, "serial", l.Serial, "text", l.Text)
	}
	c.Status(http.StatusOK)
}

// How often a tenant's devices may call without authentication, where a call costs a
// signature or a line in the log.
const (
	anonymousPerSecond = 20
	anonymousBurst     = 200
)

// anonymous bounds unauthenticated calls, each tenant's by itself.
type anonymous struct {
	mu       sync.Mutex // guards byTenant
	byTenant map[string]*rate.Limiter
}

func (a *anonymous) allow(tenant string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byTenant == nil {
		a.byTenant = map[string]*rate.Limiter{}
	}
	l, ok := a.byTenant[tenant]
	if !ok {
		l = rate.NewLimiter(anonymousPerSecond, anonymousBurst)
		a.byTenant[tenant] = l
	}
	return l.AllowN(now, 1)
}

// mayAnonymously reports whether a tenant's devices have not called too often; otherwise it
// has answered. Tenants that there are not get no limiter: the names come from outside.
func (s *server) mayAnonymously(c *gin.Context, tenant string, a *anonymous) bool {
	if !s.cfg.Passes.Knows(tenant) {
		notFound.write(c)
		return false
	}
	if !a.allow(tenant, s.cfg.Now()) {
		problem{status: http.StatusTooManyRequests, name: "too-many-requests", title: "Too many requests", reason: "rate",
			detail: "The tenant's devices call more often than they have reason to.", retry: time.Second}.write(c)
		return false
	}
	return true
}
