package integration

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/integration/actors"
)

// claims are those of a JWT. As a change to others, a nil value takes a claim away.
type claims = actors.Claims

// party is a client of the service as its own software sees it: its names, its private
// key, and what its tokens say. Tokens are made by golang-jwt.
type party struct {
	t                  *testing.T
	iss, kid, aud, sub string
	claims             claims // beside the registered ones
	key                crypto.Signer
}

// newParty is a party with a P-256 key.
func newParty(t *testing.T, iss, aud string) *party {
	t.Helper()
	p := actors.NewParty(t, iss, aud)
	return &party{t: t, iss: p.Issuer, kid: p.KeyID, aud: p.Audience, sub: p.Subject, key: p.Key}
}

// merchant is the development server's merchant client, made of what dev.json says.
func (s *server) merchant() *party {
	m := s.info.Clients.Merchant
	return &party{t: s.t, iss: m.Iss, kid: m.Kid, aud: m.Aud, sub: m.Sub, claims: m.Claims, key: s.privateKey(m.KeyFile)}
}

// issuer is the development server's issuer client.
func (s *server) issuer() *party {
	i := s.info.Clients.Issuer
	return &party{t: s.t, iss: i.Iss, kid: i.Kid, aud: i.Aud, sub: i.Sub, key: s.privateKey(i.KeyFile)}
}

func (s *server) privateKey(path string) crypto.Signer {
	s.t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(s.pem(path))
	if err != nil {
		s.t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// actor is the party as package actors has it.
func (p *party) actor() *actors.Party {
	return &actors.Party{T: p.t, Issuer: p.iss, KeyID: p.kid, Audience: p.aud, Subject: p.sub, Claims: p.claims, Key: p.key}
}

// unsigned is a token of the party for the next minutes, with its claims changed.
func (p *party) unsigned(change claims) *jwt.Token { return p.actor().Unsigned(change) }

// token is a signed token of the party, with its claims changed.
func (p *party) token(change claims) string {
	p.t.Helper()
	return p.signed(p.unsigned(change))
}

func (p *party) signed(unsigned *jwt.Token) string {
	p.t.Helper()
	return p.actor().Signed(unsigned)
}

// publicPEM is the party's public key as it hands it over.
func (p *party) publicPEM() string {
	p.t.Helper()
	return publicPEM(p.t, p.key.Public())
}

func publicPEM(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	return actors.PublicPEM(t, key)
}

// call is one request: to post a body, or a GET without one.
type call struct {
	method, url string
	token       string // none if empty
	body        any    // JSON, but []byte as it is; none if nil
	header      http.Header
}

// by sends the request.
func (c call) by(with *http.Client) (answer, error) {
	a, err := actors.Call{Method: c.method, URL: c.url, Token: c.token, Body: c.body, Header: c.header}.By(with)
	return answer{a.Status, a.Header, a.Body}, err
}

// patiently sends the request again, as a client should, while the answer says when to come
// again: the disk of a busy machine may take longer than the service waits for it.
func (c call) patiently(with *http.Client) (a answer, err error) {
	for range 5 {
		a, err = c.by(with)
		wait, after := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || after != nil {
			break
		}
		<-time.After(time.Duration(wait) * time.Second)
	}
	return a, err
}

// send posts a body with a token to a path of the server. Errors fail the test.
func (s *server) send(path, token string, body any) answer {
	s.t.Helper()
	a, err := call{method: http.MethodPost, url: s.info.BaseURL + path, token: token, body: body}.by(client)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// into decodes the body of an answer that must be 200.
func (a answer) into(t *testing.T, out any) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// refusal is what an answer says of why.
func (a answer) refusal() (reason string, code int) {
	var p struct {
		Reason string
		Code   int
	}
	_ = json.Unmarshal(a.body, &p)
	return p.Reason, p.Code
}

// want reports an answer of another status.
func (a answer) want(status int) error {
	if a.status != status {
		return fmt.Errorf("answered %d instead of %d: %s", a.status, status, a.body)
	}
	return nil
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
