package passkit_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// A pass certificate comes from Apple alone, and does where the intermediate that issued it is
// known; of another it has to stand behind it.
func TestPassCertificateNeedsItsIntermediate(t *testing.T) {
	a := authority()
	leaf, intermediate := rsaSigner().Certificate, a.Intermediate
	apple := passkit.AppleIntermediates()
	for name, test := range map[string]struct {
		chain, known []*x509.Certificate
		roots        *x509.CertPool
		want         string
	}{
		"alone, of one that is known":           {[]*x509.Certificate{leaf}, []*x509.Certificate{intermediate}, nil, ""},
		"behind it":                             {[]*x509.Certificate{leaf, intermediate}, apple, nil, ""},
		"alone, of one that is not":             {[]*x509.Certificate{leaf}, apple, nil, "for want of its issuer, " + intermediate.Subject.String()},
		"another certificate, for another kind": {[]*x509.Certificate{intermediate}, apple, nil, "it names no pass type"},
		"below the root":                        {[]*x509.Certificate{leaf, intermediate}, apple, a.Roots(), ""},
		"below another root":                    {[]*x509.Certificate{leaf, intermediate}, apple, passkit.AppleRoots(), "the intermediate is not issued by a trusted root; get one from Apple"},
		"below another root of the same name":   {[]*x509.Certificate{leaf, intermediate}, apple, must(passtest.New(noon)).Roots(), "not issued by a trusted root"},
	} {
		err := passkit.CheckCertificates(test.chain, test.known, test.roots)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
