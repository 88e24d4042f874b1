package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/signer"
)

// PublicKeys gives what others need to verify what is signed here; *signer.Gate is it. An
// error with RetryAfter says that the keys are not known yet.
type PublicKeys interface {
	// JWKS gives the JWK set in JSON.
	JWKS(now time.Time) ([]byte, error)
	// Certificate gives a key's certificate chain in PEM, or signer.ErrUnknownKey.
	Certificate(kid string, now time.Time) ([]byte, error)
}

var _ PublicKeys = (*signer.Gate)(nil)

// keysMaxAge is how long public keys may be kept. A key to come should be published for
// longer than that before it signs; docs/clients.md says so to the operator.
const keysMaxAge = "public, max-age=300"

// GetJWKS is GET /.well-known/jwks.json.
func (s *server) GetJWKS(c *gin.Context) {
	set, err := s.cfg.Keys.JWKS(s.cfg.Now())
	if err != nil {
		s.fail(c, err)
		return
	}
	sum := sha256.Sum256(set)
	c.Header("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	c.Header("Content-Type", "application/jwk-set+json")
	c.Header("Cache-Control", keysMaxAge)
	// A set is given whole or not at all.
	c.Request.Header.Del("Range")
	c.Request.Header.Del("If-Match")
	http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(set))
}

// GetKeyCertificate is GET /v1/keys/{kid}/certificate.pem.
func (s *server) GetKeyCertificate(c *gin.Context, kid string) {
	chain, err := s.cfg.Keys.Certificate(kid, s.cfg.Now())
	if errors.Is(err, signer.ErrUnknownKey) {
		problem{status: http.StatusNotFound, name: "unknown-key", title: "Unknown key",
			detail: "No published key has this kid, or it has no certificate."}.write(c)
		return
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Cache-Control", keysMaxAge)
	c.Data(http.StatusOK, "application/pem-certificate-chain", chain)
}
