package access

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A CertificateRule says which TLS client certificates are a client's (RFC 8705, 2):
// those that its CA issued to one name, or those of pinned keys, whoever issued them.
type CertificateRule struct {
	CAs  []*x509.Certificate // certificates of the client's own CA; a chain must lead to one of them
	Name AlternativeName     // with CAs: what the certificate must be issued to

	Revocation Revocation // with CAs: which of their certificates count no more

	Pins [][sha256.Size]byte // instead of CAs and Name: SHA-256 of the SubjectPublicKeyInfo

	// Subject is who the caller is, for a client without keys. If it is empty, it is
	// the name, or "spki-sha256:" and the pin in hexadecimal.
	Subject string
}

// An AlternativeName is one name of a certificate (RFC 5280, 4.2.1.6). Exactly one
// member is set. The certificate must have the same one, of the same kind, character
// by character, and may have others beside it. The subject's common name is no name.
type AlternativeName struct {
	DNS   string // dNSName; no wildcard, which would be many clients
	URI   string // uniformResourceIdentifier
	Email string // rfc822Name
}

// The tags of a GeneralName.
const (
	tagEmail = 1
	tagDNS   = 2
	tagURI   = 6
)

// generalName is a name with its tag.
type generalName struct {
	tag  int
	text string
}

func (n generalName) String() string {
	return map[int]string{tagEmail: "email:", tagDNS: "DNS:", tagURI: "URI:"}[n.tag] + n.text
}

// certificateRule is a CertificateRule that has passed its checks.
type certificateRule struct {
	cas     []*x509.Certificate
	pool    *x509.CertPool
	name    generalName
	pins    [][sha256.Size]byte
	subject string
	revoked Revocation
}

func newCertificateRule(r CertificateRule) (own *certificateRule, problems []error) {
	own = &certificateRule{pins: slices.Clone(r.Pins), cas: slices.Clone(r.CAs), pool: x509.NewCertPool(), subject: r.Subject, revoked: r.Revocation}
	problems = append(problems, r.Revocation.check(r.CAs)...)
	if r.Subject != "" && !isIdentifier(r.Subject) {
		problems = append(problems, fmt.Errorf("subject is longer than %d bytes, or holds a character that does not print", MaxIdentifier))
	}
	switch named := r.Name != (AlternativeName{}); {
	case len(r.Pins) > 0 && (len(r.CAs) > 0 || named):
		return own, append(problems, errors.New("has both a CA or name and pinned keys; a rule is one or the other"))
	case len(r.Pins) == 0 && (len(r.CAs) == 0 || !named):
		return own, append(problems, errors.New("needs a CA and a name, or pinned keys"))
	case len(r.Pins) > 0:
		return own, problems
	}
	for i, ca := range r.CAs {
		if ca == nil || !ca.BasicConstraintsValid || !ca.IsCA {
			problems = append(problems, fmt.Errorf("certificate %d of its CA is not that of a CA", i+1))
			continue
		}
		own.pool.AddCert(ca)
	}
	var err error
	if own.name, err = r.Name.check(); err != nil {
		problems = append(problems, err)
	}
	return own, problems
}

// check gives the one name that is set.
func (n AlternativeName) check() (one generalName, err error) {
	for _, g := range []generalName{{tagDNS, n.DNS}, {tagURI, n.URI}, {tagEmail, n.Email}} {
		switch {
		case g.text == "":
		case one.text != "":
			return one, errors.New("name has more than one of DNS name, URI and e-mail address")
		case !isIdentifier(g.text):
			return one, fmt.Errorf("name is longer than %d bytes, or holds a character that does not print", MaxIdentifier)
		case g.tag == tagDNS && strings.Contains(g.text, "*"):
			return one, errors.New("name is a wildcard; it must be one name")
		default:
			one = g
		}
	}
	return one, nil
}

// String is the rule for the operator's eyes.
func (r *certificateRule) String() string {
	if len(r.pins) > 0 {
		return fmt.Sprintf("a certificate of one of %d pinned keys", len(r.pins))
	}
	return fmt.Sprintf("a certificate of its CA for %s", r.name)
}

// overlaps reports whether a certificate could meet both rules for sure.
func (r *certificateRule) overlaps(other *certificateRule) bool {
	if len(r.pins) > 0 {
		return slices.ContainsFunc(r.pins, func(p [sha256.Size]byte) bool { return slices.Contains(other.pins, p) })
	}
	return r.name == other.name && slices.ContainsFunc(r.cas, func(ca *x509.Certificate) bool {
		return slices.ContainsFunc(other.cas, ca.Equal)
	})
}

// A presented chain, with what rules are held against.
type presented struct {
	leaf          *x509.Certificate
	intermediates []*x509.Certificate
	spki          [sha256.Size]byte
	names         []generalName
}

func present(chain []*x509.Certificate) presented {
	leaf := chain[0]
	return presented{leaf, chain[1:], sha256.Sum256(leaf.RawSubjectPublicKeyInfo), alternativeNames(leaf)}
}

// alternativeNames reads the names as they stand in the certificate. crypto/x509 has
// URIs only parsed, and two texts may parse to the same.
func alternativeNames(leaf *x509.Certificate) (names []generalName) {
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var all []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &all); err != nil || len(rest) > 0 {
			return nil
		}
		for _, n := range all {
			if n.Class == asn1.ClassContextSpecific && !n.IsCompound {
				names = append(names, generalName{n.Tag, string(n.Bytes)})
			}
		}
	}
	return names
}

// maxIntermediates bounds the work that a chain can ask for.
const maxIntermediates = 8

// match is empty if the certificate is the client's, and otherwise says why not.
func (r *certificateRule) match(p presented, now time.Time) Reason {
	if len(r.pins) > 0 {
		if !slices.Contains(r.pins, p.spki) {
			return ReasonUnknownCertificate
		}
		if now.Before(p.leaf.NotBefore) || now.After(p.leaf.NotAfter) {
			return ReasonCertificateTime
		}
		return usage(p.leaf, len(p.leaf.ExtKeyUsage)+len(p.leaf.UnknownExtKeyUsage) == 0)
	}
	if !slices.Contains(p.names, r.name) || len(p.intermediates) > maxIntermediates {
		return ReasonUnknownCertificate
	}
	between := x509.NewCertPool()
	for _, c := range p.intermediates {
		between.AddCert(c)
	}
	chains, err := p.leaf.Verify(x509.VerifyOptions{
		Roots: r.pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return cmp.Or(usage(p.leaf, false), r.revoked.of(chains, now))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ReasonCertificateTime
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return ReasonCertificateUsage
	}
	return ReasonUnknownCertificate
}

// usage refuses a certificate that is not for what it was just used for: signing a
// handshake (RFC 5280, 4.2.1.3), as a client (4.2.1.12). A CA's certificate is never
// a client's. A CA that issues for clients must say so; a pinned key need not have a
// certificate that says anything.
func usage(leaf *x509.Certificate, mayBeSilent bool) Reason {
	if leaf.IsCA || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || len(leaf.UnhandledCriticalExtensions) > 0 ||
		!mayBeSilent && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return ReasonCertificateUsage
	}
	return ""
}

// byCertificate finds the client without keys whose certificate the connection has.
func (v *Verifier) byCertificate(chain []*x509.Certificate, t *trace) (Caller, error) {
	p, now := present(chain), v.now()
	var found []*client
	reason, needsToken := ReasonUnknownCertificate, false
	for _, c := range v.certified {
		switch r := c.certificate.match(p, now); {
		case r == "" && c.keys != nil:
			needsToken = true
		case r == "":
			found = append(found, c)
		case r != ReasonUnknownCertificate:
			reason = r
		}
	}
	switch {
	case len(found) > 1:
		reason = ReasonAmbiguousCertificate
	case len(found) == 1:
		reason = ""
	case needsToken:
		reason = ReasonMissing
	}
	if err := t.step("certificate", must(reason == "", reason), "it is that of %d of %d clients that need no token", len(found), len(v.certified)); err != nil {
		return Caller{}, err
	}
	c := found[0]
	who := Caller{Tenant: c.Tenant, Issuer: c.Issuer, Subject: c.certificate.subjectOf(p), Certified: true, grants: c.grants}
	return who, t.step("client", nil, "%q, which needs %s; sub is %q", c.Issuer, c.certificate, who.Subject)
}

// subjectOf is who a caller with this certificate is.
func (r *certificateRule) subjectOf(p presented) string {
	switch {
	case r.subject != "":
		return r.subject
	case len(r.pins) > 0:
		return "spki-sha256:" + hex.EncodeToString(p.spki[:])
	}
	return r.name.text
}
