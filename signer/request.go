package signer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// RequestFor says what stands in a request for a certificate.
type RequestFor struct {
	Key      string // the keyring's name of the key
	Subject  pkix.Name
	Email    string   // as rfc822Name; Apple's portal takes it, and ignores it
	DNSNames []string // for TLS certificates
}

// RequestCertificate makes a request for a certificate (PKCS#10, RFC 2986) over a key's
// public half, signed by the key in the token: proof that whoever asks has it. It gives DER.
// The key must be active; its signature has been verified as every one.
func (g *Gate) RequestCertificate(ctx context.Context, t *record.Ticket, r RequestFor) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.request-certificate")
	defer at.End()
	var none record.Held[[]byte]
	if err := t.Use(record.RequestCertificate, "request"); err != nil {
		return none, err
	}
	key, err := g.keys.Key(r.Key)
	if err != nil {
		return none, err
	}
	if !key.Purpose.Certified() {
		return none, fmt.Errorf("request certificate for %s: nobody certifies keys for %s", r.Key, key.Purpose)
	}
	s, err := g.keys.Signer(ctx, r.Key)
	if err != nil {
		return none, err
	}
	template := &x509.CertificateRequest{Subject: r.Subject, DNSNames: r.DNSNames}
	if r.Email != "" {
		template.EmailAddresses = []string{r.Email}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, s)
	if err != nil {
		return none, fmt.Errorf("request certificate for %s: %w", r.Key, err)
	}
	return record.Hold(t, "request", der, der), nil
}
