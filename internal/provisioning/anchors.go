package provisioning

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"
)

// appleRootCAG3 is Apple Root CA - G3: P-384, valid from 2014-04-30 to 2039-04-30,
// as published on https://www.apple.com/certificateauthority/ (AppleRootCA-G3.cer).
const appleRootCAG3 = `-----BEGIN CERTIFICATE-----
MIICQzCCAcmgAwIBAgIILcX8iNLFS5UwCgYIKoZIzj0EAwMwZzEbMBkGA1UEAwwS
QXBwbGUgUm9vdCBDQSAtIEczMSYwJAYDVQQLDB1BcHBsZSBDZXJ0aWZpY2F0aW9u
IEF1dGhvcml0eTETMBEGA1UECgwKQXBwbGUgSW5jLjELMAkGA1UEBhMCVVMwHhcN
MTQwNDMwMTgxOTA2WhcNMzkwNDMwMTgxOTA2WjBnMRswGQYDVQQDDBJBcHBsZSBS
b290IENBIC0gRzMxJjAkBgNVBAsMHUFwcGxlIENlcnRpZmljYXRpb24gQXV0aG9y
aXR5MRMwEQYDVQQKDApBcHBsZSBJbmMuMQswCQYDVQQGEwJVUzB2MBAGByqGSM49
AgEGBSuBBAAiA2IABJjpLz1AcqTtkyJygRMc3RCV8cWjTnHcFBbZDuWmBSp3ZHtf
TjjTuxxEtX/1H7YyYl3J6YRbTzBPEVoA/VhYDKX1DyxNB0cTddqXl5dvMVztK517
IDvYuVTZXpmkOlEKMaNCMEAwHQYDVR0OBBYEFLuw3qFYM4iapIqZ3r6966/ayySr
MA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMAoGCCqGSM49BAMDA2gA
MGUCMQCD6cHEFl4aXTQY2e3v9GwOAEZLuN+yRhHFD/3meoyhpmvOwgPUnPWTxnS4
at+qIxUCMG1mihDK1A3UT82NQz60imOlM27jbdoXt2QfyFMm+YhidDkLF1vLUagM
6BgD56KyKA==
-----END CERTIFICATE-----
`

// appleRootCAG3SHA256 is the SHA-256 of that certificate's DER. The two are compared
// before the anchor is used for the first time, so that neither can be edited alone.
const appleRootCAG3SHA256 = "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179"

// AppleIntermediateName is the common name of the one intermediate that Apple's own
// policy for this leaf accepts (Security framework sources). Apple Root CA - G3 has
// signed others, WWDR CA G6 among them, and a leaf below those is refused. The G2 in
// use is P-256 and ends on 2029-05-06; a successor of the same name under the same
// root will be accepted, since it is Apple's to issue.
const AppleIntermediateName = "Apple Worldwide Developer Relations CA - G2"

// An Anchor is the root certificate that an environment trusts for Apple's leaf. It
// is Apple's, or a test root: there is no set of anchors, so the two cannot be
// trusted together. The zero Anchor trusts nothing.
type Anchor struct {
	root         *x509.Certificate
	production   bool
	intermediate string // common name the intermediate must bear; empty: any
}

var appleProduction = sync.OnceValue(func() Anchor {
	block, _ := pem.Decode([]byte(appleRootCAG3))
	if block == nil || hexSHA256(block.Bytes) != appleRootCAG3SHA256 {
		panic("provisioning: the pinned Apple Root CA - G3 does not have its fingerprint")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic("provisioning: the pinned Apple Root CA - G3 does not parse")
	}
	return Anchor{root: root, production: true, intermediate: AppleIntermediateName}
})

// AppleProduction is Apple Root CA - G3, pinned in this file: the only anchor of
// the production environment. Below it only AppleIntermediateName is accepted.
func AppleProduction() Anchor { return appleProduction() }

// ErrTestAnchor is wrapped by every refusal of a test root.
var ErrTestAnchor = errors.New("test root refused")

// TestAnchor is the anchor of a development or test environment: one self-signed CA
// certificate, in DER or as one PEM block. Any CA it signed may be the
// intermediate. Apple Root CA - G3 is refused here, whatever certificate carries its
// key: as a test anchor it would be trusted with less asked of the intermediate.
func TestAnchor(root []byte) (Anchor, error) {
	if block, rest := pem.Decode(root); block != nil {
		if block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return Anchor{}, fmt.Errorf("%w: the PEM must hold one CERTIFICATE and nothing else", ErrTestAnchor)
		}
		root = block.Bytes
	}
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		return Anchor{}, fmt.Errorf("%w: not one X.509 certificate in PEM or DER", ErrTestAnchor)
	}
	switch {
	case bytes.Equal(cert.RawSubjectPublicKeyInfo, AppleProduction().root.RawSubjectPublicKeyInfo):
		return Anchor{}, fmt.Errorf("%w: it is Apple's production root; the production environment trusts it without configuration", ErrTestAnchor)
	case !isSigningCA(cert) || cert.MaxPathLen == 0:
		return Anchor{}, fmt.Errorf("%w: it must be a CA with key usage keyCertSign and a path length that allows an intermediate", ErrTestAnchor)
	case hasForeignCritical(cert):
		return Anchor{}, fmt.Errorf("%w: it has a critical extension other than basicConstraints and keyUsage", ErrTestAnchor)
	case !bytes.Equal(cert.RawSubject, cert.RawIssuer) || cert.CheckSignatureFrom(cert) != nil:
		return Anchor{}, fmt.Errorf("%w: it must be self-signed", ErrTestAnchor)
	}
	return Anchor{root: cert}, nil
}

// Production reports whether this is Apple's production root.
func (a Anchor) Production() bool { return a.production }

// IsZero reports whether this is the zero Anchor, which trusts nothing.
func (a Anchor) IsZero() bool { return a.root == nil }

// SHA256 is the root certificate's fingerprint; zero for the zero Anchor.
func (a Anchor) SHA256() [32]byte {
	if a.root == nil {
		return [32]byte{}
	}
	return sha256.Sum256(a.root.Raw)
}

// NotAfter is when the root ends.
func (a Anchor) NotAfter() time.Time {
	if a.root == nil {
		return time.Time{}
	}
	return a.root.NotAfter
}

// String names the anchor for a log line or a start-up message.
func (a Anchor) String() string {
	switch {
	case a.root == nil:
		return "no anchor"
	case a.production:
		return "Apple Root CA - G3 (production), SHA-256 " + hexSHA256(a.root.Raw)
	}
	return "test root, SHA-256 " + hexSHA256(a.root.Raw)
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
