package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Signer is a key with its certificate and those that may have issued it.
type Signer struct {
	Key         crypto.Signer     // RSA of 2048 bits or more, or P-256
	Certificate *x509.Certificate // of that key

	// Intermediates are candidates; the one that issued Certificate is put into the
	// signature, the others are not.
	Intermediates []*x509.Certificate
}

// ErrSigner is wrapped by every error about a Signer's key or certificates.
var ErrSigner = errors.New("cannot sign with this key and certificate")

// Issuer picks the intermediate that issued the certificate: its subject is the
// issuer's name, its key identifier the one named (RFC 5280, 4.2.1.1), and its key
// verifies the signature. The last decides: names and identifiers repeat.
func (s Signer) Issuer() (*x509.Certificate, error) {
	if s.Certificate == nil {
		return nil, fmt.Errorf("%w: no certificate", ErrSigner)
	}
	leaf := s.Certificate
	for _, c := range s.Intermediates {
		named := bytes.Equal(leaf.RawIssuer, c.RawSubject)
		if len(leaf.AuthorityKeyId) > 0 && len(c.SubjectKeyId) > 0 {
			named = named && bytes.Equal(leaf.AuthorityKeyId, c.SubjectKeyId)
		}
		if named && leaf.CheckSignatureFrom(c) == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: none of the %d intermediates given issued the certificate; its issuer is %s",
		ErrSigner, len(s.Intermediates), leaf.Issuer)
}

// CheckKey fails if the key is not the certificate's, or is of a kind that passes are
// not signed with.
func (s Signer) CheckKey() error {
	if s.Key == nil || s.Certificate == nil {
		return fmt.Errorf("%w: no key or no certificate", ErrSigner)
	}
	switch pub := s.Certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		if pub.Size() < 256 {
			return fmt.Errorf("%w: the RSA key has fewer than 2048 bits", ErrSigner)
		}
		if !pub.Equal(s.Key.Public()) {
			return fmt.Errorf("%w: the key is not the certificate's", ErrSigner)
		}
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return fmt.Errorf("%w: the EC key is not on P-256", ErrSigner)
		}
		if !pub.Equal(s.Key.Public()) {
			return fmt.Errorf("%w: the key is not the certificate's", ErrSigner)
		}
	default:
		return fmt.Errorf("%w: the key is neither RSA nor on P-256", ErrSigner)
	}
	return nil
}

// SignDetached signs content at the time now and gives the SignedData in DER. The
// signature has been verified when it returns: a token that answers wrongly fails
// here, not on a device.
//
// It signs whatever it is given. A caller who passes on bytes from outside lets others
// sign: a pass manifest among them.
func SignDetached(content []byte, s Signer, now time.Time) ([]byte, error) {
	if now.IsZero() {
		return nil, errors.New("sign: no time given")
	}
	if err := s.CheckKey(); err != nil {
		return nil, err
	}
	issuer, err := s.Issuer()
	if err != nil {
		return nil, err
	}
	attributes := signedAttributes(digest(crypto.SHA256, content), now)
	toSign := digest(crypto.SHA256, element(tagSet, attributes)) // as a SET, not as [0]: RFC 5652, 5.4
	signature, err := s.Key.Sign(rand.Reader, toSign, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if !verifySignature(s.Certificate.PublicKey, crypto.SHA256, toSign, signature) {
		return nil, fmt.Errorf("sign: %w: the key made a signature that its certificate does not verify", ErrSignature)
	}
	return assemble(s.Certificate, issuer, attributes, signature)
}

// assemble puts the parts into SignedData.
func assemble(leaf, issuer *x509.Certificate, attributes, signature []byte) ([]byte, error) {
	serial, err := asn1.Marshal(leaf.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("sign: encode serial number: %w", err)
	}
	algorithm := algorithmRSA
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
		algorithm = algorithmECDSA
	}
	one := []byte{tagInteger, 1, 1}
	signerInfo := element(tagSequence, // RFC 5652, 5.3; version 1: by issuer and serial number
		one,
		element(tagSequence, leaf.RawIssuer, serial),
		algorithmSHA256,
		element(tagContext0, attributes),
		algorithm,
		element(tagOctetString, signature))
	signedData := element(tagSequence, // RFC 5652, 5.1; version 1: plain data, X.509 only
		one,
		element(tagSet, algorithmSHA256),
		element(tagSequence, oidData), // no content: detached
		element(tagContext0, sorted(leaf.Raw, issuer.Raw)),
		element(tagSet, signerInfo))
	return element(tagSequence, oidSignedData, element(tagContext0, signedData)), nil
}

// signedAttributes are the attributes in DER order, without their outer tag, which
// differs between what is signed and what is sent.
func signedAttributes(messageDigest []byte, now time.Time) []byte {
	attribute := func(id, value []byte) []byte { return element(tagSequence, id, element(tagSet, value)) }
	return sorted(
		attribute(oidContentType, oidData),
		attribute(oidMessageDigest, element(tagOctetString, messageDigest)),
		attribute(oidSigningTime, encodeTime(now)))
}

// sorted joins the elements of a SET OF as DER orders them (X.690, 11.6).
func sorted(elements ...[]byte) []byte {
	slices.SortFunc(elements, bytes.Compare)
	return slices.Concat(elements...)
}

// encodeTime writes UTCTime for the years 1950 to 2049 and GeneralizedTime for others,
// in seconds (RFC 5652, 11.3).
func encodeTime(t time.Time) []byte {
	t = t.UTC()
	if t.Year() >= 1950 && t.Year() < 2050 {
		return element(tagUTCTime, []byte(t.Format("060102150405Z")))
	}
	return element(tagGeneralizedTime, []byte(t.Format("20060102150405Z")))
}
