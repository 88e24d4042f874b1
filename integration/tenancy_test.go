package integration

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// newTenancy makes the service: clients, acquirers and cards of both.
func newTenancy(t *testing.T) (w *tenancy, a, b tenant) {
	t.Helper()
	s := newSite(t, hsm.TAVSigning, hsm.CardVault, hsm.CardIndex, hsm.MerchantJWT, hsm.ProximityToken, hsm.CardTransport, hsm.Passcode, hsm.ConnectorJWS)
	authority, certificates := newCA(t, "networks"), map[string]identity{}
	s.certificate(authority.server())
	s.write("networks.pem", certificatePEM(authority.cert))
	s.must("keys", "certify", "--name", "merchant-jwt", "--common-name", "mint", "--out", "mint.crt", "--write")
	s.passKeys("a", "b")
	a = tenant{name: "a", pan: "5204245250001488"}
	b = tenant{name: "b", pan: "5555555555554444"}
	for _, n := range []*tenant{&a, &b} {
		n.backend, n.merchant = newParty(t, "backend-"+n.name, sharedAudience), newParty(t, "merchant-"+n.name, sharedAudience)
		for _, p := range []*party{n.backend, n.merchant} {
			p.sub = "shared-user"
			s.write(p.iss+".pem", p.publicPEM())
		}
		certificates[n.network()] = authority.client("spiffe://network.example/" + n.name)
		n.merchant.claims = claims{"usr": "cashier", "mbn": "Shop " + n.name, "mcc": n.category(), "x-tid": n.terminal()}
	}
	s.configure(`
roles: [issuer, merchant, passes]
api:
  listen: "127.0.0.1:0"
  tls: {certificateFile: server.crt, keyFile: server.key, clientCertificates: {issuer: request}}
passes:
  publicURL: https://passes.example
  types:
    - {tenant: a, passTypeIdentifier: pass.shared-a, key: pass-a}
    - {tenant: b, passTypeIdentifier: pass.shared-b, key: pass-b}
  push: {disabled: true}
clients:` + a.clients() + b.clients() + `
merchant:
  audience: ` + sharedAudience + `
  audFingerprints: [` + fingerprint + `]
  issuers:
    - {tenant: a, issuer: mint-a, acquirer: acquirer-a}
    - {tenant: b, issuer: mint-b, acquirer: acquirer-b}
  acquirers:
    - {name: acquirer-a, terminalProfiles: [{appleTerminalProfileId: terminal-a}]}
    - {name: acquirer-b, terminalProfiles: [{appleTerminalProfileId: terminal-b}]}
  proximity:
    claims: {iat: $issuedAt, exp: $expiresAt, jti: $jwtId, acquirer: $acquirer, merchant: $claim.sub, terminalProfileId: $terminalProfileId}
`)
	s.write("mintmark.yaml", strings.Replace(readFile(t, filepath.Join(s.dir, "mintmark.yaml")), "pushProvisioning: {", `pushProvisioning: {
  connector: {mode: simulator, noticesFile: notices.jsonl},
  statements: [{tenant: a, kid: core, publicKeyFile: backend-a.pem}, {tenant: b, kid: core, publicKeyFile: backend-b.pem}],
  `, 1))
	s.storeCards(a, b)
	w = &tenancy{server: s.serve()}
	w.networks(authority, certificates)
	w.jwks = w.server.jwks()
	apple := filepath.Join(s.dir, "apple")
	w.info.Apple.LeafCert, w.info.Apple.SubCert = filepath.Join(apple, "apple-leaf.pem"), filepath.Join(apple, "apple-sub.pem")
	w.apple = s.apple
	return w, a, b
}

// clients are the tenant's in the configuration.
func (n tenant) clients() string {
	return strings.NewReplacer("$T", n.name, "$AUD", sharedAudience, "$MCC", n.category()).Replace(`
  - issuer: backend-$T
    tenant: $T
    audience: $AUD
    keys: [{kid: backend-$T-1, publicKeyFile: backend-$T.pem}]
    rights: [signCards, signMerchantTokens, manageCards, readCards, createActivationData, managePasses, searchTokens, activateTokens, searchCards, {right: manageWalletTokens, anyOwner: true}, readEnablement, decideProvisioning, sendPasscodes, verifyPasscodes]
    merchantTokens: {subjects: [shared-user, $T-*], audiences: [$AUD, kernel-$T], businessNames: [Shop $T], categoryCodes: ["$MCC"]}
  - issuer: merchant-$T
    tenant: $T
    audience: $AUD
    keys: [{kid: merchant-$T-1, publicKeyFile: merchant-$T.pem}]
    rights: [createAppleProximityToken]
    acquirer: acquirer-$T
  - issuer: network-$T
    tenant: $T
    certificate: {caFile: networks.pem, uri: "spiffe://network.example/$T"}
    rights: [{right: decideProvisioning, anyOwner: true}, {right: verifyPasscodes, anyOwner: true}]`)
}

// storeCards puts two cards of each tenant into the vault, as an import would: the keys are
// in the token, and the service is not running.
func (s *site) storeCards(tenants ...tenant) {
	s.t.Helper()
	s.t.Setenv("SOFTHSM2_CONF", s.token.ConfigFile)
	ctx := context.Background()
	ring, err := hsm.LoadKeyring(filepath.Join(s.dir, "keyring.yaml"))
	s.check(err)
	token, err := hsm.Open(ctx, hsm.Config{
		Name: "hsm-a", Module: s.token.Module, TokenLabel: s.token.Label, PINFile: s.token.PINFile,
		Keyring: ring, Log: slog.New(slog.DiscardHandler), CallTimeout: keyWithin,
	})
	s.check(err)
	db, err := store.Open(ctx, filepath.Join(s.dir, "mintmark.db"), "test")
	s.check(err)
	anchor, err := provisioning.TestAnchor(s.apple.RootPEM())
	s.check(err)
	vault, err := provisioning.New(provisioning.Config{
		Chain: provisioning.NewChainPolicy(anchor, time.Now), Recorder: audit.New(db, time.Now), Gate: signer.New(token), Cards: db, Decisions: db, Verified: db, Tokens: db, Flags: db,
		Now: time.Now, Lease: time.Minute, TAV: provisioning.TAVConfig{Version: signer.TAVv3, Validity: time.Minute},
	})
	s.check(err)
	for _, n := range tenants {
		who := provisioning.Caller{Owner: provisioning.Owner{Tenant: n.name, Issuer: n.backend.iss, Subject: n.backend.sub}}
		for _, name := range []string{n.card(), both} {
			pan, err := secret.ParsePAN([]byte(n.pan))
			s.check(err)
			_, err = vault.StoreCard(ctx, who, name, provisioning.Card{
				PAN: pan, Expiration: secret.NewText("12/49"), Name: secret.NewText("Holder"), Product: "mastercard",
			})
			s.check(err)
		}
	}
	s.check(db.Close())
	s.check(token.Close(ctx))
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// newRequest is a valid request with a fresh nonce.
func (w *tenancy) newRequest() request { return w.requestFor(both) }

// openedPAN is what Apple finds in a sealed card.
func (w *tenancy) openedPAN(t *testing.T, a answer) string {
	t.Helper()
	var out struct{ EphemeralPublicKey, EncryptedData []byte }
	a.into(t, &out)
	clear, err := w.apple.Open(out.EphemeralPublicKey, out.EncryptedData)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, clear)["primaryAccountNumber"].(string)
}

// thumbprint is the RFC 7638 one of the party's key.
func (p *party) thumbprint() string {
	sum, err := signer.KeyID(p.key.Public())
	if err != nil {
		p.t.Fatal(err)
	}
	return sum
}
