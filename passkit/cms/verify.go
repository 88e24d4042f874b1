package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"
)

// The errors of VerifyDetached.
var (
	// ErrContent: the content is not what was signed.
	ErrContent = errors.New("the content is not what was signed: its digest is not the messageDigest attribute")

	// ErrSignature: the signature is not the signer's over these attributes.
	ErrSignature = errors.New("the signature does not verify with the signer's certificate")

	// ErrNoSigner: the certificate that the signature names is not in it.
	ErrNoSigner = errors.New("the signer's certificate is not in the signature")
)

// SigningTime is the signingTime attribute, and whether there is one. It is the
// signer's word.
func (sd *SignedData) SigningTime() (time.Time, bool) {
	return sd.signer.signingTime, !sd.signer.signingTime.IsZero()
}

// Hash is the digest algorithm.
func (sd *SignedData) Hash() crypto.Hash { return sd.signer.hash }

// Signer is the certificate that the signature names as its signer's.
func (sd *SignedData) Signer() (*x509.Certificate, error) {
	for _, c := range sd.Certificates {
		if sd.signer.names(c) {
			return c, nil
		}
	}
	return nil, ErrNoSigner
}

// names reports whether c is the certificate that the signerInfo identifies.
func (s *signerInfo) names(c *x509.Certificate) bool {
	if s.keyID != nil {
		return bytes.Equal(s.keyID, c.SubjectKeyId)
	}
	serial, err := asn1.Marshal(c.SerialNumber)
	return err == nil && bytes.Equal(s.serial, serial) && bytes.Equal(s.issuer, c.RawIssuer)
}

// VerifyDetached checks that content is what was signed, by the key of Signer. Errors
// are ErrNoSigner, ErrContent and ErrSignature.
func (sd *SignedData) VerifyDetached(content []byte) error {
	signer, err := sd.Signer()
	if err != nil {
		return err
	}
	s := sd.signer
	if len(s.attributes) == 0 {
		if !s.verifiedBy(signer, content) {
			return ErrSignature
		}
		return nil
	}
	if subtle.ConstantTimeCompare(digest(s.hash, content), s.messageDigest) != 1 {
		return ErrContent
	}
	// As they stand, then in DER order: RFC 5652, 5.4 has the DER encoding signed, but
	// tools that do not sort sign what they send.
	if s.verifiedBy(signer, element(tagSet, s.attributes...)) ||
		s.verifiedBy(signer, element(tagSet, sorted(slices.Clone(s.attributes)...))) {
		return nil
	}
	return ErrSignature
}

// verifiedBy checks the signature over b.
func (s *signerInfo) verifiedBy(c *x509.Certificate, b []byte) bool {
	switch c.PublicKey.(type) {
	case *rsa.PublicKey:
		if s.scheme != schemeRSA {
			return false
		}
	case *ecdsa.PublicKey:
		if s.scheme != schemeECDSA {
			return false
		}
	}
	return verifySignature(c.PublicKey, s.hash, digest(s.hash, b), s.signature)
}

func verifySignature(pub crypto.PublicKey, h crypto.Hash, digest, signature []byte) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, h, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, digest, signature)
	}
	return false
}
