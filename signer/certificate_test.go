package signer_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// selfSigned says what stands in a certificate for the key of a purpose.
func selfSigned(p hsm.Purpose) signer.SelfSigned {
	c := signer.SelfSigned{
		Key: string(p), Subject: pkix.Name{CommonName: "mint " + string(p), Organization: []string{"Bank"}},
		NotBefore: today.Add(-time.Hour), NotAfter: today.AddDate(2, 0, 0),
	}
	if p == hsm.APITLS {
		c.DNSNames = []string{"mint.example", "localhost"}
	}
	return c
}

func mustSelfSign(t testing.TB, gate *signer.Gate, c signer.SelfSigned) *x509.Certificate {
	t.Helper()
	tk := ticket(record.CertifyKey)
	held, err := gate.SelfSign(context.Background(), tk, c)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(release(t, tk, held))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// certify makes certificates for the keys of some purposes and opens the token with a
// keyring that names them.
func certify(t testing.TB, token *hsmtest.Token, purposes ...hsm.Purpose) {
	t.Helper()
	dir := t.TempDir()
	gate := signer.New(token.Token)
	for _, p := range purposes {
		cert := mustSelfSign(t, gate, selfSigned(p))
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if err := os.WriteFile(filepath.Join(dir, string(p)+".pem"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i, k := range ring.Keys {
			if slices.Contains(purposes, hsm.Purpose(k.Name)) {
				ring.Keys[i].Certificate = k.Name + ".pem"
			}
		}
		path := filepath.Join(dir, "keyring.yaml")
		if err := ring.Save(path); err != nil {
			t.Fatal(err)
		}
		loaded, err := hsm.LoadKeyring(path)
		if err != nil {
			t.Fatal(err)
		}
		ring.Keys = loaded.Keys
	})
}

func parsePEM(t testing.TB, text []byte) (certs []*x509.Certificate) {
	t.Helper()
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			t.Fatalf("no certificate in %q", rest)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	return certs
}

func TestCertificateSaysWhatWasAskedForAndNoMore(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	serials := map[string]bool{}
	for _, p := range []hsm.Purpose{hsm.MerchantJWT, hsm.ProximityToken, hsm.APITLS} {
		t.Run(string(p), func(t *testing.T) {
			want := selfSigned(p)
			cert := mustSelfSign(t, gate, want)
			pub, err := token.Public(string(p))
			if err != nil {
				t.Fatal(err)
			}
			if !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(cert.PublicKey) {
				t.Error("it is for another key")
			}
			if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
				t.Errorf("its signature: %v", err)
			}
			algorithm := map[bool]x509.SignatureAlgorithm{true: x509.SHA256WithRSA, false: x509.ECDSAWithSHA256}[isRSA(pub)]
			if cert.SignatureAlgorithm != algorithm || cert.Version != 3 {
				t.Errorf("version %d, %v", cert.Version, cert.SignatureAlgorithm)
			}
			if cert.Subject.CommonName != want.Subject.CommonName || cert.Issuer.String() != cert.Subject.String() {
				t.Errorf("subject %v, issuer %v", cert.Subject, cert.Issuer)
			}
			if !cert.NotBefore.Equal(want.NotBefore) || !cert.NotAfter.Equal(want.NotAfter) {
				t.Errorf("valid from %v to %v", cert.NotBefore, cert.NotAfter)
			}
			// It signs no other certificate, and serves TLS only if it has a name there.
			if cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("CA %v, usage %v", cert.IsCA, cert.KeyUsage)
			}
			var usage []x509.ExtKeyUsage
			if len(want.DNSNames) > 0 {
				usage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}
			if diff := cmp.Diff([]any{want.DNSNames, usage}, []any{cert.DNSNames, cert.ExtKeyUsage}); diff != "" {
				t.Errorf("names and extended usage: %s", diff)
			}
			if n := len(cert.SerialNumber.Bytes()); cert.SerialNumber.Sign() <= 0 || n > 20 || serials[cert.SerialNumber.String()] {
				t.Errorf("serial number %v", cert.SerialNumber)
			}
			serials[cert.SerialNumber.String()] = true
		})
	}
}

func isRSA(pub crypto.PublicKey) bool {
	_, ok := pub.(*rsa.PublicKey)
	return ok
}

func TestNoOtherKeyCertifiesItself(t *testing.T) {
	token := hsmtest.New(t,
		hsmtest.With(hsm.NewKey{Name: "jwt-next", Purpose: hsm.MerchantJWT, State: hsm.Next}),
		hsmtest.With(hsm.NewKey{Name: "jwt-old", Purpose: hsm.MerchantJWT, State: hsm.Retired}))
	gate := signer.New(token.Token)
	for name, tc := range map[string]struct {
		key     string
		problem hsm.KeyProblem // empty: it is the purpose
	}{
		"for cards' activation":  {string(hsm.TAVSigning), ""},
		"a secret key":           {string(hsm.CardVault), ""},
		"another secret key":     {string(hsm.CardIndex), ""},
		"one that is to come":    {"jwt-next", hsm.KeyNext},
		"one that is retired":    {"jwt-old", hsm.KeyRetired},
		"one that nobody listed": {"nobody", hsm.KeyNotListed},
		"one without a name":     {"", hsm.KeyNotListed},
	} {
		c := selfSigned(hsm.MerchantJWT)
		c.Key = tc.key
		held, err := gate.SelfSign(context.Background(), ticket(record.CertifyKey), c)
		var unusable *hsm.KeyError
		switch {
		case err == nil || held.Digest().SHA256 != "":
			t.Errorf("%s: certified, %v", name, err)
		case tc.problem == "" && !strings.Contains(err.Error(), "have no certificate of their own making"):
			t.Errorf("%s: %v", name, err)
		case tc.problem != "" && (!errors.As(err, &unusable) || unusable.Problem != tc.problem):
			t.Errorf("%s: %v, want %s", name, err, tc.problem)
		}
	}
	if token.Calls() != 0 {
		t.Errorf("the token was asked %d times", token.Calls())
	}
}

// x509 refuses a certificate before its key signs, and what it says names the key.
func TestCertificateThatCannotBeMadeIsAnError(t *testing.T) {
	token := hsmtest.New(t)
	c := selfSigned(hsm.APITLS)
	c.DNSNames = []string{"not an ascii name \u00e9"}
	held, err := signer.New(token.Token).SelfSign(context.Background(), ticket(record.CertifyKey), c)
	if err == nil || held.Digest().SHA256 != "" || !strings.HasPrefix(err.Error(), "certify key api-tls: ") {
		t.Errorf("%+v, %v", held.Digest(), err)
	}
	if token.Calls() != 0 {
		t.Errorf("the token was asked %d times", token.Calls())
	}
}
