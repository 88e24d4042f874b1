package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// A pass certificate comes from Apple alone, and does where the intermediate that issued it is
// known here; of another it has to be in the file.
func TestPassCertificateNeedsItsIntermediate(t *testing.T) {
	authority, err := passtest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := authority.Signer(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, intermediate := s.Certificate, authority.Intermediate
	for name, test := range map[string]struct {
		chain, known []*x509.Certificate
		want         string
	}{
		"alone, of one that is known":           {[]*x509.Certificate{leaf}, []*x509.Certificate{intermediate}, ""},
		"behind it in the file":                 {[]*x509.Certificate{leaf, intermediate}, passkit.AppleIntermediates(), ""},
		"alone, of one that is not":             {[]*x509.Certificate{leaf}, passkit.AppleIntermediates(), "for want of its issuer, " + intermediate.Subject.String()},
		"another certificate, for another kind": {[]*x509.Certificate{intermediate}, passkit.AppleIntermediates(), "it names no pass type"},
	} {
		err := checkPassChain(test.chain, test.known)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
