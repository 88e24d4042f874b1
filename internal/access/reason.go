package access

import (
	"errors"
	"slices"
)

// Reason says why a caller was refused, for logs, metrics and records. The texts are
// stable. They are not for the caller: whoever sends a token with a fault learns
// only that it was refused.
type Reason string

// The reasons, in the order in which a token meets them; the last six are those of
// certificates, with a token or without.
const (
	ReasonMissing         Reason = "missing"          // no Authorization header, and no certificate that could do without
	ReasonScheme          Reason = "scheme"           // several Authorization headers, or another scheme than Bearer (RFC 6750, 2.1)
	ReasonTooLarge        Reason = "too-large"        // longer than MaxTokenSize
	ReasonMalformed       Reason = "malformed"        // not three segments of canonical Base64url with JSON objects (RFC 7515, 7.1)
	ReasonDuplicateMember Reason = "duplicate-member" // a name twice in one JSON object, at any depth (RFC 7515, 5.2 step 4; RFC 7519, 4)
	ReasonCriticalHeader  Reason = "critical-header"  // crit or b64 present (RFC 7515, 4.1.11; RFC 7797, 6)
	ReasonType            Reason = "type"             // typ is not JWT, or is required and absent (RFC 8725, 3.11)
	ReasonUnknownIssuer   Reason = "unknown-issuer"   // iss is not that of a configured client (RFC 8725, 3.8)
	ReasonUnknownKey      Reason = "unknown-key"      // kid is not of the client's keys, or is needed and absent
	ReasonAlgorithm       Reason = "algorithm"        // alg is not the one that the key is pinned to (RFC 8725, 3.1)
	ReasonSignature       Reason = "signature"        // not the client's signature
	ReasonTime            Reason = "time"             // iat or exp absent; a time that is no NumericDate, or out of order (RFC 7519, 2)
	ReasonTooLongLived    Reason = "too-long-lived"   // exp lies further behind iat than the client is allowed
	ReasonExpired         Reason = "expired"          // exp has come (RFC 7519, 4.1.4)
	ReasonIssuedInFuture  Reason = "issued-in-future" // iat is still to come
	ReasonNotYetValid     Reason = "not-yet-valid"    // nbf is still to come (RFC 7519, 4.1.5)
	ReasonAudience        Reason = "audience"         // aud is not the expected one alone (RFC 8725, 3.9)
	ReasonSubject         Reason = "subject"          // sub is absent, empty, overlong or not printable
	ReasonTokenID         Reason = "token-id"         // jti is required and absent, or empty, overlong or not printable
	ReasonConfirmation    Reason = "confirmation"     // cnf is required and absent, or is not x5t#S256 alone (RFC 8705, 3.1)
	ReasonNoCertificate   Reason = "no-certificate"   // the connection has no certificate, and the token or its client needs one
	ReasonBinding         Reason = "binding"          // the token is bound to another certificate than the connection's (RFC 8705, 3)

	ReasonUnknownCertificate   Reason = "unknown-certificate"   // the certificate is not the client's, or no client's
	ReasonCertificateTime      Reason = "certificate-time"      // it has expired, or is not valid yet
	ReasonCertificateUsage     Reason = "certificate-usage"     // it is not for signing, not for TLS clients, or a CA's
	ReasonAmbiguousCertificate Reason = "ambiguous-certificate" // it is that of more than one client
	ReasonRevoked              Reason = "revoked-certificate"   // it, or one above it, was revoked
	ReasonRevocationUnknown    Reason = "revocation-unknown"    // no current list of its issuer says that it was not revoked (RFC 5280, 6.3)
)

var reasons = []Reason{
	ReasonMissing, ReasonScheme, ReasonTooLarge, ReasonMalformed, ReasonDuplicateMember,
	ReasonCriticalHeader, ReasonType, ReasonUnknownIssuer, ReasonUnknownKey, ReasonAlgorithm,
	ReasonSignature, ReasonTime, ReasonTooLongLived, ReasonExpired, ReasonIssuedInFuture,
	ReasonNotYetValid, ReasonAudience, ReasonSubject, ReasonTokenID, ReasonConfirmation,
	ReasonNoCertificate, ReasonBinding, ReasonUnknownCertificate, ReasonCertificateTime,
	ReasonCertificateUsage, ReasonAmbiguousCertificate, ReasonRevoked, ReasonRevocationUnknown,
}

// Reasons lists every reason there is, so that a metric can start each at zero.
func Reasons() []Reason { return slices.Clone(reasons) }

// AuthenticationError says that the caller has not proved who it is. It holds the
// reason and nothing else: no part of the token, no claim, no decoder's text. It is
// comparable, so errors.Is finds a particular reason.
type AuthenticationError struct{ Reason Reason }

// Error names the reason.
func (e AuthenticationError) Error() string { return "not authenticated: " + string(e.Reason) }

// ReasonOf is the reason inside err, or empty if there is none.
func ReasonOf(err error) Reason {
	var e AuthenticationError
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func refuse(r Reason) error { return AuthenticationError{Reason: r} }

// must refuses for r unless ok.
func must(ok bool, r Reason) error {
	if ok {
		return nil
	}
	return refuse(r)
}
