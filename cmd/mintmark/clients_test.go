package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/config"
)

// A CRL file and denied keys are read with the client that they are of; what is neither is
// refused by the name of its member.
func TestRevocationIsReadWithItsClient(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}},
	}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), "file.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	from := config.ClientCertificate{CAFile: write("CERTIFICATE", der), DNS: "desk.example", CRLFile: write("X509 CRL", list)}
	from.DeniedSPKISHA256 = []string{hex.EncodeToString(make([]byte, 32))}
	rule, err := loadCertificateRule(from)
	if err != nil {
		t.Fatal(err)
	}
	by := rule.Revocation
	if len(by.CRLs) != 1 || by.CRLs[0].RevokedCertificateEntries[0].SerialNumber.Int64() != 7 || len(by.Denied) != 1 {
		t.Errorf("read %+v", by)
	}
	for want, change := range map[string]func(*config.ClientCertificate){
		"crlFile: ":                    func(c *config.ClientCertificate) { c.CRLFile = c.CAFile },
		"crlFile: open":                func(c *config.ClientCertificate) { c.CRLFile = filepath.Join(t.TempDir(), "none") },
		"deniedSPKISHA256[0]: must be": func(c *config.ClientCertificate) { c.DeniedSPKISHA256 = []string{"00"} },
	} {
		wrong := from
		change(&wrong)
		if _, err := loadCertificateRule(wrong); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
