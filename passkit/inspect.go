package passkit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image/png"
	"time"

	"github.com/mintmark/mintmark/passkit/cms"
)

// A Summary is what a pass is, for people: no token and no barcode in it. Members that
// could not be read are empty, and Unread says why.
type Summary struct {
	PassTypeIdentifier string  `json:"passTypeIdentifier,omitempty"`
	SerialNumber       string  `json:"serialNumber,omitempty"`
	TeamIdentifier     string  `json:"teamIdentifier,omitempty"`
	OrganizationName   string  `json:"organizationName,omitempty"`
	Description        string  `json:"description,omitempty"`
	Styles             []Style `json:"styles,omitempty"`
	ExpirationDate     Date    `json:"expirationDate,omitempty"`
	Voided             bool    `json:"voided,omitempty"`
	WebServiceURL      string  `json:"webServiceURL,omitempty"`
	NFC                bool    `json:"nfc,omitempty"`
	Personalizable     bool    `json:"personalizable,omitempty"`

	Languages []string          `json:"languages,omitempty"`
	Files     []FileSummary     `json:"files"`
	Signature *SignatureSummary `json:"signature,omitempty"` // nil if there is none that can be read

	Unread []string `json:"unread,omitempty"`
}

// A FileSummary is one file. Width and Height are pixels, of a PNG.
type FileSummary struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
}

// A SignatureSummary is what a signature says. Nothing of it is verified.
type SignatureSummary struct {
	SigningTime  time.Time            `json:"signingTime,omitzero"`
	Digest       string               `json:"digest"`
	Deviations   []cms.Deviation      `json:"deviations,omitempty"`
	Certificates []CertificateSummary `json:"certificates"` // the signer's first
}

// A CertificateSummary is one certificate.
type CertificateSummary struct {
	Subject            string    `json:"subject"`
	Issuer             string    `json:"issuer"`
	SerialNumber       string    `json:"serialNumber"` // hexadecimal
	NotBefore          time.Time `json:"notBefore"`
	NotAfter           time.Time `json:"notAfter"`
	SHA256             string    `json:"sha256"` // hexadecimal, of the DER
	PassTypeIdentifier string    `json:"passTypeIdentifier,omitempty"`
	TeamIdentifier     string    `json:"teamIdentifier,omitempty"`
	NFC                bool      `json:"nfc,omitempty"`
}

// Inspect summarises a bundle, signed or not, right or wrong.
func Inspect(b *Bundle) Summary {
	s := Summary{Languages: b.Languages()}
	if p, _, err := b.Pass(); err != nil {
		s.Unread = append(s.Unread, err.Error())
	} else {
		s.PassTypeIdentifier, s.SerialNumber, s.TeamIdentifier = p.PassTypeIdentifier, p.SerialNumber, p.TeamIdentifier
		s.OrganizationName, s.Description, s.Styles = p.OrganizationName, p.Description, p.Styles()
		s.ExpirationDate, s.Voided = p.ExpirationDate, p.Voided != nil && *p.Voided
		s.WebServiceURL, s.NFC = p.WebServiceURL, p.NFC != nil
	}
	_, s.Personalizable = b.Files[FilePersonalization]
	for _, name := range b.sortedNames() {
		f := FileSummary{Name: name, Size: len(b.Files[name])}
		if config, err := png.DecodeConfig(bytes.NewReader(b.Files[name])); err == nil {
			f.Width, f.Height = config.Width, config.Height
		}
		s.Files = append(s.Files, f)
	}
	if der, ok := b.Files[FileSignature]; ok {
		if signed, err := cms.Parse(der); err != nil {
			s.Unread = append(s.Unread, "signature: "+err.Error())
		} else {
			s.Signature = summarise(signed)
		}
	}
	return s
}

func summarise(signed *cms.SignedData) *SignatureSummary {
	s := &SignatureSummary{Digest: signed.Hash().String(), Deviations: signed.Deviations}
	s.SigningTime, _ = signed.SigningTime()
	leaf, _ := signed.Signer()
	for _, c := range signed.Certificates {
		marks, sum := ReadMarks(c), sha256.Sum256(c.Raw)
		one := CertificateSummary{
			Subject: c.Subject.String(), Issuer: c.Issuer.String(), SerialNumber: c.SerialNumber.Text(16),
			NotBefore: c.NotBefore, NotAfter: c.NotAfter, SHA256: hex.EncodeToString(sum[:]),
		}
		if marks.ForPasses {
			one.PassTypeIdentifier, one.TeamIdentifier, one.NFC = marks.PassTypeIdentifier, marks.TeamIdentifier, marks.NFC
		}
		if c == leaf {
			s.Certificates = append([]CertificateSummary{one}, s.Certificates...)
		} else {
			s.Certificates = append(s.Certificates, one)
		}
	}
	return s
}
