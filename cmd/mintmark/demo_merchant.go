package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// merchantJourney is the merchant's part of the demo: its backend, its app and whoever
// verifies what they show. Tokens are taken apart and verified here with crypto/rsa and
// crypto/ecdsa alone.
type merchantJourney struct {
	*demo

	token     string // merchant JWT
	kid       string
	keys      map[string]crypto.PublicKey // by kid, from the JWK set
	proximity struct{ Token, ExpiresAt, IssuedAt, JwtID string }
}

func (m *merchantJourney) steps() []step {
	return []step{
		{"merchant's backend has a merchant JWT signed", m.sign},
		{"its signature verifies with the published key", m.verify},
		{"the key's certificate holds the same key", m.certificate},
		{"checkjwt takes the merchant JWT, and says why it does not take another", m.check},
		{"merchant's app gets an Apple proximity token for 48 hours", m.proximityToken},
		{"without the right, or the terminal, there is none", m.noProximityToken},
	}
}

func (m *merchantJourney) sign(ctx context.Context) error {
	bearer, err := m.info.Clients.Issuer.Sign(time.Now())
	if err != nil {
		return err
	}
	body := map[string]any{
		"sub": "demo-merchant", "usr": "demo-cashier", "aud": m.info.Clients.Merchant.Audience,
		"mbn": "Demo Corner Shop", "mcc": "5411", "x-tid": m.info.Clients.Merchant.Claims["x-tid"],
		"lifetimeSeconds": 600, "spCfg": nil,
	}
	var answer struct{ Token, Kid string }
	if err := m.call(ctx, "/v1/merchant-tokens", bearer, body, http.StatusOK, &answer); err != nil {
		return err
	}
	m.token, m.kid = answer.Token, answer.Kid
	return nil
}

// call posts to a path and decodes the answer, which must have the status.
func (m *merchantJourney) call(ctx context.Context, path, bearer string, body any, want int, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.info.BaseURL+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+bearer)
	status, answer, err := m.do(req)
	if err != nil {
		return err
	}
	if status != want {
		return fmt.Errorf("answered %d instead of %d: %s", status, want, answer)
	}
	return json.Unmarshal(answer, into)
}

func (m *merchantJourney) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.info.BaseURL+path, nil)
	if err != nil {
		return nil, err
	}
	status, body, err := m.do(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answered %d: %s", status, body)
	}
	return body, err
}

func (m *merchantJourney) verify(ctx context.Context) error {
	body, err := m.get(ctx, "/.well-known/jwks.json")
	if err != nil {
		return err
	}
	var set struct {
		Keys []struct{ Kid, Kty, N, E, X, Y string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return err
	}
	m.keys = map[string]crypto.PublicKey{}
	raw := func(text string) []byte {
		b, _ := base64.RawURLEncoding.DecodeString(text)
		return b
	}
	for _, k := range set.Keys {
		switch k.Kty {
		case "RSA":
			exponent := new(big.Int).SetBytes(raw(k.E))
			m.keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(raw(k.N)), E: int(exponent.Int64())}
		case "EC":
			point := slices.Concat([]byte{4}, raw(k.X), raw(k.Y))
			key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
			if err != nil {
				return err
			}
			m.keys[k.Kid] = key
		}
	}
	var claims struct {
		Sub, Mbn string
		Iat, Exp int64
		SPCfg    *string `json:"spCfg"`
	}
	header, err := m.open(m.token, &claims)
	if err != nil {
		return err
	}
	if !strings.Contains(header, `"alg":"RS256"`) || claims.Sub != "demo-merchant" || claims.Mbn != "Demo Corner Shop" ||
		claims.Exp-claims.Iat != 600 || claims.SPCfg != nil {
		return errors.New("the token does not say what was asked for")
	}
	return nil
}

// open verifies a JWS with the published keys and decodes its payload.
func (m *merchantJourney) open(token string, into any) (header string, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token has not three parts")
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return "", err
		}
	}
	var h struct{ Kid string }
	if err := json.Unmarshal(raw[0], &h); err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	switch key := m.keys[h.Kid].(type) {
	case *rsa.PublicKey:
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw[2])
	case *ecdsa.PublicKey:
		if len(raw[2]) != 64 || !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])) {
			err = errors.New("the ECDSA signature does not verify")
		}
	default:
		err = errors.New("the token's kid is not published")
	}
	if err != nil {
		return "", err
	}
	return string(raw[0]), json.Unmarshal(raw[1], into)
}

func (m *merchantJourney) certificate(ctx context.Context) error {
	body, err := m.get(ctx, "/v1/keys/"+m.kid+"/certificate.pem")
	if err != nil {
		return err
	}
	block, _ := pem.Decode(body)
	if block == nil {
		return errors.New("the answer holds no PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	if published, ok := m.keys[m.kid].(*rsa.PublicKey); !ok || !published.Equal(cert.PublicKey) {
		return errors.New("the certificate holds another key")
	}
	return nil
}

func (m *merchantJourney) check(ctx context.Context) error {
	var good struct{ Sub string }
	if err := m.call(ctx, "/tokens/checkjwt", m.token, nil, http.StatusOK, &good); err != nil {
		return err
	}
	if good.Sub != "demo-merchant" {
		return errors.New("the claims are another token's")
	}
	old, err := m.info.Clients.Merchant.Sign(time.Now().Add(-time.Hour))
	if err != nil {
		return err
	}
	var expired struct {
		Reason string
		Code   int
	}
	if err := m.call(ctx, "/1.0/tokens/checkjwt", old, nil, http.StatusUnauthorized, &expired); err != nil {
		return err
	}
	if expired.Code != 118 || expired.Reason != "expired" {
		return fmt.Errorf("an expired token is refused as %q, code %d", expired.Reason, expired.Code)
	}
	return nil
}

func (m *merchantJourney) proximityToken(ctx context.Context) error {
	if err := m.call(ctx, "/apple/proximity-token", m.token, nil, http.StatusOK, &m.proximity); err != nil {
		return err
	}
	var claims struct {
		Jti, Mbn, Mcc string
		Iat, Exp      int64
	}
	header, err := m.open(m.proximity.Token, &claims)
	if err != nil {
		return err
	}
	issued, err1 := time.Parse("2006-01-02T15:04:05.000Z", m.proximity.IssuedAt)
	expires, err2 := time.Parse("2006-01-02T15:04:05.000Z", m.proximity.ExpiresAt)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !strings.HasPrefix(header, `{"alg":"ES256","kid":"`) || claims.Jti != m.proximity.JwtID || claims.Mbn != "Demo Corner Shop" ||
		claims.Mcc != "5411" || expires.Sub(issued) != 48*time.Hour || claims.Iat != issued.Unix() || claims.Exp != expires.Unix() {
		return errors.New("the token is not the one that the answer describes")
	}
	return nil
}

func (m *merchantJourney) noProximityToken(ctx context.Context) error {
	issuer, err := m.info.Clients.Issuer.Sign(time.Now())
	if err != nil {
		return err
	}
	elsewhere := m.info.Clients.Merchant
	elsewhere.Claims = map[string]any{"usr": "demo-cashier", "mbn": "Demo Corner Shop", "mcc": "5411", "x-tid": "another's"}
	foreign, err := elsewhere.Sign(time.Now())
	if err != nil {
		return err
	}
	for _, refused := range []struct {
		bearer string
		status int
		says   string
	}{{issuer, http.StatusForbidden, "createAppleProximityToken"}, {foreign, http.StatusInternalServerError, "x-tid"}} {
		var answer struct{ Error string }
		if err := m.call(ctx, "/apple/proximity-token", refused.bearer, nil, refused.status, &answer); err != nil {
			return err
		}
		if !strings.Contains(answer.Error, refused.says) {
			return fmt.Errorf("the refusal %q does not say what is missing", answer.Error)
		}
	}
	return nil
}
