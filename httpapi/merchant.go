package httpapi

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// Merchant is what the merchant API asks of the domain; *merchant.Service is it. Its errors
// are those of the Service's methods; nothing is retried here.
type Merchant interface {
	SignToken(ctx context.Context, who merchant.Caller, req merchant.TokenRequest) (merchant.Token, error)
	CheckToken(c merchant.Claims) error
	ProximityToken(ctx context.Context, who merchant.Caller, c merchant.Claims) (merchant.ProximityToken, error)
}

var _ Merchant = (*merchant.Service)(nil)

// SignMerchantToken is POST /v1/merchant-tokens.
func (s *server) SignMerchantToken(c *gin.Context) {
	who, ok := s.authorize(c, record.SignMerchantToken, access.SignMerchantTokens)
	if !ok {
		return
	}
	var body MerchantTokenRequest
	if err := decodeNullable(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	req, err := merchantTokenRequest(body)
	if err != nil {
		s.fail(c, err)
		return
	}
	out, err := s.cfg.Merchant.SignToken(c.Request.Context(), s.merchantCaller(c, who, access.SignMerchantTokens), req)
	if err != nil {
		s.failed(c, record.SignMerchantToken, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", MerchantToken{Token: out.Token, ExpiresAt: out.ExpiresAt, Kid: out.KeyID})
}

func (s *server) merchantCaller(c *gin.Context, who access.Caller, right access.Right) merchant.Caller {
	return merchant.Caller{
		Tenant: who.Tenant, Issuer: who.Issuer, Subject: who.Subject,
		RequestID: requestID(c), Claims: s.claims(who, right),
	}
}

// merchantTokenRequest resolves optional members and the two forms of the fingerprints.
func merchantTokenRequest(b MerchantTokenRequest) (merchant.TokenRequest, error) {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	req := merchant.TokenRequest{
		Subject: b.Sub, User: b.Usr, Audience: b.Aud,
		SPConfig: text(b.SpCfg), BusinessName: text(b.Mbn), CategoryCode: text(b.Mcc),
		TerminalID: text(b.XTid), ProviderID: text(b.Tpid),
		LifetimeSeconds: b.LifetimeSeconds,
	}
	if b.Claims != nil {
		req.Claims = *b.Claims
	}
	if b.AudFingerprints != nil {
		var ok bool
		if csv, err := b.AudFingerprints.AsMerchantTokenRequestAudFingerprints0(); err == nil {
			req.Fingerprints, ok = merchant.SplitFingerprints(csv)
		} else if list, err := b.AudFingerprints.AsMerchantTokenRequestAudFingerprints1(); err == nil {
			req.Fingerprints, ok = merchant.ParseFingerprints(list)
		}
		if !ok {
			return req, &merchant.FieldError{Member: "aud_fingerprints", Problem: "must be sha256/ and the Base64 of 32 bytes, up to 16 of them, comma-separated or in an array"}
		}
	}
	return req, nil
}

// CheckMerchantToken is POST /tokens/checkjwt.
func (s *server) CheckMerchantToken(c *gin.Context) {
	who, err := s.authenticate(c, record.CheckMerchantToken)
	if err == nil && who.Payload() == nil { // a client that its certificate proves: there is nothing to check
		err = access.AuthenticationError{Reason: access.ReasonMissing}
		s.unauthenticated(c, record.CheckMerchantToken, err)
	}
	if err != nil {
		s.checkFailed(c, err)
		return
	}
	claims, err := merchant.ParseClaims(who.Payload())
	if err == nil {
		err = s.cfg.Merchant.CheckToken(claims)
	}
	if err != nil {
		s.refuse(c, record.CheckMerchantToken, who, claimReason(err))
		s.checkFailed(c, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", merchantClaims(claims))
}

var sdkVersionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// CheckMerchantTokenOfVersion is POST /{sdkVersion}/tokens/checkjwt.
func (s *server) CheckMerchantTokenOfVersion(c *gin.Context, sdkVersion string) {
	if !sdkVersionForm.MatchString(sdkVersion) {
		notFound.write(c)
		return
	}
	s.CheckMerchantToken(c)
}

func merchantClaims(c merchant.Claims) MerchantClaims {
	out := MerchantClaims{
		Iss: c.Issuer, Sub: c.Subject, Usr: c.User, Aud: c.Audience,
		Iat: c.IssuedAt.Unix(), Exp: c.Expires.Unix(), RefreshToken: c.RefreshToken,
	}
	for _, t := range []struct {
		to   **string
		from string
	}{{&out.SpCfg, c.SPConfig}, {&out.Mbn, c.BusinessName}, {&out.Mcc, c.CategoryCode}, {&out.XTid, c.TerminalID}, {&out.Tpid, c.ProviderID}} {
		if t.from != "" {
			*t.to = &t.from
		}
	}
	if c.Fingerprints != nil {
		texts := make([]string, len(c.Fingerprints))
		for i, f := range c.Fingerprints {
			texts[i] = string(f)
		}
		out.AudFingerprints = &texts
	}
	return out
}

// CreateAppleProximityToken is POST /apple/proximity-token. All its answers are of the form
// that its clients expect, in place of problems.
func (s *server) CreateAppleProximityToken(c *gin.Context) {
	const op, right = record.SignProximityToken, access.CreateAppleProximityToken
	who, err := s.authenticate(c, op)
	if err == nil {
		err = s.permit(c, op, who, right)
	}
	if err != nil {
		s.proximityFailed(c, err)
		return
	}
	claims, err := merchant.ParseClaims(who.Payload())
	if err != nil {
		s.refuse(c, op, who, claimReason(err))
		s.proximityFailed(c, err)
		return
	}
	out, err := s.cfg.Merchant.ProximityToken(c.Request.Context(), s.merchantCaller(c, who, right), claims)
	if err != nil {
		s.replayed(c, op, who, err)
		s.proximityFailed(c, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", ProximityToken{
		Token: out.Token, IssuedAt: milliseconds(out.IssuedAt), ExpiresAt: milliseconds(out.ExpiresAt), JwtId: out.ID,
	})
}

// milliseconds writes a time as ISO 8601 with milliseconds and Z.
func milliseconds(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
