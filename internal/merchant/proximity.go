package merchant

import (
	"context"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// ProximityToken is an Apple proximity token for Tap to Pay on iPhone.
type ProximityToken struct {
	Token     string // ES256 JWS, compact serialisation
	IssuedAt  time.Time
	ExpiresAt time.Time // 48 hours later
	ID        string    // a UUID, the token's jti
}

// ProximityToken makes the token for the merchant that the claims of a verified merchant
// JWT name. The terminal must be one of the acquirer of the JWT's issuer.
//
// Errors: a *ClaimError; the error of a claim of the caller's; or one with RetryAfter.
func (s *Service) ProximityToken(ctx context.Context, who Caller, c Claims) (ProximityToken, error) {
	settings := s.settings.Load()
	intent := who.intent(record.SignProximityToken, nil)
	acquirer, err := settings.merchantOf(c)
	if missing := s.checkIdentity(c); missing != nil {
		err = missing
	}
	if err != nil {
		return ProximityToken{}, s.refuse(ctx, intent, "claim-"+err.Claim, err)
	}
	issued := s.cfg.Now().UTC().Truncate(time.Second) // iat is in whole seconds, and issuedAt is iat
	out := ProximityToken{IssuedAt: issued, ExpiresAt: issued.Add(ProximityLifetime), ID: uuid.NewString()}
	claims := settings.ProximityClaims.fill(substitution{
		issuer: settings.ProximityIssuer, jwtID: out.ID, terminal: c.TerminalID, acquirer: acquirer,
		issuedAt: issued.Unix(), expiresAt: out.ExpiresAt.Unix(), claims: c,
	})
	intent.Refs = map[string]string{"jti": out.ID, "acquirer": acquirer, "terminalProfile": c.TerminalID}
	var signErr error
	out.Token, _, signErr = s.sign(ctx, who, intent, func(ctx context.Context, t *record.Ticket) (signer.SignedJWT, error) {
		return s.cfg.Gate.SignProximityToken(ctx, t, jwt.MapClaims(claims))
	})
	if signErr != nil {
		return ProximityToken{}, signErr
	}
	return out, nil
}

// merchantOf checks the business claims and gives the name of the acquirer.
func (s *Settings) merchantOf(c Claims) (string, *ClaimError) {
	switch {
	case c.BusinessName == "":
		return "", &ClaimError{"mbn", "is missing (merchant business name)"}
	case c.CategoryCode == "":
		return "", &ClaimError{"mcc", "is missing (merchant category code)"}
	case !isCategoryCode(c.CategoryCode):
		return "", &ClaimError{"mcc", "is not four digits (merchant category code)"}
	case c.TerminalID == "":
		return "", &ClaimError{"x-tid", "is missing (terminal profile id)"}
	}
	acquirer, ok := s.Acquirers[c.Issuer]
	if !ok || !slices.Contains(s.Terminals[acquirer], c.TerminalID) {
		return "", &ClaimError{"x-tid", "is no terminal profile id (appleTerminalProfileId) of the issuer's acquirer"}
	}
	return acquirer, nil
}
