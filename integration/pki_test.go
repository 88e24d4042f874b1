package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

// ca issues certificates for servers and clients.
type ca struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T, name string) *ca {
	t.Helper()
	c := &ca{t: t, key: newKey(t)}
	c.cert = certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, c.key, c.key)
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certify issues a certificate for the key of subject; without a parent it is self-signed.
func certify(t *testing.T, template, parent *x509.Certificate, subject, issuer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial := make([]byte, 15)
	_, _ = rand.Read(serial)
	template.SerialNumber = new(big.Int).SetBytes(serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, subject.Public(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// identity is a certificate with its key.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// server issues a certificate for 127.0.0.1 and localhost.
func (c *ca) server() identity {
	c.t.Helper()
	id := identity{key: newKey(c.t)}
	id.cert = certify(c.t, &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, c.cert, id.key, c.key)
	return id
}

// client issues a certificate for a URI.
func (c *ca) client(uri string) identity {
	c.t.Helper()
	name, err := url.Parse(uri)
	if err != nil {
		c.t.Fatal(err)
	}
	id := identity{key: newKey(c.t)}
	id.cert = certify(c.t, &x509.Certificate{
		URIs: []*url.URL{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, c.cert, id.key, c.key)
	return id
}

// selfSigned is a client's certificate of its own making.
func selfSigned(t *testing.T) identity {
	t.Helper()
	id := identity{key: newKey(t)}
	id.cert = certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pinned"}, KeyUsage: x509.KeyUsageDigitalSignature}, nil, id.key, id.key)
	return id
}

// tls is the identity as crypto/tls takes it.
func (id identity) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{id.cert.Raw}, PrivateKey: id.key, Leaf: id.cert}
}

// spki is the SHA-256 of its SubjectPublicKeyInfo, in hex.
func (id identity) spki() string {
	sum := sha256.Sum256(id.cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// pem gives the certificate and the private key.
func (id identity) pem(t *testing.T) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		t.Fatal(err)
	}
	return certificatePEM(id.cert), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func certificatePEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}
