package httpapi

import (
	"net/http"
	"slices"
	"strings"

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
	KeysGroup     Group = "keys"     // public keys, certificates, checkpoints, the description: for anybody, with every role
)

// proximityPath is the one route whose errors are no problems.
const proximityPath = "/apple/proximity-token"

// groupOf is the group of each route, by its pattern. A route without one would be served
// to nobody.
var groupOf = map[string]Group{
	"/issuer/push-provisioning/signed-cards":    IssuerGroup,
	"/issuer/push-provisioning/activation-data": IssuerGroup,
	"/v1/cards/:externalCardId":                 IssuerGroup,
	"/v1/merchant-tokens":                       MerchantGroup,
	"/tokens/checkjwt":                          MerchantGroup,
	"/:sdkVersion/tokens/checkjwt":              MerchantGroup,
	proximityPath:                               MerchantGroup,
	"/api/:tenantId/assets":                     PassesGroup,
	"/api/:tenantId/bundles":                    PassesGroup,

	"/api/:tenantId/pass-types/:passTypeIdentifier":           PassesGroup,
	"/api/:tenantId/passes/:passTypeIdentifier/:serialNumber": PassesGroup,

	"/api/:tenantId/passes/apple/:version/log":                                                                       PassesGroup,
	"/api/:tenantId/passes/apple/:version/passes/:passTypeIdentifier/:serialNumber":                                  PassesGroup,
	"/api/:tenantId/passes/apple/:version/passes/:passTypeIdentifier/:serialNumber/personalize":                      PassesGroup,
	"/api/:tenantId/passes/apple/:version/devices/:deviceIdentifier/registrations/:passTypeIdentifier":               PassesGroup,
	"/api/:tenantId/passes/apple/:version/devices/:deviceIdentifier/registrations/:passTypeIdentifier/:serialNumber": PassesGroup,

	"/issuer/push-provisioning/tokens/searches":    IssuerGroup,
	"/issuer/push-provisioning/tokens/activations": IssuerGroup,
	"/issuer/push-provisioning/cards/searches":     IssuerGroup,
	"/v1/wallet-tokens/:tokenUniqueReference":      IssuerGroup,
	"/v1/enablement":                                   IssuerGroup,
	"/v1/provisioning-decisions":                       IssuerGroup,
	"/v1/one-time-passcodes":                           IssuerGroup,
	"/v1/one-time-passcodes/:passcodeId/verifications": IssuerGroup,

	"/.well-known/jwks.json":        KeysGroup,
	"/v1/keys/:kid/certificate.pem": KeysGroup,
	"/v1/audit/checkpoint":          KeysGroup,
	"/openapi.yaml":                 KeysGroup,
	"/openapi.json":                 KeysGroup,
}

// groupAt is the group of a pattern, the console's included.
func groupAt(pattern string) Group {
	if strings.HasPrefix(pattern, consolePath) {
		return ConsoleGroup
	}
	return groupOf[pattern]
}

// CertificateMode says what TLS client certificates are good for on a group's routes.
type CertificateMode string

// The modes.
const (
	CertificatesOff      CertificateMode = "off"     // they are not looked at
	CertificatesOptional CertificateMode = "request" // they count where one is sent
	CertificatesRequired CertificateMode = "require" // nobody is authenticated without one that the client's configuration or its token asks for
)

// register adds the routes of the groups that are served. Those of others are paths like any
// that nobody knows.
func (s *server) register(engine *gin.Engine) {
	described := newEngine()
	RegisterHandlersWithOptions(described, s, GinServerOptions{
		ErrorHandler: unboundParameter,
	})
	for _, r := range described.Routes() {
		if slices.Contains(s.cfg.Groups, groupOf[r.Path]) {
			engine.Handle(r.Method, r.Path, r.HandlerFunc)
			if r.Method == http.MethodGet { // RFC 9110, 9.1
				engine.HEAD(r.Path, r.HandlerFunc)
			}
		}
	}
}
