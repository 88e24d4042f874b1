package integration

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"testing"
)

// certified is a site whose clients have certificates, or tokens, or both.
type certified struct {
	*site
	authority        *ca
	app, bound, both *party

	partner   identity // the certificate that one client is known by
	neighbour identity // another one of the same CA
	bothAt    identity // the one that tokens of both must come with
	pinned    identity // self-signed, known by its key
	stranger  identity // the partner's name under another CA
}

func newCertified(t *testing.T) *certified {
	t.Helper()
	c := &certified{authority: newCA(t, "server CA"), bound: newParty(t, "bound", sharedAudience), both: newParty(t, "both", sharedAudience), pinned: selfSigned(t)}
	c.site, c.app = tlsSite(t, c.authority)
	for _, p := range []*party{c.bound, c.both} {
		p.claims = c.app.claims
		c.write(p.iss+".pem", p.publicPEM())
	}
	theirs := newCA(t, "partner CA")
	c.write("partner-ca.pem", certificatePEM(theirs.cert))
	c.partner = theirs.client("spiffe://partner.example/backend")
	c.neighbour = theirs.client("spiffe://partner.example/other")
	c.bothAt = theirs.client("spiffe://partner.example/both")
	c.stranger = newCA(t, "another CA").client("spiffe://partner.example/backend")
	return c
}

// configuration has one listener, which treats certificates by role.
func (c *certified) configuration(issuer, merchant string) string {
	return `
roles: [issuer, merchant]
api:
  listen: "127.0.0.1:0"
  tls: {certificateFile: server.crt, keyFile: server.key, clientCertificates: {issuer: ` + issuer + `, merchant: ` + merchant + `}}
` + tokenClient + `
  - issuer: partner
    tenant: partner-tenant
    certificate: {caFile: partner-ca.pem, uri: "spiffe://partner.example/backend"}
    rights: [signCards, signMerchantTokens]
    merchantTokens: {subjects: [partner-shop]}
  - issuer: pinned
    tenant: pinned-tenant
    certificate: {spkiSHA256: [` + c.pinned.spki() + `]}
  - issuer: bound
    tenant: bound-tenant
    audience: ` + sharedAudience + `
    keys: [{kid: bound-1, publicKeyFile: bound.pem}]
    boundTokens: true
  - issuer: both
    tenant: both-tenant
    audience: ` + sharedAudience + `
    keys: [{kid: both-1, publicKeyFile: both.pem}]
    certificate: {caFile: partner-ca.pem, uri: "spiffe://partner.example/both"}
`
}

// confirmed is a token that is bound to a certificate (RFC 8705, 3.1).
func (c *certified) confirmed(p *party, to identity) string {
	sum := sha256.Sum256(to.cert.Raw)
	return p.token(claims{"cnf": claims{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}})
}

// forwarded are the headers in which gateways pass on a certificate.
func (c *certified) forwarded() http.Header {
	h := http.Header{}
	for _, name := range []string{"X-Forwarded-Client-Cert", "X-Client-Cert", "X-SSL-Client-Cert", "SSL-Client-Cert", "X-Amzn-Mtls-Clientcert", "Client-Cert"} {
		h.Set(name, ":"+base64.StdEncoding.EncodeToString(c.partner.cert.Raw)+":")
	}
	return h
}

// by is a caller: what it proves itself with, or tries to.
type by struct {
	certificate *identity
	token       string
	header      http.Header
}

// expectation is what a caller gets: of checkjwt, of the role merchant, the reason of its
// 401, or ok; of signed-cards, of the role issuer, the status.
type expectation struct {
	caller by
	check  string
	cards  int
}

// treatment is how certificates are treated, and what becomes of callers.
type treatment struct {
	issuer, merchant string
	want             map[string]expectation
}

func (c *certified) treatments() map[string]treatment {
	forwarded := c.forwarded()
	return map[string]treatment{
		"request": {"request", "request", map[string]expectation{
			"nothing":                            {by{}, "missing", 401},
			"token":                              {by{token: c.app.token(nil)}, "ok", 403},
			"token and a certificate of no one":  {by{token: c.app.token(nil), certificate: &c.stranger}, "ok", 403},
			"partner":                            {by{certificate: &c.partner}, "missing", 400},
			"another name of the partner's CA":   {by{certificate: &c.neighbour}, "unknown-certificate", 401},
			"the name under another CA":          {by{certificate: &c.stranger}, "unknown-certificate", 401},
			"pinned key":                         {by{certificate: &c.pinned}, "missing", 403},
			"forwarded certificate":              {by{header: forwarded}, "missing", 401},
			"forwarded certificate and a token":  {by{header: forwarded, token: c.confirmed(c.bound, c.partner)}, "no-certificate", 401},
			"bound token, its connection":        {by{token: c.confirmed(c.bound, c.partner), certificate: &c.partner}, "ok", 403},
			"bound token, another connection":    {by{token: c.confirmed(c.bound, c.partner), certificate: &c.pinned}, "binding", 401},
			"bound token, no certificate":        {by{token: c.confirmed(c.bound, c.partner)}, "no-certificate", 401},
			"bound client, token not bound":      {by{token: c.bound.token(nil), certificate: &c.partner}, "confirmation", 401},
			"free client, bound token, right":    {by{token: c.confirmed(c.app, c.neighbour), certificate: &c.neighbour}, "ok", 403},
			"free client, bound token, wrong":    {by{token: c.confirmed(c.app, c.neighbour), certificate: &c.partner}, "binding", 401},
			"both, token and certificate":        {by{token: c.both.token(nil), certificate: &c.bothAt}, "ok", 403},
			"both, token alone":                  {by{token: c.both.token(nil)}, "no-certificate", 401},
			"both, certificate alone":            {by{certificate: &c.bothAt}, "missing", 401},
			"both, token and the partner's cert": {by{token: c.both.token(nil), certificate: &c.partner}, "unknown-certificate", 401},
		}},
		"require for issuer, off for merchant": {"require", "off", map[string]expectation{
			"token":                              {by{token: c.app.token(nil)}, "ok", 401},
			"token and a certificate of no one":  {by{token: c.app.token(nil), certificate: &c.stranger}, "ok", 401},
			"token bound to a certificate":       {by{token: c.confirmed(c.app, c.stranger), certificate: &c.stranger}, "no-certificate", 403},
			"both, token and certificate":        {by{token: c.both.token(nil), certificate: &c.bothAt}, "no-certificate", 403},
			"partner":                            {by{certificate: &c.partner}, "missing", 400},
			"forwarded certificate and a token":  {by{header: forwarded, token: c.app.token(nil)}, "ok", 401},
			"forwarded certificate and no token": {by{header: forwarded}, "missing", 401},
		}},
		"off for issuer, require for merchant": {"off", "require", map[string]expectation{
			"token":                             {by{token: c.app.token(nil)}, "no-certificate", 403},
			"token and a certificate of no one": {by{token: c.app.token(nil), certificate: &c.stranger}, "unknown-certificate", 403},
			"token bound to a certificate":      {by{token: c.confirmed(c.app, c.stranger), certificate: &c.stranger}, "ok", 401},
			"both, token and certificate":       {by{token: c.both.token(nil), certificate: &c.bothAt}, "ok", 401},
			"partner":                           {by{certificate: &c.partner}, "missing", 401},
		}},
	}
}

// Callers' certificates, by role: what off, request and require mean, whose a certificate
// is, and that a bound token is good on its own connection only.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	for name, tt := range c.treatments() {
		t.Run(name, func(t *testing.T) {
			on := *c.site
			on.t = t
			f := behind(&on, c.authority.cert, c.configuration(tt.issuer, tt.merchant))
			for who, want := range tt.want {
				f.testCaller(who, want)
			}
			f.testPartnerTenant(c.partner, tt.merchant != "off")
		})
	}
}

func (f *front) testCaller(who string, want expectation) {
	f.t.Helper()
	var certificates []tls.Certificate
	if want.caller.certificate != nil {
		certificates = append(certificates, want.caller.certificate.tls())
	}
	with := f.client(nil, certificates...)
	a, err := f.check("api", with, want.caller.token, want.caller.header)
	got, _ := a.refusal()
	if a.status == 200 {
		got = "ok"
	}
	if err != nil || got != want.check {
		f.t.Errorf("%s: checkjwt answers %d %q instead of %q (%v): %s", who, a.status, got, want.check, err, a.body)
	}
	a, err = call{
		method: http.MethodPost, url: "https://" + f.address("api") + "/issuer/push-provisioning/signed-cards",
		token: want.caller.token, header: want.caller.header, body: request{},
	}.by(with)
	if err != nil || a.status != want.cards {
		f.t.Errorf("%s: signed-cards answers %d instead of %d (%v): %s", who, a.status, want.cards, err, a.body)
	}
}

// testPartnerTenant has the partner ask for what its own configuration does not allow: it
// is known by its certificate alone, where that is looked at, and on record.
func (f *front) testPartnerTenant(partner identity, known bool) {
	const recorded = `SELECT COUNT(*) FROM audit_entries WHERE tenant = 'partner-tenant' AND instr(body, '"sub":"spiffe://partner.example/backend"') > 0`
	before := f.count(recorded)
	a, err := call{
		method: http.MethodPost, url: "https://" + f.address("api") + "/v1/merchant-tokens",
		body: request{"sub": "another-shop", "usr": "u", "aud": "a"},
	}.by(f.client(nil, partner.tls()))
	if err != nil {
		f.t.Fatal(err)
	}
	reason, _ := a.refusal()
	if known && (a.status != 403 || reason != "sub") || !known && a.status != 401 {
		f.t.Errorf("the partner is answered %d: %s", a.status, a.body)
	}
	if n := f.count(recorded) - before; (n == 1) != known {
		f.t.Errorf("%d entries are of the partner under its tenant and its name", n)
	}
}
