package access

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
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

// The algorithms.
const (
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3)
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256, r and s as 32 bytes each (RFC 7518, 3.4)
)

// Key is a public key of a client.
type Key struct {
	ID        string           // kid; may be empty for a client's only key
	Algorithm Algorithm        // what the key is for, and all it is for
	Public    crypto.PublicKey // for RS256 an *rsa.PublicKey, for ES256 an *ecdsa.PublicKey
}

// A KeySet holds the keys of a client that change without a new configuration.
// [JWKS] is one. The [Verifier] checks every key it is given as if the operator had
// configured it. Any number of goroutines may call.
type KeySet interface {
	// Key gives the key called kid; for an empty kid the only key, whatever it is
	// called. ErrUnknownKey if there is none. Any other error says that the keys
	// cannot be had now, and has a method RetryAfter() time.Duration.
	Key(ctx context.Context, kid string) (Key, error)
}

// ErrUnknownKey is returned by a [KeySet] that has no such key.
var ErrUnknownKey = errors.New("unknown key")

// named gives the key called kid; for an empty kid the only key, whatever it is called.
// ErrUnknownKey if there is none.
func named[K any](keys map[string]K, kid string) (K, error) {
	if kid == "" && len(keys) == 1 {
		for _, k := range keys {
			return k, nil
		}
	}
	if k, ok := keys[kid]; ok {
		return k, nil
	}
	var none K
	return none, ErrUnknownKey
}

// fixedKeys are the keys of a set that was read, by kid.
type fixedKeys map[string]Key

// Key implements KeySet.
func (f fixedKeys) Key(_ context.Context, kid string) (Key, error) { return named(f, kid) }

// checkedKeys are the keys of a configuration, by kid. They were checked when it was read,
// and are copies that nobody else has.
type checkedKeys map[string]verificationKey

// Key implements KeySet.
func (f checkedKeys) Key(_ context.Context, kid string) (Key, error) {
	k, err := named(f, kid)
	return Key{ID: k.id, Algorithm: k.algorithm, Public: k.public}, err
}

// An algorithm is one line here: the method that verifies, and what takes over a
// configured key, or says to the operator what is wrong with it.
var algorithms = map[Algorithm]struct {
	method jwt.SigningMethod
	adopt  func(crypto.PublicKey) (crypto.PublicKey, error)
}{
	RS256: {jwt.SigningMethodRS256, adoptRSA},
	ES256: {jwt.SigningMethodES256, adoptP256},
}

// verificationKey is a key that has passed the checks of its algorithm.
type verificationKey struct {
	id        string
	algorithm Algorithm
	method    jwt.SigningMethod
	public    crypto.PublicKey
	seen      *seen // nil for a key that is made for one request
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
	return verificationKey{id: k.ID, algorithm: k.Algorithm, method: a.method, public: public}, nil
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
	case isROCA(k.N):
		return nil, errors.New("modulus has the mark of a generator whose keys can be factored (ROCA, CVE-2017-15361)")
	}
	return &rsa.PublicKey{N: new(big.Int).Set(k.N), E: k.E}, nil
}

// rocaPrimes divide what the generator of the weak smart card keys multiplied.
var rocaPrimes = []uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83,
	89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// isROCA reports whether n is a product of primes of the form k·M + 65537^a mod M (Nemec
// et al., The Return of Coppersmith's Attack, CCS 2017): such an n is a power of 65537
// modulo every prime that divides M. Of other moduli fewer than one in 2^27 is.
func isROCA(n *big.Int) bool {
	for _, p := range rocaPrimes {
		remainder := new(big.Int).Mod(n, new(big.Int).SetUint64(p)).Uint64()
		power := uint64(1)
		for power != remainder {
			if power = power * 65537 % p; power == 1 {
				return false
			}
		}
	}
	return true
}

// adoptP256 copies an ECDSA key that is fit to verify with: a point on P-256, and not
// the one at infinity.
func adoptP256(public crypto.PublicKey) (crypto.PublicKey, error) {
	k, ok := public.(*ecdsa.PublicKey)
	//lint:ignore SA1019 Bytes panics without coordinates, and nothing else tells
	if !ok || k == nil || k.Curve == nil || k.X == nil || k.Y == nil {
		return nil, errors.New("is not an ECDSA public key")
	}
	if k.Curve != elliptic.P256() {
		return nil, fmt.Errorf("is on the curve %s; ES256 needs P-256", k.Curve.Params().Name)
	}
	point, err := k.Bytes()
	if err != nil {
		return nil, errors.New("is not a point on P-256")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}
