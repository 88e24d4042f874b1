package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// SignedJWT is a JWT in the compact serialisation (RFC 7515, 7.1), not yet released.
type SignedJWT struct {
	Token record.Held[string]
	KeyID string // the header's kid: the key's RFC 7638 thumbprint
}

// SignMerchantJWT signs claims as a merchant JWT: RS256, header {"alg","kid","typ":"JWT"},
// with the active merchant-jwt key. The claims are what they encode to.
func (g *Gate) SignMerchantJWT(ctx context.Context, t *record.Ticket, claims jwt.Claims) (SignedJWT, error) {
	ctx, at := span.Start(ctx, "gate.sign-merchant-jwt")
	defer at.End()
	if err := t.Use(record.SignMerchantToken, "token"); err != nil {
		return SignedJWT{}, err
	}
	return g.signJWT(ctx, t, hsm.MerchantJWT, jwt.NewWithClaims(rs256, claims))
}

// SignProximityToken signs claims as an Apple proximity token: ES256, header
// {"alg":"ES256","kid":"…"} in that order and nothing else, as the published sample has it.
func (g *Gate) SignProximityToken(ctx context.Context, t *record.Ticket, claims jwt.Claims) (SignedJWT, error) {
	ctx, at := span.Start(ctx, "gate.sign-proximity-token")
	defer at.End()
	if err := t.Use(record.SignProximityToken, "token"); err != nil {
		return SignedJWT{}, err
	}
	unsigned := jwt.NewWithClaims(es256, claims)
	delete(unsigned.Header, "typ")
	return g.signJWT(ctx, t, hsm.ProximityToken, unsigned)
}

func (g *Gate) signJWT(ctx context.Context, t *record.Ticket, purpose hsm.Purpose, unsigned *jwt.Token) (SignedJWT, error) {
	return withActive(g, purpose, func(key hsm.Key) (SignedJWT, error) {
		s, err := g.keys.Signer(ctx, key.Name)
		if err != nil {
			return SignedJWT{}, err
		}
		kid, err := g.keyID(key.Name, s.Public())
		if err != nil {
			return SignedJWT{}, fmt.Errorf("name key %s: %w", key.Name, err)
		}
		unsigned.Header["kid"] = kid // encoding/json sorts: alg, kid, typ
		token, err := unsigned.SignedString(s)
		if err != nil {
			return SignedJWT{}, fmt.Errorf("sign JWT: %w", err)
		}
		return SignedJWT{Token: record.Hold(t, "token", token, []byte(token)), KeyID: kid}, nil
	})
}

// signingMethod is a jwt.SigningMethod over a crypto.Signer, which golang-jwt's own ones
// refuse for a key that they cannot see the private half of.
type signingMethod struct{ jwt.SigningMethod }

var (
	rs256 = signingMethod{jwt.SigningMethodRS256}
	es256 = signingMethod{jwt.SigningMethodES256}
)

// Sign signs the JWS signing input with key, a crypto.Signer of the algorithm's kind.
func (m signingMethod) Sign(input string, key any) ([]byte, error) {
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %T is no crypto.Signer", jwt.ErrInvalidKeyType, key)
	}
	digest := sha256.Sum256([]byte(input))
	switch pub := s.Public().(type) {
	case *rsa.PublicKey:
		if m != rs256 {
			return nil, jwt.ErrInvalidKeyType
		}
		return s.Sign(rand.Reader, digest[:], crypto.SHA256)
	case *ecdsa.PublicKey:
		if m != es256 || pub.Curve.Params().BitSize != 256 {
			return nil, jwt.ErrInvalidKeyType
		}
		der, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return joseECDSA(der)
	default:
		return nil, jwt.ErrInvalidKeyType
	}
}

// joseECDSA turns an ECDSA signature from ASN.1 into the two 32-byte integers, r before s,
// that JWS has (RFC 7518, 3.4).
func joseECDSA(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) != 0 || sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 256 || sig.S.BitLen() > 256 {
		return nil, errors.New("the token's ECDSA signature is no pair of 256-bit integers")
	}
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out, nil
}
