package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxSetKeys bounds how many keys a set may hold, of any kind.
const maxSetKeys = 64

// jwk is the part of a JSON Web Key (RFC 7517, 4; RFC 7518, 6) that is looked at,
// undecoded; nil means absent.
type jwk struct {
	Type       jsontext.Value `json:"kty"`
	Use        jsontext.Value `json:"use"`
	Operations jsontext.Value `json:"key_ops"`
	Algorithm  jsontext.Value `json:"alg"`
	ID         jsontext.Value `json:"kid"`
	Modulus    jsontext.Value `json:"n"`
	Exponent   jsontext.Value `json:"e"`
	Curve      jsontext.Value `json:"crv"`
	X          jsontext.Value `json:"x"`
	Y          jsontext.Value `json:"y"`
}

// secretMembers are the members that hold private or symmetric keys: RFC 7518, 6.2.2,
// 6.3.2 and 6.4, and priv of the kind AKP.
var secretMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// readKeySet reads a JWK Set (RFC 7517, 5): the keys in it that can verify tokens, by
// kid, and how many others there are. Keys of other kinds, for other uses and
// algorithms, and keys that are not fit, are passed over: one old key shall not keep
// the others out. The set is refused as a whole if it is not one, if it could be
// read in two ways, or if it publishes a secret: whose keys lie open has lost them.
// The errors hold nothing of the set.
func readKeySet(body []byte) (keys fixedKeys, passedOver int, err error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	switch err := decodeObject(body, &set); {
	case err != nil:
		return nil, 0, fmt.Errorf("is no JWK Set in strict JSON (%s)", ReasonOf(err))
	case set.Keys == nil:
		return nil, 0, errors.New("has no keys member")
	case len(set.Keys) > maxSetKeys:
		return nil, 0, fmt.Errorf("has more than %d keys", maxSetKeys)
	}
	keys = make(fixedKeys)
	for _, raw := range set.Keys {
		k, fit, err := readKey(raw)
		if err != nil {
			return nil, 0, err
		}
		if _, taken := keys[k.ID]; fit && taken {
			return nil, 0, errors.New("has two keys with one kid, or without")
		}
		if fit {
			keys[k.ID] = k
		} else {
			passedOver++
		}
	}
	if _, nameless := keys[""]; nameless && len(keys) > 1 {
		return nil, 0, errors.New("has several keys, one of them without kid")
	}
	return keys, passedOver, nil
}

// readKey reads one member of keys. Its error refuses the whole set.
func readKey(raw jsontext.Value) (k Key, fit bool, err error) {
	var members map[string]jsontext.Value
	var j jwk
	if decodeObject(raw, &members) != nil || decodeObject(raw, &j) != nil {
		return k, false, errors.New("has a key that is no JSON object")
	}
	for _, name := range secretMembers {
		if _, ok := members[name]; ok {
			return k, false, errors.New("publishes a private or symmetric key")
		}
	}
	if j.ID != nil {
		kid, ok := text(j.ID)
		if !ok || !isIdentifier(kid) {
			return k, false, nil
		}
		k.ID = kid
	}
	switch kty, _ := text(j.Type); kty {
	case "RSA":
		k.Algorithm, k.Public, fit = RS256, j.rsa(), true
	case "EC":
		k.Algorithm, k.Public, fit = ES256, j.p256(), true
	}
	fit = fit && j.verifies(k.Algorithm)
	if fit {
		_, unfit := newVerificationKey(k)
		fit = unfit == nil
	}
	return k, fit, nil
}

// verifies reports whether the key is for verifying signatures of this algorithm, or
// does not say what it is for (RFC 7517, 4.2 to 4.4).
func (j jwk) verifies(alg Algorithm) bool {
	if use, ok := text(j.Use); j.Use != nil && (!ok || use != "sig") {
		return false
	}
	if a, ok := text(j.Algorithm); j.Algorithm != nil && (!ok || a != string(alg)) {
		return false
	}
	var operations []string
	return j.Operations == nil || json.Unmarshal(j.Operations, &operations) == nil && slices.Contains(operations, "verify")
}

// rsa is the key of n and e (RFC 7518, 6.3.1), nil if they are not numbers. A zero
// octet in front, which the RFC forbids and some makers write, does no harm.
func (j jwk) rsa() crypto.PublicKey {
	n, ok1 := octets(j.Modulus)
	e, ok2 := octets(j.Exponent)
	exponent := new(big.Int).SetBytes(e)
	if !ok1 || !ok2 || !exponent.IsInt64() {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
}

// p256 is the key of x and y (RFC 7518, 6.2.1), each as long as the curve's numbers
// are; nil if they are no point of it.
func (j jwk) p256() crypto.PublicKey {
	crv, _ := text(j.Curve)
	x, ok1 := octets(j.X)
	y, ok2 := octets(j.Y)
	if crv != "P-256" || !ok1 || !ok2 || len(x) != 32 || len(y) != 32 {
		return nil
	}
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil
	}
	return k
}

// octets are the bytes that v is in Base64url.
func octets(v jsontext.Value) ([]byte, bool) {
	s, ok := text(v)
	if !ok || s == "" {
		return nil, false
	}
	return decodeSegment(s)
}
