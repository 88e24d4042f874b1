package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// maxJWS bounds a JWS that comes in, in bytes.
const maxJWS = 32 << 10

// ErrJWS is the one error for a JWS that does not hold, whatever the cause: form, header, key
// or signature.
var ErrJWS = errors.New("JWS refused")

// jwsHeader is all that the header of a JWS that comes in may have: no crit, no jku.
type jwsHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// VerifyJWS gives the payload of a JWS in the compact serialisation (RFC 7515, 7.1) that others
// have signed: ES256 with a P-256 key, RS256 with an RSA key. typ is the type that it must
// have; keys are those that it may be signed with, by kid. The error is ErrJWS. What the
// payload says, and for how long, is the caller's to look at.
func VerifyJWS(compact, typ string, keys map[string]crypto.PublicKey) ([]byte, error) {
	parts := strings.Split(compact, ".")
	if len(compact) > maxJWS || len(parts) != 3 {
		return nil, ErrJWS
	}
	var raw [3][]byte
	for i, p := range parts {
		var ok bool
		if raw[i], ok = segment(p); !ok {
			return nil, ErrJWS
		}
	}
	var h jwsHeader
	if json.Unmarshal(raw[0], &h, json.RejectUnknownMembers(true)) != nil || h.Type != typ {
		return nil, ErrJWS
	}
	// The key says which algorithm, not the header.
	key := keys[h.KeyID]
	method, ok := methodOf(key)
	if !ok || h.Algorithm != method.Alg() || method.Verify(parts[0]+"."+parts[1], raw[2], key) != nil {
		return nil, ErrJWS
	}
	return raw[1], nil
}

// CheckJWSKey reports whether VerifyJWS takes a key: P-256, or RSA from 2048 bits on.
func CheckJWSKey(key crypto.PublicKey) bool {
	_, ok := methodOf(key)
	return ok
}

func methodOf(key crypto.PublicKey) (jwt.SigningMethod, bool) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return jwt.SigningMethodES256, key.Curve.Params().BitSize == 256
	case *rsa.PublicKey:
		return jwt.SigningMethodRS256, key.N.BitLen() >= 2048
	default:
		return nil, false
	}
}
