package integration

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// publisher is a client that publishes its keys.
type publisher struct {
	*party
	mu    sync.Mutex
	keys  []*party // guarded by mu
	away  bool     // guarded by mu
	asked int      // guarded by mu
}

func (p *publisher) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.away {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	var set jose.JSONWebKeySet
	for _, k := range p.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.kid, Algorithm: "ES256", Use: "sig"})
	}
	w.Header().Set("Cache-Control", "max-age=60")
	_ = json.NewEncoder(w).Encode(set)
}

// rotated is the party with another key.
func (p *party) rotated(kid string) *party {
	next := newParty(p.t, p.iss, p.aud)
	next.kid, next.sub, next.claims = kid, p.sub, p.claims
	return next
}

// serveJWKS serves the publishers' sets under their names and gives the URL before these.
func serveJWKS(t *testing.T, authority *ca, all ...*publisher) string {
	t.Helper()
	mux := http.NewServeMux()
	for _, p := range all {
		mux.Handle("/"+p.iss, p)
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(&lockedBuffer{}, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{authority.server().tls()}},
	}
	ended := make(chan struct{})
	go func() {
		_ = srv.ServeTLS(socket, "", "")
		close(ended)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
	return "https://" + socket.Addr().String() + "/"
}

// Keys that a client publishes: fetched when they are first needed, fetched again for a kid
// that is not among them, but no more than every 30 seconds, which this test waits for; used
// while their server is away.
func TestPublishedClientKeys(t *testing.T) {
	t.Parallel()
	authority := newCA(t, "JWKS CA")
	s := newCallersSite(t)
	s.write("jwks-ca.pem", certificatePEM(authority.cert))
	rotating, late, lost := &publisher{party: s.party("rotating")}, &publisher{party: s.party("late"), away: true}, &publisher{party: s.party("lost")}
	clients := ""
	all := []*publisher{rotating, late, lost}
	for _, p := range all {
		p.keys = []*party{p.party}
		p.claims["aud_fingerprints"] = fingerprint
	}
	url := serveJWKS(t, authority, all...)
	for _, p := range all {
		clients += fmt.Sprintf("\n  - {issuer: %[1]s, tenant: a, audience: %[2]s, jwksURL: %[3]q}", p.iss, sharedAudience, url+p.iss)
	}
	// A client whose URL is at an address that is not allowed.
	s.party("private").claims["aud_fingerprints"] = fingerprint
	clients += fmt.Sprintf("\n  - {issuer: private, tenant: a, audience: %s, jwksURL: %q}", sharedAudience, "https://[::1]:9/jwks")
	s.configure(merchantRole(clients) + "outbound: {timeout: 20s, caFile: jwks-ca.pem, allowPrivate: [127.0.0.0/8]}\n")
	srv := s.serve()
	check := func(p *party) answer { return srv.send("/tokens/checkjwt", p.token(nil), nil) }
	wants := func(what string, a answer, status int) {
		t.Helper()
		if a.status != status {
			t.Errorf("%s: answered %d instead of %d: %s", what, a.status, status, a.body)
		}
	}

	began := time.Now()
	wants("a key that is published", check(rotating.party), 200)
	wants("a key that is published", check(lost.party), 200)
	for range 3 {
		wants("again", check(rotating.party), 200)
	}
	for _, away := range []*party{late.party, s.party("private")} {
		a := check(away)
		wants("keys that cannot be had", a, 503)
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 30 || a.problem() != "unavailable" {
			t.Errorf("answered %s with Retry-After %q", a.body, a.header.Get("Retry-After"))
		}
	}
	for p, n := range map[*publisher]int{rotating: 1, lost: 1, late: 1} {
		if got := p.count(); got != n {
			t.Errorf("%s is asked %d times instead of %d", p.iss, got, n)
		}
	}

	second := rotating.rotated("second")
	rotating.set(func() { rotating.keys = []*party{second} })
	late.set(func() { late.away = false })
	lost.set(func() { lost.away = true })
	// A stranger's kids do not have anybody asked more often.
	for range 20 {
		wants("made-up kid", check(rotating.rotated("made-up")), 401)
	}
	if n, most := rotating.count(), 1+int(time.Since(began)/(30*time.Second)); n > most {
		t.Errorf("tokens with made-up kids have the set asked for %d times, more than %d", n, most)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	until := func(done func() error) {
		t.Helper()
		eventually(t, 2*patience, func() error {
			<-tick.C
			return done()
		})
	}
	until(func() error { return check(second).want(200) })
	wants("the old key", check(rotating.party), 401)
	until(func() error { return check(late.party).want(200) })
	until(func() error {
		wants("made-up kid", check(lost.rotated("made-up")), 401)
		if lost.count() < 2 {
			return errors.New("the set is not asked for again")
		}
		return nil
	})
	wants("a key whose server is away", check(lost.party), 200)
	srv.hangup("configuration reloaded") // what is known stays known
	wants("a key whose server is away, after a reload", check(lost.party), 200)
	wants("another key of it", check(lost.rotated("made-up")), 401)
}
