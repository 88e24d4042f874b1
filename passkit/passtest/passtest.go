// Package passtest is Apple's side of pass signing, simulated, and passes to sign. Tests
// use it, and development mode, which has no certificate of Apple's:
//
//	authority, err := passtest.New(time.Now())
//	signer, err := authority.Signer(key)             // key: any crypto.Signer
//	bundle, err := passtest.Bundle(passkit.EventTicket)
//	pkpass, err := bundle.Sign(signer, time.Now())
//	signed, err := passkit.Open(pkpass)
//	report := passkit.Verify(signed, passkit.VerifyOptions{Roots: authority.Roots()})
//
// The chain has the shape of Apple's: an RSA root, an RSA intermediate that may issue
// leaves only, and a leaf that names a pass type as subject UID and in the extension
// 1.2.840.113635.100.6.1.16 and a team as OU, with the extended key usages clientAuth and
// 1.2.840.113635.100.4.14. All names say that they are simulated. Each option makes one
// thing different, so that a check can be shown to find it.
//
// Keys of root and intermediate are in memory and nowhere else. No device accepts what
// is signed below them.
package passtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/big"
	"time"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
)

// The identifiers of leaves and bundles unless an option says otherwise.
const (
	PassType = passkit.TemplatePassType
	Team     = passkit.TemplateTeam
)

var (
	oidUserID   = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidPassType = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 1, 16}
	oidNFC      = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 1, 26}
	oidPassEKU  = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 4, 14}
)

// How long certificates last, as Apple's do; all begin an hour before now.
const (
	rootDays         = 20 * 365
	intermediateDays = 10 * 365
	leafDays         = 395
	backdate         = time.Hour
)

// An Authority is a simulated root and intermediate.
type Authority struct {
	Root         *x509.Certificate // RSA-2048
	Intermediate *x509.Certificate // RSA-2048

	now time.Time
	key crypto.Signer // the intermediate's
}

// An Option makes one thing about the intermediate different.
type Option func(intermediate *x509.Certificate)

// IntermediateValid gives the intermediate other dates.
func IntermediateValid(from, to time.Time) Option {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

// New makes an authority whose certificates are valid at now. Every call makes new
// keys under the same names.
func New(now time.Time, options ...Option) (*Authority, error) {
	root := template("mintmark simulated Apple Root CA", now, rootDays)
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	intermediate := template("mintmark simulated WWDR CA", now, intermediateDays)
	intermediate.IsCA, intermediate.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	intermediate.MaxPathLenZero = true
	for _, option := range options {
		option(intermediate)
	}
	rootKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make simulated root key: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make simulated intermediate key: %w", err)
	}
	a := &Authority{now: now, key: key}
	if a.Root, err = sign(root, root, rootKey.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("make simulated root: %w", err)
	}
	if a.Intermediate, err = sign(intermediate, a.Root, key.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("make simulated intermediate: %w", err)
	}
	return a, nil
}

// Roots is a pool with the root.
func (a *Authority) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Root)
	return pool
}

// A LeafOption makes one thing about a leaf different.
type LeafOption func(*leafPlan)

// leafPlan is a leaf before it is signed.
type leafPlan struct {
	cert                   *x509.Certificate
	passType, team, marker string
	nfc                    bool
}

// For names another pass type and team.
func For(passType, team string) LeafOption {
	return func(p *leafPlan) { p.passType, p.team, p.marker = passType, team, passType }
}

// Marker names another pass type in the extension; empty leaves the extension out.
func Marker(passType string) LeafOption {
	return func(p *leafPlan) { p.marker = passType }
}

// NFC adds the extension that allows nfc.
func NFC() LeafOption {
	return func(p *leafPlan) { p.nfc = true }
}

// Valid gives the leaf other dates.
func Valid(from, to time.Time) LeafOption {
	return func(p *leafPlan) { p.cert.NotBefore, p.cert.NotAfter = from, to }
}

// NotForPasses leaves the extended key usage for passes out.
func NotForPasses() LeafOption {
	return func(p *leafPlan) { p.cert.UnknownExtKeyUsage = nil }
}

// Leaf issues a pass certificate for a public key, RSA or EC. Without options it is one
// that Apple could have issued for PassType and Team.
func (a *Authority) Leaf(pub crypto.PublicKey, options ...LeafOption) (*x509.Certificate, error) {
	plan := leafPlan{cert: template("", a.now, leafDays), passType: PassType, team: Team, marker: PassType}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("make simulated leaf: %w", err)
	}
	keyID := sha1.Sum(spki)
	plan.cert.SubjectKeyId = keyID[:]
	plan.cert.KeyUsage = x509.KeyUsageDigitalSignature
	plan.cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	plan.cert.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidPassEKU}
	for _, option := range options {
		option(&plan)
	}
	plan.cert.Subject = pkix.Name{
		CommonName:         "Pass Type ID: " + plan.passType,
		OrganizationalUnit: []string{plan.team},
		Organization:       []string{"mintmark simulation, not Apple"},
		ExtraNames:         []pkix.AttributeTypeAndValue{{Type: oidUserID, Value: plan.passType}},
	}
	if plan.marker != "" {
		value, err := asn1.MarshalWithParams(plan.marker, "utf8")
		if err != nil {
			return nil, fmt.Errorf("make simulated leaf: %w", err)
		}
		plan.cert.ExtraExtensions = append(plan.cert.ExtraExtensions, pkix.Extension{Id: oidPassType, Value: value})
	}
	if plan.nfc {
		plan.cert.ExtraExtensions = append(plan.cert.ExtraExtensions, pkix.Extension{Id: oidNFC, Value: asn1.NullBytes})
	}
	leaf, err := sign(plan.cert, a.Intermediate, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("make simulated leaf: %w", err)
	}
	return leaf, nil
}

// Signer issues a leaf for the key and puts the three together.
func (a *Authority) Signer(key crypto.Signer, options ...LeafOption) (cms.Signer, error) {
	leaf, err := a.Leaf(key.Public(), options...)
	if err != nil {
		return cms.Signer{}, err
	}
	return cms.Signer{Key: key, Certificate: leaf, Intermediates: []*x509.Certificate{a.Intermediate}}, nil
}

func template(name string, now time.Time, days int) *x509.Certificate {
	from := now.Add(-backdate).UTC()
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"mintmark simulation, not Apple"}},
		NotBefore:             from,
		NotAfter:              from.AddDate(0, 0, days),
		BasicConstraintsValid: true,
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}
}

// sign gives the template a random serial number of 63 bits and signs it.
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

// Bundle is a small valid pass of a style, unsigned, for PassType and Team.
func Bundle(s passkit.Style) (*passkit.Bundle, error) { return passkit.NewTemplate(s) }

// PNG is a valid image of one colour.
func PNG(width, height int) ([]byte, error) {
	img := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.NRGBA{200, 40, 40, 255}})
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("draw image: %w", err)
	}
	return out.Bytes(), nil
}

// ReaderKey is the encryptionPublicKey of a new reader for nfc, whose private key is
// thrown away.
func ReaderKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make reader key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("make reader key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}
