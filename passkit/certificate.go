package passkit

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/mintmark/mintmark/passkit/cms"
)

// What marks a pass certificate ("Pass Type ID: …").
var (
	oidUserID   = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}  // RFC 4519, 2.39: the pass type
	oidPassType = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 1, 16} // extension: the pass type again
	oidNFC      = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 1, 26} // extension: may sign passes with nfc
	oidPassEKU  = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 4, 14}    // extended key usage: passes
)

// Marks are what Apple says in a pass certificate about the passes it signs. Empty
// members are not in it.
type Marks struct {
	PassTypeIdentifier string // the subject's UID
	TeamIdentifier     string // the subject's OU
	Marker             string // the pass type in extension 1.2.840.113635.100.6.1.16
	ForPasses          bool   // has Apple's extended key usage for passes
	NFC                bool   // may sign passes with nfc
}

// ReadMarks reads a certificate's marks. It trusts nothing.
func ReadMarks(c *x509.Certificate) Marks {
	var r Marks
	for _, name := range c.Subject.Names {
		if s, ok := name.Value.(string); ok && name.Type.Equal(oidUserID) {
			r.PassTypeIdentifier = s
		}
	}
	if len(c.Subject.OrganizationalUnit) == 1 {
		r.TeamIdentifier = c.Subject.OrganizationalUnit[0]
	}
	for _, e := range c.Extensions {
		switch {
		case e.Id.Equal(oidPassType):
			if rest, err := asn1.Unmarshal(e.Value, &r.Marker); err != nil || len(rest) > 0 {
				r.Marker = ""
			}
		case e.Id.Equal(oidNFC):
			r.NFC = true
		}
	}
	r.ForPasses = slices.ContainsFunc(c.UnknownExtKeyUsage, oidPassEKU.Equal)
	return r
}

// isFor reports whether the marks are those of a pass.
func (r Marks) isFor(passType, team string) bool {
	return r.PassTypeIdentifier == passType && r.TeamIdentifier == team && r.Marker == passType && passType != "" && team != ""
}

// ErrCertificates is wrapped by the error for a text without certificates.
var ErrCertificates = errors.New("not certificates in PEM or one in DER")

// ParseCertificates reads a PEM text of certificates, or one certificate in DER as
// Apple's portal gives it (.cer). PEM blocks of other kinds are refused: a key does not
// belong there.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("%w: neither", ErrCertificates)
		}
		return []*x509.Certificate{c}, nil
	}
	var found []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("%w: block %d is not a certificate", ErrCertificates, len(found)+1)
		}
		found = append(found, c)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no block is whole", ErrCertificates)
	}
	return found, nil
}

// CheckCertificates reports a certificate, the first of chain, that is none for passes; whose
// issuer is neither behind it in chain nor among known, so that each pass would be refused, since
// a signature encloses both; or, unless roots is nil, whose issuer none of them issued. It looks
// at no dates.
func CheckCertificates(chain, known []*x509.Certificate, roots *x509.CertPool) error {
	leaf := chain[0]
	if ReadMarks(leaf).PassTypeIdentifier == "" {
		return errors.New("it names no pass type, which a certificate of Apple's for a pass does")
	}
	issuer, err := cms.Signer{Certificate: leaf, Intermediates: slices.Concat(chain[1:], known)}.Issuer()
	if err != nil {
		return fmt.Errorf("no pass can be signed with it, for want of its issuer, %s: get that from https://www.apple.com/certificateauthority/ and put it behind it, both in PEM", leaf.Issuer)
	}
	if roots == nil { // nil would mean the system's
		return nil
	}
	if fault := pathFault(leaf, issuer, []*x509.Certificate{issuer}, roots); fault != "" {
		return fmt.Errorf("no device takes a pass that is signed with it: %s; get one from Apple's developer portal", fault)
	}
	return nil
}
