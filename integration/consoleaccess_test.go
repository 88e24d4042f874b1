package integration

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/hsm"
)

// consolePaths are the console's pages on the development server, and what can be downloaded
// from them.
func (s *server) consolePaths() []string {
	return []string{
		"/console/", "/console/keys", "/console/keys/dev-card-vault", "/console/activity", "/console/log", "/console/log?kind=operation", "/console/log/3",
		"/console/log/3/proof", "/console/log/3/line", "/console/checkpoint", "/console/changes", "/console/report", "/console/lookup",
		"/console/lookup?kind=card&tenant=dev&reference=" + s.info.Cards[0].ExternalCardID,
	}
}

// addConsole adds every page of the console to what was answered, and what it says to card
// numbers where people might type them.
func (s *server) addConsole(answers map[string][]byte) {
	s.t.Helper()
	for _, path := range s.consolePaths() {
		a := s.get(s.info.AdminURL + path)
		if a.status != http.StatusOK {
			s.t.Errorf("%s answered %d", path, a.status)
		}
		answers["console, "+path] = a.body
	}
	const pan = "5204245250001488"
	for _, path := range []string{
		"/console/log?ref=" + pan, "/console/log/" + pan, "/console/keys/" + pan, "/console/" + pan, "/console/lookup?kind=card&tenant=dev&reference=" + pan,
		"/console/lookup?kind=token&tenant=" + pan + "&reference=" + pan, "/console/lookup?kind=pass&tenant=dev&type=" + pan + "&reference=x",
	} {
		answers["console, typed into "+strings.ReplaceAll(path, pan, "PAN")] = s.get(s.info.AdminURL + path).body
	}
}

// Outside development the console is for clients with the right viewConsole: by token on the
// admin listener, by certificate on its own. Who is refused is on record.
func TestConsoleOutsideDevelopment(t *testing.T) {
	t.Parallel()
	authority, people := newCA(t, "server CA"), newCA(t, "people CA")
	s, app := tlsSite(t, authority, hsm.MerchantJWT, hsm.AuditCheckpoint)
	s.write("people.pem", certificatePEM(people.cert))
	operator := newParty(t, "operator", sharedAudience)
	s.write("operator.pem", operator.publicPEM())
	ada, eve := people.client("spiffe://people/ada"), people.client("spiffe://people/eve")
	srv := behind(s, authority.cert, `
roles: [merchant]
api: {listen: "127.0.0.1:0"}
console:
  enabled: true
  hosts: [console.example]
  listener:
    listen: "127.0.0.1:0"
    tls: {certificateFile: server.crt, keyFile: server.key}
clients:
  - {issuer: app, tenant: a, audience: `+sharedAudience+`, keys: [{kid: app-1, publicKeyFile: app.pem}]}
  - {issuer: operator, tenant: ops, audience: `+sharedAudience+`, keys: [{kid: operator-1, publicKeyFile: operator.pem}], rights: [viewConsole]}
  - {issuer: ada, tenant: ops, certificate: {caFile: people.pem, uri: "spiffe://people/ada"}, rights: [viewConsole]}
  - {issuer: eve, tenant: ops, certificate: {caFile: people.pem, uri: "spiffe://people/eve"}}
`)
	own := "https://" + srv.address("console.listener")
	for name, c := range map[string]struct {
		base, token, host string
		by                *identity
		status            int
	}{
		"nobody, on the admin listener":                {srv.info.AdminURL, "", "", nil, 401},
		"a client without the right":                   {srv.info.AdminURL, app.token(nil), "", nil, 403},
		"a client with the right":                      {srv.info.AdminURL, operator.token(nil), "", nil, 200},
		"a name that is configured":                    {srv.info.AdminURL, operator.token(nil), "console.example:9090", nil, 200},
		"a name that is not":                           {srv.info.AdminURL, operator.token(nil), "evil.example", nil, 421},
		"nobody, on its own listener":                  {own, "", "", nil, 401},
		"a token alone, where certificates are needed": {own, operator.token(nil), "", nil, 401},
		"a person with the right":                      {own, "", "", &ada, 200},
		"a person without it":                          {own, "", "", &eve, 403},
		"a person with the right, by another name":     {own, "", "evil.example", &ada, 421},
	} {
		req, err := http.NewRequest(http.MethodGet, c.base+"/console/log", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		var certificates []tls.Certificate
		if c.by != nil {
			certificates = append(certificates, c.by.tls())
		}
		resp, err := srv.client(nil, certificates...).Do(req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a, err := read(resp)
		if err != nil || a.status != c.status || (c.status == 200) != strings.Contains(string(a.body), "lifecycle") {
			t.Errorf("%s: answered %d, %v", name, a.status, err)
		}
	}
	if n := srv.entries("refusal", `"operation":"console.view"`); n != 5 {
		t.Errorf("%d refusals are on record", n)
	}
}
