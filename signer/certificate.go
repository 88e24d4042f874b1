package signer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// SelfSigned says what stands in a self-signed certificate.
type SelfSigned struct {
	Key       string // the keyring's name of the key
	Subject   pkix.Name
	DNSNames  []string // for TLS certificates
	NotBefore time.Time
	NotAfter  time.Time
}

// certified are the purposes whose keys may sign their own certificate.
var certified = []hsm.Purpose{hsm.MerchantJWT, hsm.ProximityToken, hsm.APITLS}

// SelfSign makes a self-signed certificate (RFC 5280) over a key's public half: the form
// in which partners ask for the key of merchant JWTs, and a start for TLS. It gives DER.
// The key must be active: one that is next or retired is a *hsm.KeyError.
func (g *Gate) SelfSign(ctx context.Context, t *record.Ticket, c SelfSigned) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.self-sign")
	defer at.End()
	var none record.Held[[]byte]
	if err := t.Use(record.CertifyKey, "certificate"); err != nil {
		return none, err
	}
	key, err := g.keys.Key(c.Key)
	if err != nil {
		return none, err
	}
	if !slices.Contains(certified, key.Purpose) {
		return none, fmt.Errorf("certify key %s: keys for %s have no certificate of their own making", c.Key, key.Purpose)
	}
	s, err := g.keys.Signer(ctx, c.Key)
	if err != nil {
		return none, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // RFC 5280, 4.1.2.2: at most 20 octets
	if err != nil {
		return none, fmt.Errorf("make serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      c.Subject,
		DNSNames:     c.DNSNames,
		NotBefore:    c.NotBefore,
		NotAfter:     c.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		// It signs no other certificate, its own signature apart.
		BasicConstraintsValid: true,
	}
	if len(c.DNSNames) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.Public(), s)
	if err != nil {
		return none, fmt.Errorf("certify key %s: %w", c.Key, err)
	}
	return record.Hold(t, "certificate", der, der), nil
}
