package access

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a signature algorithm, as the header member alg spells it (RFC 7518,
// 3.1). Each key is pinned to one (RFC 8725, 3.1): the token only confirms it.
type Algorithm string

// RS256 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3).
const RS256 Algorithm = "RS256"

// Key is a public key of a client.
type Key struct {
	ID        string           // kid; may be empty for a client's only key
	Algorithm Algorithm        // what the key is for, and all it is for
	Public    crypto.PublicKey // for RS256 an *rsa.PublicKey
}

// An algorithm is one line here: the method that verifies, and what takes over a
// configured key, or says to the operator what is wrong with it.
var algorithms = map[Algorithm]struct {
	method jwt.SigningMethod
	adopt  func(crypto.PublicKey) (crypto.PublicKey, error)
}{
	RS256: {jwt.SigningMethodRS256, adoptRSA},
}

// verificationKey is a key that has passed the checks of its algorithm.
type verificationKey struct {
	algorithm Algorithm
	method    jwt.SigningMethod
	public    crypto.PublicKey
}

func newVerificationKey(k Key) (verificationKey, error) {
	a, ok := algorithms[k.Algorithm]
	if !ok {
		known := slices.Sorted(maps.Keys(algorithms))
		return verificationKey{}, fmt.Errorf("alg is %q; known are: %v", k.Algorithm, known)
	}
	public, err := a.adopt(k.Public)
	if err != nil {
		return verificationKey{}, fmt.Errorf("%s key: %w", k.Algorithm, err)
	}
	return verificationKey{algorithm: k.Algorithm, method: a.method, public: public}, nil
}

// Bounds of an RSA key: at least 2048 bits (RFC 7518, 3.3), at most what can be
// verified without becoming a burden.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// adoptRSA copies an RSA key that is fit to verify with. The exponent is odd and
// above 2^16 (FIPS 186-5, A.1.1): with 1 anybody can sign, and small ones have turned
// every lapse of a padding check into a forgery. Above 2^31 crypto/rsa has none.
func adoptRSA(public crypto.PublicKey) (crypto.PublicKey, error) {
	k, ok := public.(*rsa.PublicKey)
	if !ok || k == nil || k.N == nil {
		return nil, errors.New("is not an RSA public key")
	}
	switch bits := k.N.BitLen(); {
	case k.N.Sign() <= 0:
		return nil, errors.New("modulus is not positive")
	case bits < minRSABits:
		return nil, fmt.Errorf("has %d bits; at least %d are needed", bits, minRSABits)
	case bits > maxRSABits:
		return nil, fmt.Errorf("has %d bits; at most %d are allowed", bits, maxRSABits)
	case k.N.Bit(0) == 0:
		return nil, errors.New("modulus is even, so it is no product of two large primes")
	case k.E < 65537 || k.E%2 == 0 || k.E > 1<<31-1:
		return nil, fmt.Errorf("public exponent is %d; it must be odd, at least 65537 and below 2^31", k.E)
	}
	return &rsa.PublicKey{N: new(big.Int).Set(k.N), E: k.E}, nil
}
