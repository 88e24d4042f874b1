package access

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// checkBinding holds a token against the connection it came over: the certificate
// that cnf names (RFC 8705, 3), and the one that the client must have.
func (c *client) checkBinding(cnf jsontext.Value, chain []*x509.Certificate, now time.Time, t *trace) error {
	if c.isBound(cnf) {
		if err := t.step("binding", checkConfirmation(cnf, chain), "cnf is %s; the connection has %d certificates", presence(cnf), len(chain)); err != nil {
			return err
		}
	}
	if c.certificate == nil {
		return nil
	}
	var reason Reason = ReasonNoCertificate
	if len(chain) > 0 {
		reason = c.certificate.match(present(chain), now)
	}
	return t.step("certificate", must(reason == "", reason), "the client's tokens must come with %s", c.certificate)
}

// isBound reports whether a token is bound to a certificate, or has to be.
func (c *client) isBound(cnf jsontext.Value) bool { return cnf != nil || c.BoundTokens }

// checkConfirmation holds the cnf claim (RFC 7800, 3.1) against the certificate of the
// connection. It must be x5t#S256 (RFC 8705, 3.1) and nothing else: a member that is
// not understood may be a condition that is not met.
func checkConfirmation(cnf jsontext.Value, chain []*x509.Certificate) error {
	var confirmation struct {
		Thumbprint *string `json:"x5t#S256"`
	}
	if cnf.Kind() != '{' || json.Unmarshal(cnf, &confirmation, json.RejectUnknownMembers(true)) != nil || confirmation.Thumbprint == nil {
		return refuse(ReasonConfirmation)
	}
	if len(chain) == 0 {
		return refuse(ReasonNoCertificate)
	}
	sum := sha256.Sum256(chain[0].Raw)
	return must(*confirmation.Thumbprint == base64.RawURLEncoding.EncodeToString(sum[:]), ReasonBinding)
}

func presence(v jsontext.Value) string {
	if v == nil {
		return "absent"
	}
	return "there"
}
