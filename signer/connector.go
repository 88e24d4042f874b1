package signer

import (
	"context"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// ConnectorType is the typ of requests to the network (RFC 8725, 3.11): nobody takes one for
// another token of ours.
const ConnectorType = "mintmark-connector+jwt"

// SignConnector signs claims as a request to the network: ES256, header {"alg","kid","typ"},
// with the active connector-jws key. The claims are encoded as they are.
func (g *Gate) SignConnector(ctx context.Context, t *record.Ticket, claims jwt.Claims) (SignedJWT, error) {
	ctx, at := span.Start(ctx, "gate.sign-connector")
	defer at.End()
	if err := t.Use(record.CallNetwork, "request"); err != nil {
		return SignedJWT{}, err
	}
	unsigned := jwt.NewWithClaims(es256, claims)
	unsigned.Header["typ"] = ConnectorType
	return g.signJWT(ctx, t, hsm.ConnectorJWS, unsigned)
}
