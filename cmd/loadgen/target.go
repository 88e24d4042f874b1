package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// target is a server and whom to be there: the members of dev.json that are used here. A
// file for another server needs those of its mix only.
type target struct {
	BaseURL string
	Clients struct{ Issuer, Merchant party }
	Apple   struct{ SubCert, LeafCert string }
	Passes  struct{ Tenant, PassTypeIdentifier, SerialNumber, AuthenticationToken string }
	Cards   []struct{ ExternalCardID string }
}

// readTarget reads a file of that form.
func readTarget(path string) (*target, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read target (is the server running?): %w", err)
	}
	var t target
	if json.Unmarshal(b, &t) != nil || t.BaseURL == "" {
		return nil, fmt.Errorf("%s is not of the form of dev.json", path) // the decoder's error may quote a token
	}
	return &t, nil
}

// party is a client of the server: its names, its key, and what its tokens say beside the
// registered claims.
type party struct {
	Iss, Kid, Aud, Sub, KeyFile string
	Claims                      map[string]any

	key crypto.Signer // after load
}

// load reads the party's key: PKCS#8 in PEM.
func (p *party) load() error {
	if p.key != nil {
		return nil
	}
	block, err := readPEM(p.KeyFile)
	if err != nil {
		return fmt.Errorf("key of client %s: %w", p.Iss, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return fmt.Errorf("key of client %s: %s holds no PKCS#8 private key", p.Iss, p.KeyFile)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("key of client %s does not sign", p.Iss)
	}
	p.key = signer
	return nil
}

// tokenLife is how long bearer tokens live: longer than a run is prepared ahead.
const tokenLife = 5 * time.Minute

// token is a bearer token of the party that was never used before.
func (p *party) token(now time.Time) (string, error) {
	claims := jwt.MapClaims{
		"iss": p.Iss, "sub": p.Sub, "aud": p.Aud, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
	}
	maps.Copy(claims, p.Claims)
	var method jwt.SigningMethod = jwt.SigningMethodES256
	if _, ok := p.key.(*rsa.PrivateKey); ok {
		method = jwt.SigningMethodRS256
	}
	unsigned := jwt.NewWithClaims(method, claims)
	unsigned.Header["kid"] = p.Kid
	return unsigned.SignedString(p.key)
}

// certificate is a PEM certificate as apps send it: DER in Base64.
func certificate(path string) (string, error) {
	der, err := readPEM(path)
	return base64.StdEncoding.EncodeToString(der), err
}

// readPEM gives the first block of a file.
func readPEM(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("the target names no file for it")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
