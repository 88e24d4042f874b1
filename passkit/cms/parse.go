package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrMalformed is wrapped by every error of Parse.
var ErrMalformed = errors.New("not a CMS signature as a pass has it")

// A Deviation is something that another tool does differently and that does not make
// the signature wrong. The texts are stable.
type Deviation string

// The deviations.
const (
	// AttributesUnordered: the signed attributes are not in DER order. Verifiers that
	// encode them anew before hashing (RFC 5652, 5.4) reject such a signature.
	AttributesUnordered Deviation = "attributes-unordered"

	// WeakDigest: SHA-1.
	WeakDigest Deviation = "weak-digest"

	// NoSignedAttributes: the signature is over the content itself.
	NoSignedAttributes Deviation = "no-signed-attributes"

	// NullMissing: an RSA algorithm identifier without its NULL.
	NullMissing Deviation = "null-missing"
)

// SignedData is a parsed signature. It says nothing of being right until
// VerifyDetached has.
type SignedData struct {
	Certificates []*x509.Certificate // as they came
	Deviations   []Deviation

	signer signerInfo
}

// signerInfo is RFC 5652, 5.3, with the fields in use.
type signerInfo struct {
	issuer, serial []byte // RawIssuer, and the INTEGER with its tag; or
	keyID          []byte // SubjectKeyIdentifier

	hash      crypto.Hash
	scheme    scheme
	signature []byte

	attributes    [][]byte // as they came, each with its tag; empty if there are none
	messageDigest []byte
	signingTime   time.Time
}

// Limits on what is read: a pass signature has two certificates and three attributes.
const (
	maxSize         = 1 << 20
	maxCertificates = 16
	maxAttributes   = 32
)

// Parse reads a detached SignedData with one signer, in DER, with nothing after it.
func Parse(der []byte) (*SignedData, error) {
	if len(der) > maxSize {
		return nil, fmt.Errorf("%w: larger than 1 MiB", ErrMalformed)
	}
	content, err := only(tagSequence, der)
	if err != nil {
		return nil, malformed("contentInfo", err)
	}
	r := reader{content}
	if _, _, id, err := r.any(); err != nil || !bytes.Equal(id, oidSignedData) {
		return nil, fmt.Errorf("%w: the content type is not signedData", ErrMalformed)
	}
	explicit, err := only(tagContext0, r.rest)
	if err != nil {
		return nil, malformed("contentInfo", err)
	}
	inner, err := only(tagSequence, explicit)
	if err != nil {
		return nil, malformed("signedData", err)
	}
	sd := new(SignedData)
	if err := sd.read(inner); err != nil {
		return nil, err
	}
	return sd, nil
}

func malformed(where string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrMalformed, where, err)
}

// read takes the fields of SignedData in their order.
func (sd *SignedData) read(b []byte) error {
	r := reader{b}
	if _, err := r.take(tagInteger); err != nil { // the version follows from the rest: RFC 5652, 5.1
		return malformed("version", err)
	}
	if _, err := r.take(tagSet); err != nil { // the signer's digest algorithm counts
		return malformed("digestAlgorithms", err)
	}
	encapsulated, err := r.take(tagSequence)
	if err != nil {
		return malformed("encapContentInfo", err)
	}
	if !bytes.Equal(encapsulated, oidData) {
		return fmt.Errorf("%w: it encloses a content or signs something other than data; a pass signature is detached", ErrMalformed)
	}
	if r.next(tagContext0) {
		certificates, err := r.take(tagContext0)
		if err != nil {
			return malformed("certificates", err)
		}
		if err := sd.readCertificates(certificates); err != nil {
			return err
		}
	}
	if r.next(tagContext1) { // revocation lists: of no use here
		if _, err := r.take(tagContext1); err != nil {
			return malformed("crls", err)
		}
	}
	signers, err := only(tagSet, r.rest)
	if err != nil {
		return malformed("signerInfos", err)
	}
	info, err := only(tagSequence, signers)
	if err != nil {
		return malformed("one signerInfo", err)
	}
	return sd.readSigner(info)
}

func (sd *SignedData) readCertificates(b []byte) error {
	r := reader{b}
	for len(r.rest) > 0 {
		tag, _, whole, err := r.any()
		if err != nil {
			return malformed("certificates", err)
		}
		if tag != tagSequence { // attribute certificates and other formats
			continue
		}
		if len(sd.Certificates) == maxCertificates {
			return fmt.Errorf("%w: more than %d certificates", ErrMalformed, maxCertificates)
		}
		c, err := x509.ParseCertificate(whole)
		if err != nil {
			return fmt.Errorf("%w: certificate %d is not X.509", ErrMalformed, len(sd.Certificates)+1)
		}
		sd.Certificates = append(sd.Certificates, c)
	}
	return nil
}

// readSigner takes the fields of SignerInfo in their order.
func (sd *SignedData) readSigner(b []byte) error {
	s, r := &sd.signer, reader{b}
	if _, err := r.take(tagInteger); err != nil { // the version follows from the identifier's form
		return malformed("signerInfo version", err)
	}
	if err := s.readIdentifier(&r); err != nil {
		return malformed("signerIdentifier", err)
	}
	id, _, err := readAlgorithm(&r)
	if err != nil {
		return malformed("digestAlgorithm", err)
	}
	if s.hash = lookUpHash(id); s.hash == 0 {
		return fmt.Errorf("%w: the digest algorithm is not SHA-256, nor another that is read here", ErrMalformed)
	}
	if r.next(tagContext0) {
		attributes, err := r.take(tagContext0)
		if err != nil {
			return malformed("signedAttrs", err)
		}
		if err := s.readAttributes(attributes); err != nil {
			return err
		}
	}
	id, parameters, err := readAlgorithm(&r)
	if err != nil {
		return malformed("signatureAlgorithm", err)
	}
	if s.scheme = lookUpSignature(id, s.hash); s.scheme == 0 {
		return fmt.Errorf("%w: the signature algorithm is not RSASSA-PKCS1-v1_5 or ECDSA with the digest algorithm's hash", ErrMalformed)
	}
	if s.signature, err = r.take(tagOctetString); err != nil {
		return malformed("signature", err)
	}
	if r.next(tagContext1) { // unsigned attributes: not covered by the signature, so they count for nothing
		if _, err := r.take(tagContext1); err != nil {
			return malformed("unsignedAttrs", err)
		}
	}
	if err := r.end(); err != nil {
		return malformed("signerInfo", err)
	}
	sd.noteDeviations(s.scheme == schemeRSA && parameters == nil)
	return nil
}

func (sd *SignedData) noteDeviations(nullMissing bool) {
	s := sd.signer
	if len(s.attributes) == 0 {
		sd.Deviations = append(sd.Deviations, NoSignedAttributes)
	}
	if !slices.IsSortedFunc(s.attributes, bytes.Compare) {
		sd.Deviations = append(sd.Deviations, AttributesUnordered)
	}
	if s.hash == crypto.SHA1 {
		sd.Deviations = append(sd.Deviations, WeakDigest)
	}
	if nullMissing {
		sd.Deviations = append(sd.Deviations, NullMissing)
	}
}

// readIdentifier reads issuerAndSerialNumber or [0] SubjectKeyIdentifier.
func (s *signerInfo) readIdentifier(r *reader) (err error) {
	if r.next(tagContext0Plain) {
		s.keyID, err = r.take(tagContext0Plain)
		return err
	}
	content, err := r.take(tagSequence)
	if err != nil {
		return err
	}
	inner := reader{content}
	tag, _, issuer, err := inner.any()
	if err != nil || tag != tagSequence {
		return errDER
	}
	tag, _, serial, err := inner.any()
	if err != nil || tag != tagInteger {
		return errDER
	}
	s.issuer, s.serial = issuer, serial
	return inner.end()
}

// readAttributes reads the three that count; each attribute may stand once (RFC 5652,
// 5.3), and those three have one value.
func (s *signerInfo) readAttributes(b []byte) error {
	r := reader{b}
	seen := map[string]bool{}
	for len(r.rest) > 0 {
		tag, content, whole, err := r.any()
		if err != nil || tag != tagSequence || len(s.attributes) == maxAttributes {
			return malformed("signedAttrs", errDER)
		}
		inner := reader{content}
		tag, _, id, err := inner.any()
		if err != nil || tag != tagOID {
			return malformed("signedAttrs", errDER)
		}
		values, err := only(tagSet, inner.rest)
		if err != nil {
			return malformed("signedAttrs", err)
		}
		if seen[string(id)] {
			return fmt.Errorf("%w: a signed attribute stands twice", ErrMalformed)
		}
		seen[string(id)] = true
		s.attributes = append(s.attributes, whole)
		if err := s.readAttribute(id, values); err != nil {
			return err
		}
	}
	if !seen[string(oidContentType)] || !seen[string(oidMessageDigest)] {
		return fmt.Errorf("%w: the signed attributes lack contentType or messageDigest", ErrMalformed) // RFC 5652, 5.3
	}
	return nil
}

func (s *signerInfo) readAttribute(id, values []byte) (err error) {
	switch {
	case bytes.Equal(id, oidContentType):
		if !bytes.Equal(values, oidData) {
			return fmt.Errorf("%w: the contentType attribute is not data", ErrMalformed)
		}
	case bytes.Equal(id, oidMessageDigest):
		if s.messageDigest, err = only(tagOctetString, values); err != nil {
			return malformed("messageDigest", err)
		}
	case bytes.Equal(id, oidSigningTime):
		if s.signingTime, err = decodeTime(values); err != nil {
			return malformed("signingTime", err)
		}
	}
	return nil
}

// decodeTime reads UTCTime or GeneralizedTime. RFC 5652, 11.3 lets neither have an
// offset or a fraction, but some tools write an offset, which is unambiguous.
func decodeTime(b []byte) (time.Time, error) {
	var t time.Time
	rest, err := asn1.Unmarshal(b, &t)
	if err != nil || len(rest) > 0 || t.IsZero() {
		return time.Time{}, errors.New("not one UTCTime or GeneralizedTime")
	}
	return t.UTC(), nil
}
