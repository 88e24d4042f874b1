package appletest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// oidMarker marks the leaf of in-app provisioning (Apple's in-app provisioning guide, 6.1.3).
var oidMarker = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 39}

// How long certificates last, as Apple's do; all begin an hour before now, for clocks
// that are behind.
const (
	rootYears = 25
	subYears  = 15
	leafYears = 2
	backdate  = time.Hour
)

// An Authority is a simulated Apple: a root and an intermediate, with their keys in
// memory and nowhere else.
type Authority struct {
	Root *x509.Certificate // P-384
	Sub  *x509.Certificate // P-256, the intermediate

	now    time.Time
	subKey *ecdsa.PrivateKey
}

// An Option makes one thing about root or intermediate different.
type Option func(root, sub *x509.Certificate)

// RootSubject gives the root another name, as raw DER of a Name: that of a real
// root, for a chain that looks like Apple's and is signed by somebody else.
func RootSubject(name []byte) Option {
	return func(root, _ *x509.Certificate) { root.RawSubject = name }
}

// IntermediateSubject gives the intermediate another name, as raw DER of a Name.
func IntermediateSubject(name []byte) Option {
	return func(_, sub *x509.Certificate) { sub.RawSubject = name }
}

// RootValid gives the root other dates.
func RootValid(from, to time.Time) Option {
	return func(root, _ *x509.Certificate) { root.NotBefore, root.NotAfter = from, to }
}

// IntermediateValid gives the intermediate other dates.
func IntermediateValid(from, to time.Time) Option {
	return func(_, sub *x509.Certificate) { sub.NotBefore, sub.NotAfter = from, to }
}

// IntermediateNotCA says CA:false of the intermediate.
func IntermediateNotCA() Option {
	return func(_, sub *x509.Certificate) { sub.IsCA = false }
}

// IntermediateKeyUsage gives the intermediate another key usage; 0 leaves the
// extension out.
func IntermediateKeyUsage(usage x509.KeyUsage) Option {
	return func(_, sub *x509.Certificate) { sub.KeyUsage = usage }
}

// IntermediateExtension adds an extension to the intermediate.
func IntermediateExtension(ext pkix.Extension) Option {
	return func(_, sub *x509.Certificate) { sub.ExtraExtensions = append(sub.ExtraExtensions, ext) }
}

// New makes an authority whose certificates are valid at now. Every call makes new
// keys under the same names.
func New(now time.Time, options ...Option) (*Authority, error) {
	root := template("mintmark simulated Apple Root CA", now, rootYears)
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	root.SignatureAlgorithm = x509.ECDSAWithSHA384
	sub := template("mintmark simulated Apple WWDR CA", now, subYears)
	sub.IsCA, sub.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	sub.SignatureAlgorithm = x509.ECDSAWithSHA256
	for _, option := range options {
		option(root, sub)
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make simulated root key: %w", err)
	}
	subKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make simulated intermediate key: %w", err)
	}
	a := &Authority{now: now, subKey: subKey}
	if a.Root, err = sign(root, root, rootKey.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("make simulated root: %w", err)
	}
	if a.Sub, err = sign(sub, a.Root, subKey.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("make simulated intermediate: %w", err)
	}
	return a, nil
}

// A LeafOption makes one thing about a leaf different.
type LeafOption func(*leafPlan)

// leafPlan is a leaf before it is signed.
type leafPlan struct {
	cert       *x509.Certificate
	markers    []pkix.Extension
	extensions []pkix.Extension
	newKey     func() (crypto.Signer, error)
}

// WithoutMarker leaves the marker extension out.
func WithoutMarker() LeafOption {
	return func(p *leafPlan) { p.markers = nil }
}

// MarkerNotCritical has the marker extension, not critical.
func MarkerNotCritical() LeafOption {
	return func(p *leafPlan) { p.markers[0].Critical = false }
}

// Valid gives the leaf other dates.
func Valid(from, to time.Time) LeafOption {
	return func(p *leafPlan) { p.cert.NotBefore, p.cert.NotAfter = from, to }
}

// KeyUsage gives the leaf another key usage; 0 leaves the extension out.
func KeyUsage(usage x509.KeyUsage) LeafOption {
	return func(p *leafPlan) { p.cert.KeyUsage = usage }
}

// Extension adds an extension to the leaf.
func Extension(ext pkix.Extension) LeafOption {
	return func(p *leafPlan) { p.extensions = append(p.extensions, ext) }
}

// CA says CA:true of the leaf.
func CA() LeafOption {
	return func(p *leafPlan) { p.cert.IsCA = true }
}

// P384 gives the leaf a key on P-384.
func P384() LeafOption {
	return func(p *leafPlan) { p.newKey = newECKey(elliptic.P384()) }
}

// RSA gives the leaf an RSA key of 2048 bits. Issued.LeafKey is nil then.
func RSA() LeafOption {
	return func(p *leafPlan) {
		p.newKey = func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }
	}
}

func newECKey(curve elliptic.Curve) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
}

// Leaf issues a leaf with a key of its own. Without options it is one that Apple
// could have issued.
func (a *Authority) Leaf(options ...LeafOption) (*Issued, error) {
	plan := leafPlan{
		cert:    template("mintmark simulated ecc-crypto-services-encipherment", a.now, leafYears),
		markers: []pkix.Extension{{Id: oidMarker, Critical: true, Value: asn1.NullBytes}},
		newKey:  newECKey(elliptic.P256()),
	}
	plan.cert.KeyUsage = x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	plan.cert.SignatureAlgorithm = x509.ECDSAWithSHA256
	for _, option := range options {
		option(&plan)
	}
	plan.cert.ExtraExtensions = append(plan.markers, plan.extensions...)
	key, err := plan.newKey()
	if err != nil {
		return nil, fmt.Errorf("make simulated leaf key: %w", err)
	}
	leaf, err := sign(plan.cert, a.Sub, key.Public(), a.subKey)
	if err != nil {
		return nil, fmt.Errorf("make simulated leaf: %w", err)
	}
	issued := &Issued{Root: a.Root, Sub: a.Sub, Leaf: leaf}
	issued.LeafKey, _ = key.(*ecdsa.PrivateKey)
	return issued, nil
}

// template is what all three certificates have in common.
func template(name string, now time.Time, years int) *x509.Certificate {
	from := now.Add(-backdate)
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"mintmark simulation, not Apple"}},
		NotBefore:             from,
		NotAfter:              from.AddDate(years, 0, 0),
		BasicConstraintsValid: true,
	}
}

// sign gives the template a random serial number of 63 bits, as long as Apple's, and
// signs it.
func sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, err
	}
	tmpl.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
