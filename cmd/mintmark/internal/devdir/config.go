package devdir

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mintmark/mintmark/hsm"
)

// WriteConfig writes the configuration of a development server that listens on the two
// addresses. It is written anew at each start: set what you want to try through the
// environment (MINTMARK_LOG_LEVEL=debug), or copy the file and run mintmark serve.
func (d *Dir) WriteConfig(api, admin string) error {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	q := strconv.Quote // a Go string literal is a YAML double-quoted scalar for these texts
	line("# Written by mintmark dev at each start. Not for production.")
	line("environment: %s", Environment)
	line("api:")
	line("  listen: %s", q(api))
	line("admin:")
	line("  listen: %s", q(admin))
	line("console: {enabled: true}")
	line("hsm:")
	line("  environment:")
	line("    SOFTHSM2_CONF: %s", q(d.Token.ConfigFile))
	line("  members:")
	line("    - name: %s", Member)
	line("      module: %s", q(d.Module))
	line("      tokenLabel: %s", q(d.Token.Label))
	line("      tokenSerial: %s", q(d.Token.Serial))
	line("      pinFile: %s", q(d.Token.PINFile))
	line("keyring: keyring.yaml")
	line("store:")
	line("  sqlite: mintmark.db")
	line("roles: [issuer, merchant, passes]")
	line("clients:")
	client := func(c ClientName) {
		line("  - issuer: %s", q(c.Issuer))
		line("    tenant: %s", q(Tenant))
		line("    audience: %s", q(Audience))
		line("    rateLimit: {perSecond: -1}")
		line("    keys:")
		line("      - kid: %s", q(c.KeyID))
		line("        publicKeyFile: %s", q(d.clientPublicKey(c)))
	}
	client(IssuerClient)
	line("    rights: [signCards, createActivationData, manageCards, readCards, signMerchantTokens, managePasses, decideProvisioning, sendPasscodes, verifyPasscodes, manageWalletTokens, searchTokens, activateTokens, searchCards, readEnablement]")
	line("    merchantTokens:")
	line("      {subjects: [\"*\"], audiences: [\"*\"], businessNames: [\"*\"], categoryCodes: [\"*\"], dailyQuota: -1}")
	client(MerchantClient)
	line("    rights: [createAppleProximityToken]")
	line("    acquirer: %s", q(Acquirer))
	line("merchant:")
	line("  audience: %s", q(Audience))
	line("  issuers:")
	line("    - {tenant: %s, issuer: %s, acquirer: %s, rateLimit: {perSecond: -1}}", q(Tenant), q(MerchantIssuer), q(Acquirer))
	line("  acquirers:")
	line("    - name: %s", q(Acquirer))
	line("      terminalProfiles: [{appleTerminalProfileId: %s}]", q(TerminalProfile))
	line("  proximity: {issuer: %s}", q(MerchantIssuer))
	line("passes:")
	line("  types:")
	line("    - {tenant: %s, passTypeIdentifier: %s, key: %s}", q(Tenant), q(PassType), q("dev-"+string(hsm.Pass)))
	line("  push:")
	line("    disabled: true # MINTMARK_PASSES_PUSH_DISABLED=false, with ..._HOST and ..._CA_FILE of a simulation")
	line("pushProvisioning:")
	line("  testRootFile: %s", q(d.AppleFiles().RootCert))
	line("  connector: {mode: simulator, noticesFile: %s}", q(d.path(noticesFile)))
	line("  statements:")
	line("    - {tenant: %s, kid: %s, publicKeyFile: %s}", q(Tenant), q(IssuerClient.KeyID), q(d.clientPublicKey(IssuerClient)))
	b.WriteString(strings.TrimPrefix(products, "\n"))
	line("log:")
	line("  format: text")
	return writeFile(d.Config(), []byte(b.String()))
}
