package provisioning

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"sync"
	"time"
)

// Where a certificate stands in a chain, for ChainError.Position.
const (
	wholeChain   = 0
	leafPosition = 1
	subPosition  = 2
	maxChain     = 3
)

// maxCertificate bounds one certificate's DER. Apple's leaf has 1025 bytes, its
// intermediate 763.
const maxCertificate = 8 << 10

var (
	// oidMarker marks the leaf of in-app provisioning; Apple requires it to be
	// present and critical (in-app provisioning guide, 6.1.3). Its value, NULL in the leaf of 2018, says
	// nothing and is not looked at: the intermediate's signature is over it.
	oidMarker = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 39}

	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15} // RFC 5280, 4.2.1.3
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19} // RFC 5280, 4.2.1.9
)

// A ChainPolicy decides whether a certificate chain is Apple's for in-app
// provisioning, below one anchor. It is safe for concurrent use.
//
// The path has exactly the form leaf <- intermediate <- anchor, so it is checked step
// by step here rather than by x509.Certificate.Verify, which searches paths, cannot
// tell the reasons apart and would cost a P-384 verification (0.8 ms of CPU) for
// every request. What of RFC 5280 a path of this form can contain and is not checked
// here (name constraints, policy constraints) must be critical in the intermediate,
// and is refused as such.
//
// Revocation is not checked: Apple publishes OCSP and CRL addresses in these
// certificates, but asks issuers for neither, and a request would depend on the reach
// of a third party. A revoked leaf is therefore accepted until it ends.
type ChainPolicy struct {
	anchor Anchor
	now    func() time.Time
	known  intermediateCache
}

// NewChainPolicy makes the policy of one environment; now is the clock that all
// dates are held against, time.Now if nil.
func NewChainPolicy(anchor Anchor, now func() time.Time) *ChainPolicy {
	if now == nil {
		now = time.Now
	}
	return &ChainPolicy{anchor: anchor, now: now}
}

// Anchor is the root that the policy trusts.
func (p *ChainPolicy) Anchor() Anchor { return p.anchor }

// Verify accepts a chain of DER certificates, leaf first, intermediate second, and
// gives the leaf's key. A third certificate, which some callers send because it is
// the root, must be a well-formed certificate and is not used otherwise: the root
// trusted is the anchor's. Every error is a *ChainError. A chain with several defects
// is refused for one of them, cheaper checks first.
func (p *ChainPolicy) Verify(chain [][]byte) (*Recipient, error) {
	switch {
	case len(chain) < 2:
		return nil, refuseChain(ReasonTooFew, wholeChain)
	case len(chain) > maxChain:
		return nil, refuseChain(ReasonTooMany, wholeChain)
	case p.anchor.IsZero():
		return nil, refuseChain(ReasonUntrustedRoot, wholeChain)
	}
	// 1. What was sent is certificates, in order.
	leaf, sub, err := p.parse(chain)
	if err != nil {
		return nil, err
	}
	// 2. The intermediate is one, and the anchor's, now.
	now := p.now()
	if err := p.trustIntermediate(sub, now); err != nil {
		return nil, err
	}
	// 3. The leaf is of the right kind, now, and the intermediate's.
	key, err := checkLeaf(leaf)
	if err != nil {
		return nil, err
	}
	if err := checkDates(leaf, now, leafPosition, ReasonLeafNotYetValid, ReasonLeafExpired); err != nil {
		return nil, err
	}
	if !bytes.Equal(leaf.RawIssuer, sub.cert.RawSubject) || leaf.CheckSignatureFrom(sub.cert) != nil {
		return nil, refuseChain(ReasonLeafSignature, leafPosition)
	}
	return newRecipient(leaf, key), nil
}

// An intermediate is the second certificate of a chain. If verified, this policy has
// accepted its form and signature before.
type intermediate struct {
	cert     *x509.Certificate
	digest   [32]byte
	verified bool
}

// parse gives leaf and intermediate, if every certificate is well-formed and the two
// are not the wrong way round.
func (p *ChainPolicy) parse(chain [][]byte) (*x509.Certificate, intermediate, error) {
	leaf, err := parseCertificate(chain[0], leafPosition)
	if err != nil {
		return nil, intermediate{}, err
	}
	sub := intermediate{digest: sha256.Sum256(chain[1])}
	if sub.cert, sub.verified = p.known.get(sub.digest); !sub.verified {
		if sub.cert, err = parseCertificate(chain[1], subPosition); err != nil {
			return nil, intermediate{}, err
		}
	}
	for i, der := range chain[2:] {
		if _, err := parseCertificate(der, subPosition+1+i); err != nil {
			return nil, intermediate{}, err
		}
	}
	if swapped(leaf, sub.cert) {
		return nil, intermediate{}, refuseChain(ReasonSwappedOrder, wholeChain)
	}
	return leaf, sub, nil
}

// trustIntermediate checks form and signature once for each intermediate, and the
// dates every time: of the anchor too.
func (p *ChainPolicy) trustIntermediate(sub intermediate, now time.Time) error {
	if !sub.verified {
		if err := p.checkIntermediate(sub.cert); err != nil {
			return err
		}
	}
	if err := checkDates(p.anchor.root, now, wholeChain, ReasonRootNotYetValid, ReasonRootExpired); err != nil {
		return err
	}
	if err := checkDates(sub.cert, now, subPosition, ReasonIntermediateNotYetValid, ReasonIntermediateExpired); err != nil {
		return err
	}
	if sub.verified {
		return nil
	}
	if sub.cert.CheckSignatureFrom(p.anchor.root) != nil {
		return refuseChain(ReasonUntrustedRoot, subPosition)
	}
	p.known.put(sub.digest, sub.cert)
	return nil
}

// parseCertificate parses one certificate. Nothing may follow it.
func parseCertificate(der []byte, position int) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, refuseChain(ReasonTooLarge, position)
	}
	var whole asn1.RawValue
	rest, err := asn1.Unmarshal(der, &whole)
	if err != nil {
		return nil, refuseChain(ReasonMalformedCertificate, position)
	}
	cert, err := x509.ParseCertificate(whole.FullBytes)
	if err != nil {
		return nil, refuseChain(ReasonMalformedCertificate, position)
	}
	if len(rest) > 0 {
		return nil, refuseChain(ReasonTrailingBytes, position)
	}
	return cert, nil
}

// swapped reports whether second names first as its issuer, and not the other way
// round too, as two copies of a root would.
func swapped(first, second *x509.Certificate) bool {
	return bytes.Equal(second.RawIssuer, first.RawSubject) && !bytes.Equal(first.RawIssuer, second.RawSubject)
}

// checkIntermediate checks everything about the intermediate but its dates and its
// signature, which cost most and come after.
func (p *ChainPolicy) checkIntermediate(sub *x509.Certificate) error {
	root := p.anchor.root
	switch {
	case bytes.Equal(sub.RawSubject, root.RawSubject): // a root, or one cross-signed
		return refuseChain(ReasonWrongIntermediate, subPosition)
	case !bytes.Equal(sub.RawIssuer, root.RawSubject):
		return refuseChain(ReasonUntrustedRoot, subPosition)
	case p.anchor.intermediate != "" && sub.Subject.CommonName != p.anchor.intermediate:
		return refuseChain(ReasonWrongIntermediate, subPosition)
	case !isSigningCA(sub):
		return refuseChain(ReasonIntermediateNotCA, subPosition)
	case hasForeignCritical(sub):
		return refuseChain(ReasonUnhandledCritical, subPosition)
	}
	return nil
}

// isSigningCA reports whether cert may sign certificates (RFC 5280, 4.2.1.9 and 4.2.1.3).
func isSigningCA(cert *x509.Certificate) bool {
	return cert.BasicConstraintsValid && cert.IsCA && cert.KeyUsage&x509.KeyUsageCertSign != 0
}

// hasForeignCritical reports whether a CA certificate has a critical extension other
// than the two that this policy looks at. crypto/x509 counts more of them as handled
// (name and policy constraints), but handles them only in its own path validation.
func hasForeignCritical(cert *x509.Certificate) bool {
	for _, ext := range cert.Extensions {
		if ext.Critical && !ext.Id.Equal(oidBasicConstraints) && !ext.Id.Equal(oidKeyUsage) {
			return true
		}
	}
	return false
}

// checkLeaf checks everything about the leaf but its dates and its signature.
func checkLeaf(leaf *x509.Certificate) (*ecdh.PublicKey, error) {
	if leaf.BasicConstraintsValid && leaf.IsCA {
		return nil, refuseChain(ReasonLeafIsCA, leafPosition)
	}
	if err := checkMarker(leaf); err != nil {
		return nil, err
	}
	if leaf.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		return nil, refuseChain(ReasonKeyUsage, leafPosition)
	}
	pub, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, refuseChain(ReasonLeafKey, leafPosition)
	}
	key, err := pub.ECDH()
	if err != nil {
		return nil, refuseChain(ReasonLeafKey, leafPosition)
	}
	return key, nil
}

// checkMarker demands the critical marker, and nothing else critical that crypto/x509
// does not know.
func checkMarker(leaf *x509.Certificate) error {
	i := slices.IndexFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidMarker) })
	if i < 0 {
		return refuseChain(ReasonMarkerMissing, leafPosition)
	}
	if !leaf.Extensions[i].Critical {
		return refuseChain(ReasonMarkerNotCritical, leafPosition)
	}
	for _, oid := range leaf.UnhandledCriticalExtensions {
		if !oid.Equal(oidMarker) {
			return refuseChain(ReasonUnhandledCritical, leafPosition)
		}
	}
	return nil
}

// checkDates holds both ends as valid (RFC 5280, 4.1.2.5).
func checkDates(cert *x509.Certificate, now time.Time, position int, early, late ChainReason) error {
	switch {
	case now.Before(cert.NotBefore):
		return refuseChain(early, position)
	case now.After(cert.NotAfter):
		return refuseChain(late, position)
	}
	return nil
}

// maxIntermediates bounds the cache. Only certificates that the anchor signed get
// in, so a caller cannot fill it; a production environment has one.
const maxIntermediates = 8

// intermediateCache remembers intermediates whose signature and form were verified,
// by the SHA-256 of their DER. It says nothing about their dates. Refusals are not
// remembered. Two first uses at the same time both verify, which costs time only.
type intermediateCache struct {
	mu     sync.Mutex // guards the fields below; never held while verifying
	known  map[[32]byte]*x509.Certificate
	oldest [][32]byte // the keys of known, in order of arrival
}

func (c *intermediateCache) get(digest [32]byte) (*x509.Certificate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, ok := c.known[digest]
	return cert, ok
}

func (c *intermediateCache) put(digest [32]byte, cert *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[digest]; ok {
		return
	}
	if c.known == nil {
		c.known = make(map[[32]byte]*x509.Certificate)
	}
	if len(c.oldest) == maxIntermediates {
		delete(c.known, c.oldest[0])
		c.oldest = slices.Delete(c.oldest, 0, 1)
	}
	c.known[digest] = cert
	c.oldest = append(c.oldest, digest)
}

// A Recipient is whom a payload is sealed to: Apple's static key, from a leaf that a
// ChainPolicy accepted. Only Verify makes one. It does not change.
type Recipient struct {
	key      *ecdh.PublicKey
	spki     [32]byte
	serial   string
	notAfter time.Time
}

func newRecipient(leaf *x509.Certificate, key *ecdh.PublicKey) *Recipient {
	return &Recipient{
		key:      key,
		spki:     sha256.Sum256(leaf.RawSubjectPublicKeyInfo),
		serial:   leaf.SerialNumber.Text(16),
		notAfter: leaf.NotAfter,
	}
}

// PublicKey is the static key, on P-256.
func (r *Recipient) PublicKey() *ecdh.PublicKey { return r.key }

// Point is the static key as the 65 bytes 04|X|Y (SEC 1, 2.3.3), in a new slice.
func (r *Recipient) Point() []byte { return r.key.Bytes() }

// ECDSA is the static key in the form of crypto/ecdsa, as a new value.
func (r *Recipient) ECDSA() *ecdsa.PublicKey {
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), r.key.Bytes())
	if err != nil {
		panic("provisioning: a P-256 key of crypto/ecdh is not one of crypto/ecdsa")
	}
	return pub
}

// SPKISHA256 is the SHA-256 of the leaf's SubjectPublicKeyInfo: the key's name, which stays
// if Apple renews the certificate over the same key.
func (r *Recipient) SPKISHA256() [32]byte { return r.spki }

// Serial is the leaf's serial number in lower-case hexadecimal, for the record.
func (r *Recipient) Serial() string { return r.serial }

// NotAfter is when the leaf ends.
func (r *Recipient) NotAfter() time.Time { return r.notAfter }
