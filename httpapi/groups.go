package httpapi

import (
	"slices"

	"github.com/gin-gonic/gin"
)

// A Group is the routes that one role of the service serves, and on which TLS client
// certificates are treated alike.
type Group string

// The groups.
const (
	IssuerGroup   Group = "issuer"   // push provisioning: opens card data
	MerchantGroup Group = "merchant" // merchant JWTs and proximity tokens
	PassesGroup   Group = "passes"   // Wallet passes: their issuers, and devices
	KeysGroup     Group = "keys"     // public keys and certificates: for anybody, with every role
)

// groupOf is the group of each route, by its pattern. A route without one would be served
// to nobody.
var groupOf = map[string]Group{
	"/issuer/push-provisioning/signed-cards": IssuerGroup,
	"/v1/merchant-tokens":                    MerchantGroup,
	"/tokens/checkjwt":                       MerchantGroup,
	"/:sdkVersion/tokens/checkjwt":           MerchantGroup,
	"/apple/proximity-token":                 MerchantGroup,
	"/api/:tenantId/assets":                  PassesGroup,
	"/api/:tenantId/bundles":                 PassesGroup,

	"/api/:tenantId/pass-types/:passTypeIdentifier":           PassesGroup,
	"/api/:tenantId/passes/:passTypeIdentifier/:serialNumber": PassesGroup,

	"/api/:tenantId/passes/apple/:version/log":                                                                       PassesGroup,
	"/api/:tenantId/passes/apple/:version/passes/:passTypeIdentifier/:serialNumber":                                  PassesGroup,
	"/api/:tenantId/passes/apple/:version/passes/:passTypeIdentifier/:serialNumber/personalize":                      PassesGroup,
	"/api/:tenantId/passes/apple/:version/devices/:deviceIdentifier/registrations/:passTypeIdentifier":               PassesGroup,
	"/api/:tenantId/passes/apple/:version/devices/:deviceIdentifier/registrations/:passTypeIdentifier/:serialNumber": PassesGroup,

	"/.well-known/jwks.json":        KeysGroup,
	"/v1/keys/:kid/certificate.pem": KeysGroup,
}

// CertificateMode says what TLS client certificates are good for on a group's routes.
type CertificateMode string

// The modes.
const (
	CertificatesOff      CertificateMode = "off"     // they are not looked at
	CertificatesOptional CertificateMode = "request" // they count where one is sent
	CertificatesRequired CertificateMode = "require" // without one nobody is authenticated
)

// CertificateModes lists the modes.
func CertificateModes() []CertificateMode {
	return []CertificateMode{CertificatesOff, CertificatesOptional, CertificatesRequired}
}

// served hides the routes of roles that this listener does not have.
func (s *server) served(c *gin.Context) {
	if route := c.FullPath(); route != "" && !slices.Contains(s.cfg.Groups, groupOf[route]) {
		notFound.write(c)
	}
}
