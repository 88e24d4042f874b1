package hsm

import (
	"fmt"
	"slices"
	"strings"
)

// Purpose is the one use a key has. A key has one purpose, and a purpose decides its
// algorithms, its usage flags and its mechanisms on the token.
type Purpose string

// The purposes.
const (
	TAVSigning     Purpose = "tav-signing"     // Mastercard Tokenization Authentication Values, RSASSA-PKCS1-v1_5
	CardVault      Purpose = "card-vault"      // card rows in the database, AES-256-GCM
	CardIndex      Purpose = "card-index"      // look-up values of card rows, HMAC-SHA-256
	MerchantJWT    Purpose = "merchant-jwt"    // merchant JWTs, RS256
	ProximityToken Purpose = "proximity-token" // Apple proximity tokens, ES256
	Pass           Purpose = "pass"            // Wallet passes of one pass type: CMS, and the TLS client of Apple's push service
	APITLS         Purpose = "api-tls"         // the API listeners' TLS certificate, ECDSA
	VisaZone       Purpose = "visa-zone"       // Visa's PAN blocks and activation codes, TDEA in CBC mode
	NetworkOTP     Purpose = "network-otp"     // activation data of configured schemes: signatures, or TDEA
	CardTransport  Purpose = "card-transport"  // card data sent to us as JWE, ECDH

	AuditCheckpoint Purpose = "audit-checkpoint" // checkpoints of the audit log, ECDSA
	AuditReport     Purpose = "audit-report"     // audit reports and transcripts of ceremonies, ECDSA

	Passcode     Purpose = "passcode"      // one-time passcodes as they are kept, HMAC-SHA-256
	ConnectorJWS Purpose = "connector-jws" // requests to the payment network, ES256
)

// Algorithm is a key's type and size, as written in the keyring.
type Algorithm string

// The algorithms.
const (
	RSA2048    Algorithm = "RSA-2048"
	RSA3072    Algorithm = "RSA-3072"
	RSA4096    Algorithm = "RSA-4096"
	P256       Algorithm = "P-256" // NIST P-256, for ECDSA, or for ECDH where the purpose agrees on keys
	AES256     Algorithm = "AES-256"
	HMACSHA256 Algorithm = "HMAC-SHA256" // a generic secret of 32 bytes
	TDEA       Algorithm = "TDEA"        // triple DES (NIST SP 800-67), 24 bytes: a double-length key stands as K1K2K1
)

// Public reports whether the algorithm has a public key, and so is pinned by it.
func (a Algorithm) Public() bool { return a.rsaBits() != 0 || a == P256 }

func (a Algorithm) rsaBits() int {
	switch a {
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	default:
		return 0
	}
}

// purposes lists the algorithms a purpose allows; the first is the default.
// Mastercard's TAV is specified for RSA-2048. Of the guides for merchant JWTs one has
// 2048 bits and one recommends 4096. Apple's portal issues pass certificates for RSA-2048;
// that devices take P-256 too is [B].
var purposes = map[Purpose][]Algorithm{
	TAVSigning:     {RSA2048},
	CardVault:      {AES256},
	CardIndex:      {HMACSHA256},
	MerchantJWT:    {RSA2048, RSA3072, RSA4096},
	ProximityToken: {P256},
	Pass:           {RSA2048, P256},
	APITLS:         {P256},
	VisaZone:       {TDEA},
	NetworkOTP:     {RSA2048, RSA3072, RSA4096, P256, TDEA},
	CardTransport:  {P256},

	AuditCheckpoint: {P256},
	AuditReport:     {P256},

	Passcode:     {HMACSHA256},
	ConnectorJWS: {P256},
}

// agrees reports whether keys of the purpose agree on keys (ECDH) and so never sign.
func (p Purpose) agrees() bool { return p == CardTransport }

// Several reports whether a purpose may have several active keys at once, of which each use
// names its own: passes have one for each pass type, whose certificate it is; activation
// data one for each scheme.
func (p Purpose) Several() bool { return p == Pass || p == NetworkOTP }

// Purposes lists every purpose, sorted.
func Purposes() []Purpose {
	var all []Purpose
	for p := range purposes {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// Check reports an unknown purpose, or an algorithm that the purpose does not allow.
func (p Purpose) Check(a Algorithm) error {
	allowed, ok := purposes[p]
	if !ok {
		return fmt.Errorf("unknown purpose %q; known are %s", p, join(Purposes()))
	}
	if !slices.Contains(allowed, a) {
		return fmt.Errorf("purpose %s does not allow algorithm %q; it allows %s", p, a, join(allowed))
	}
	return nil
}

// DefaultAlgorithm is what a new key of this purpose gets unless told otherwise.
func (p Purpose) DefaultAlgorithm() Algorithm {
	if allowed := purposes[p]; len(allowed) > 0 {
		return allowed[0]
	}
	return ""
}

func join[T ~string](names []T) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}
