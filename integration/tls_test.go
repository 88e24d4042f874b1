package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// front is a service behind TLS and a client that knows its CA.
type front struct {
	*server
	roots *x509.CertPool
}

// tlsSite makes a site with a certificate of the CA in server.crt and server.key, and a
// client with tokens.
func tlsSite(t *testing.T, authority *ca, purposes ...hsm.Purpose) (*site, *party) {
	t.Helper()
	s := newSite(t, purposes...)
	s.certificate(authority.server())
	app := newParty(t, "app", sharedAudience)
	app.claims = claims{"usr": "cashier", "aud_fingerprints": fingerprint}
	s.write("app.pem", app.publicPEM())
	return s, app
}

// certificate puts another certificate and key into the listener's files.
func (s *site) certificate(id identity) {
	s.t.Helper()
	cert, key := id.pem(s.t)
	s.write("server.key", key)
	s.write("server.crt", cert)
}

// tokenClient is the client with tokens in the configuration.
const tokenClient = `
clients:
  - issuer: app
    tenant: a
    audience: ` + sharedAudience + `
    keys: [{kid: app-1, publicKeyFile: app.pem}]
`

// behind starts the service with this configuration, whose listeners have certificates
// under root.
func behind(s *site, root *x509.Certificate, sections string) *front {
	s.t.Helper()
	s.configure(sections + "merchant: {audience: " + sharedAudience + ", audFingerprints: [" + fingerprint + "], issuers: [{tenant: partner-tenant, issuer: partner-mint}]}\n")
	f := &front{server: s.serve(), roots: x509.NewCertPool()}
	f.roots.AddCert(root)
	return f
}

// client has one connection at a time, with the certificates given and these settings.
func (f *front) client(change func(*tls.Config), certificates ...tls.Certificate) *http.Client {
	cfg := &tls.Config{RootCAs: f.roots, Certificates: certificates}
	if change != nil {
		change(cfg)
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// check has the token of a caller checked over a listener.
func (f *front) check(listener string, by *http.Client, token string, header http.Header) (answer, error) {
	return call{method: http.MethodPost, url: "https://" + f.address(listener) + "/tokens/checkjwt", token: token, header: header}.by(by)
}

// dial makes one handshake and gives its state.
func (f *front) dial(listener string, change func(*tls.Config)) (tls.ConnectionState, error) {
	cfg := &tls.Config{RootCAs: f.roots}
	if change != nil {
		change(cfg)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", f.address(listener), cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState(), nil
}

func atMost12(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 }

// TLS 1.3 unless the operator says otherwise, and then 1.2 with forward secrecy and
// authenticated encryption alone.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	authority := newCA(t, "server CA")
	s, _ := tlsSite(t, authority)
	f := behind(s, authority.cert, `
roles: [issuer, merchant]
api:
  listen: "127.0.0.1:0"
  tls: {certificateFile: server.crt, keyFile: server.key}
merchantAPI:
  listen: "127.0.0.1:0"
  tls: {certificateFile: server.crt, keyFile: server.key, minVersion: "1.2"}
`)
	for listener, oldest := range map[string]uint16{"api": tls.VersionTLS13, "merchantAPI": tls.VersionTLS12} {
		if state, err := f.dial(listener, nil); err != nil || state.Version != tls.VersionTLS13 {
			t.Errorf("%s: version %x (%v)", listener, state.Version, err)
		}
		state, err := f.dial(listener, atMost12)
		if oldest == tls.VersionTLS12 && (err != nil || state.Version != tls.VersionTLS12) {
			t.Errorf("%s: version %x (%v)", listener, state.Version, err)
		}
		if oldest == tls.VersionTLS13 && (err == nil || !strings.Contains(err.Error(), "protocol version")) {
			t.Errorf("%s: TLS 1.2 ends with %v", listener, err)
		}
		if _, err := f.dial(listener, func(cfg *tls.Config) { cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }); err == nil {
			t.Errorf("%s: takes TLS 1.1", listener)
		}
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if suite.SupportedVersions[len(suite.SupportedVersions)-1] == tls.VersionTLS13 {
			continue
		}
		good := strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_") && (strings.Contains(suite.Name, "GCM") || strings.Contains(suite.Name, "CHACHA20"))
		_, err := f.dial("merchantAPI", func(cfg *tls.Config) { cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite.ID} })
		if (err == nil) != good {
			t.Errorf("%s: %v", suite.Name, err)
		}
	}
	f.testRoutes()
}

// testRoutes: each listener has its own routes, and who speaks plain HTTP is told so.
func (f *front) testRoutes() {
	const cards, check = "/issuer/push-provisioning/signed-cards", "/tokens/checkjwt"
	for url, status := range map[string]int{
		"https://" + f.address("api") + cards:         401,
		"https://" + f.address("merchantAPI") + cards: 404,
		"https://" + f.address("api") + check:         404,
		"https://" + f.address("merchantAPI") + check: 401,
		"http://" + f.address("api") + cards:          400,
	} {
		a, err := call{method: http.MethodPost, url: url}.by(f.client(nil))
		if err != nil || a.status != status {
			f.t.Errorf("%s answers %d (%v)", url, a.status, err)
		}
	}
}

// A certificate is renewed without a restart: on SIGHUP, and when its files change. What is
// broken changes nothing, and an open connection goes on.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	authority := newCA(t, "server CA")
	s, app := tlsSite(t, authority)
	f := behind(s, authority.cert, `
roles: [merchant]
api:
  listen: "127.0.0.1:0"
  tls: {certificateFile: server.crt, keyFile: server.key}
`+tokenClient)
	open := f.client(nil)
	stillOpen := func() {
		t.Helper()
		a, err := f.check("api", open, app.token(nil), nil)
		if err != nil || a.status != 200 {
			t.Fatalf("the open connection answers %d (%v): %s", a.status, err, a.body)
		}
	}
	stillOpen()
	f.shows(parsePEM(t, s.dir+"/server.crt"))

	second := authority.server()
	s.certificate(second)
	eventually(t, patience, func() error { return f.showsNow(second.cert) })
	stillOpen()

	complaints := f.logged("level=ERROR", "certificate not read again", "listener=api")
	s.write("server.crt", "-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
	eventually(t, patience, func() error {
		if f.logged("level=ERROR", "certificate not read again", "listener=api") == complaints {
			return errors.New("nobody complains of a broken file")
		}
		return nil
	})
	f.shows(second.cert)
	stillOpen()

	third := authority.server()
	s.certificate(third)
	f.hangup("certificate read again", "listener=api")
	f.shows(third.cert)
	stillOpen()
	if n := f.counter(`mintmark_http_requests_total{method="POST",route="/tokens/checkjwt",status="200"}`); n != 4 {
		t.Errorf("%d requests were answered", n)
	}
}

// showsNow reports a listener that shows another certificate to a new connection.
func (f *front) showsNow(want *x509.Certificate) error {
	state, err := f.dial("api", nil)
	if err == nil && !state.PeerCertificates[0].Equal(want) {
		err = errors.New("a new connection sees another certificate")
	}
	return err
}

func (f *front) shows(want *x509.Certificate) {
	f.t.Helper()
	if err := f.showsNow(want); err != nil {
		f.t.Fatal(err)
	}
}

// A certificate whose key is in the token: handshakes verify elsewhere, resumed sessions
// cost no signature, and no handshake is on record.
func TestCertificateWithItsKeyInTheToken(t *testing.T) {
	t.Parallel()
	authority := newCA(t, "unused")
	s, app := tlsSite(t, authority, hsm.APITLS)
	s.must("keys", "certify", "--name", "api-tls", "--common-name", "mint", "--dns", "localhost", "--out", "api-tls.crt", "--write")
	self := parsePEM(t, s.dir+"/api-tls.crt")
	f := behind(s, self, `
roles: [merchant]
api:
  listen: "127.0.0.1:0"
  tls: {keyInToken: true, minVersion: "1.2"}
`+tokenClient)
	const signatures = `mintmark_token_calls_total{lane="tls",op="sign",outcome="ok"}`
	entries := f.count(`SELECT COUNT(*) FROM audit_entries`)
	local := func(cfg *tls.Config) { cfg.ServerName = "localhost" }

	for _, args := range [][]string{{"-tls1_3"}, {"-tls1_2"}} {
		out := opensslClient(t, f.address("api"), append(args, "-brief", "-CAfile", s.dir+"/api-tls.crt", "-verify_hostname", "localhost", "-verify_return_error")...)
		if !strings.Contains(out, "Verification: OK") || !strings.Contains(strings.ToLower(out), "signature type: ecdsa") {
			t.Errorf("openssl %v:\n%s", args, out)
		}
	}
	before := f.counter(signatures)
	if before < 2 {
		t.Errorf("%d signatures for two handshakes", before)
	}
	for _, version := range []func(*tls.Config){local, func(cfg *tls.Config) { local(cfg); atMost12(cfg) }} {
		full := f.counter(signatures)
		sessions := tls.NewLRUClientSessionCache(8)
		resumed := 0
		for range 10 {
			by := f.client(func(cfg *tls.Config) { version(cfg); cfg.ClientSessionCache = sessions })
			a, did := f.resumes(t, by, app.token(nil))
			if a.status != 200 {
				t.Errorf("answered %d: %s", a.status, a.body)
			}
			if did {
				resumed++
			}
		}
		if made := f.counter(signatures) - full; resumed != 9 || made != 1 {
			t.Errorf("of 10 connections %d are resumed, and the token signs %d times", resumed, made)
		}
	}
	if out := opensslClient(t, f.address("api"), "-tls1_2", "-reconnect", "-CAfile", s.dir+"/api-tls.crt"); strings.Count(out, "\nReused, ") != 5 {
		t.Errorf("openssl resumes %d of 5 sessions:\n%s", strings.Count(out, "\nReused, "), out)
	}
	if n := f.count(`SELECT COUNT(*) FROM audit_entries`); n != entries {
		t.Errorf("%d entries for handshakes", n-entries)
	}

	// Another certificate of the key is taken up as it is written into the keyring. The
	// service writes to its database, so that the record of it goes to another.
	config := strings.Replace(readFile(t, s.dir+"/mintmark.yaml"), "mintmark.db", "keys.db", 1)
	if err := os.WriteFile(s.dir+"/keys-config.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must("keys", "certify", "--config", "keys-config.yaml", "--name", "api-tls", "--common-name", "mint", "--dns", "mint.example,localhost", "--out", "api-tls-2.crt", "--write")
	f.roots.AddCert(parsePEM(t, s.dir+"/api-tls-2.crt"))
	eventually(t, patience, func() error {
		_, err := f.dial("api", func(cfg *tls.Config) { cfg.ServerName = "mint.example" })
		return err
	})
}

// resumes sends a request by a client without a connection, and reports whether its session
// was resumed.
func (f *front) resumes(t *testing.T, by *http.Client, token string) (answer, bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+f.address("api")+"/tokens/checkjwt", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := by.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	state := resp.TLS
	a, err := read(resp)
	if err != nil {
		t.Fatal(err)
	}
	return a, state.DidResume
}

// opensslClient runs openssl s_client and gives all that it says.
func opensslClient(t *testing.T, address string, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_client", "-connect", address}, args...)...)
	cmd.Stdin = strings.NewReader("Q\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("openssl s_client %v: %v", args, err)
	}
	return out.String()
}

func parsePEM(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	s := server{t: t}
	cert, err := x509.ParseCertificate(s.pem(path))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
