package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mintmark/mintmark/hsm"
)

// published are the purposes whose public keys others need, with the JWK's use (RFC 7517,
// 4.2) and algorithm.
var published = []publication{
	{hsm.MerchantJWT, "sig", string(jose.RS256)},
	{hsm.ProximityToken, "sig", string(jose.ES256)},
	{hsm.CardTransport, "enc", string(jose.ECDH_ES_A256KW)},
}

// publication is how keys of a purpose are published.
type publication struct {
	purpose   hsm.Purpose
	use       string
	algorithm string
}

// keepRetired is how long after its last day a retired key is published: longer than any
// token that it signed lives (a proximity token 48 hours, a merchant JWT 24 at most).
const keepRetired = 72 * time.Hour

// A PublicKey is what others need to verify what a key signs, or to encrypt to it.
type PublicKey struct {
	ID          string // kid: the RFC 7638 thumbprint, SHA-256, Base64url
	Purpose     hsm.Purpose
	Use         string // sig or enc
	Algorithm   string // as in a JWS or JWE header
	Key         crypto.PublicKey
	Certificate []*x509.Certificate // leaf first; nil if the keyring names none
}

// Published gives the keys of the JWK set: the active ones, those to come, and retired
// ones for as long as their tokens live. A key that the token lacks is left out; when the
// token has not been reached since the start, the error has RetryAfter, rather than that a
// set is given out in which keys are missing.
func (g *Gate) Published(now time.Time) ([]PublicKey, error) {
	var all []PublicKey
	for _, p := range published {
		for _, k := range g.keys.Listed(p.purpose) {
			// To a retired key nothing new is encrypted.
			if outlived(k, now) || (p.use == "enc" && k.State == hsm.Retired) {
				continue
			}
			pub, err := g.keys.Public(k.Name)
			var unusable *hsm.KeyError
			if errors.As(err, &unusable) {
				continue
			}
			if err != nil {
				return nil, err
			}
			kid, err := g.keyID(k.Name, pub)
			if err != nil {
				return nil, fmt.Errorf("name key %s: %w", k.Name, err)
			}
			all = append(all, PublicKey{ID: kid, Purpose: p.purpose, Use: p.use, Algorithm: p.algorithm, Key: pub, Certificate: k.Chain()})
		}
	}
	return all, nil
}

// Needed reports whether others still verify what a retired key signed: it must not be
// destroyed yet, since its public half would go out of the JWK set with it. Of a key without
// the day of its retirement nobody knows.
func Needed(k hsm.Key, now time.Time) bool {
	verified := slices.ContainsFunc(published, func(p publication) bool { return p.purpose == k.Purpose && p.use == "sig" })
	return verified && !outlived(k, now)
}

// outlived reports whether nothing that a retired key signed is alive any more. Without a
// date nobody knows.
func outlived(k hsm.Key, now time.Time) bool {
	if k.State != hsm.Retired || k.Retired == "" {
		return false
	}
	last, err := time.Parse(time.DateOnly, k.Retired)
	return err == nil && now.After(last.Add(24*time.Hour+keepRetired))
}

// JWKS gives the published keys as a JWK set (RFC 7517, 5).
func (g *Gate) JWKS(now time.Time) ([]byte, error) {
	keys, err := g.Published(now)
	if err != nil {
		return nil, err
	}
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(keys))}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Algorithm: k.Algorithm, Use: k.Use})
	}
	return json.Marshal(set)
}

// ErrUnknownKey is returned for a kid that is not published or has no certificate.
var ErrUnknownKey = errors.New("no published key with a certificate has this kid")

// Certificate gives the certificate chain of the published key called kid, leaf first, in
// PEM.
func (g *Gate) Certificate(kid string, now time.Time) ([]byte, error) {
	keys, err := g.Published(now)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.ID != kid || len(k.Certificate) == 0 {
			continue
		}
		var out []byte
		for _, c := range k.Certificate {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out, nil
	}
	return nil, ErrUnknownKey
}

// KeyID is the kid of a public key: its JWK thumbprint with SHA-256 (RFC 7638), in
// Base64url. It is the same on every member and in every copy of the keyring, and it tells
// nothing.
func KeyID(pub crypto.PublicKey) (string, error) {
	switch pub.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return "", fmt.Errorf("key type %T has no JWK here", pub)
	}
	sum, err := (&jose.JSONWebKey{Key: pub}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// identified is a public key with its kid.
type identified struct {
	pub crypto.PublicKey
	id  string
}

// keyID is KeyID of the key called name, computed once for as long as the key is the same.
func (g *Gate) keyID(name string, pub crypto.PublicKey) (string, error) {
	if k, ok := g.ids.Load(name); ok {
		known := k.(identified)
		if same, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); ok && same.Equal(known.pub) {
			return known.id, nil
		}
	}
	id, err := KeyID(pub)
	if err == nil {
		g.ids.Store(name, identified{pub, id})
	}
	return id, err
}
