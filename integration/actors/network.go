package actors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// Network is a payment network of its own making, behind the connector: it verifies requests
// with another library, acts once by each idempotency key, and signs its answers. Its line
// may lose some of them.
type Network struct {
	// CA is its certificate, in PEM.
	CA []byte

	t      testing.TB
	asker  any // the public key of those who ask
	key    *ecdsa.PrivateKey
	server *httptest.Server

	mu      sync.Mutex        // guards what follows
	acted   map[string]int    // by channelId, of which each passcode here has its own
	codes   map[string]string // by channelId
	answers map[string]string // by idempotency key
	lossy   bool
	silent  bool
}

// NewNetwork starts one that knows those who ask by their public key. A lossy one loses two
// answers in three.
func NewNetwork(t testing.TB, asker any, lossy bool) *Network {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, ownPEM := loopbackCertificate(t, "simulated network")
	n := &Network{CA: ownPEM, t: t, asker: asker, key: key, acted: map[string]int{}, codes: map[string]string{}, answers: map[string]string{}, lossy: lossy}
	n.server = httptest.NewUnstartedServer(n)
	n.server.TLS = &tls.Config{Certificates: []tls.Certificate{own}}
	n.server.StartTLS()
	t.Cleanup(n.server.Close)
	return n
}

// Config is the connector to it, YAML, where the file named holds PublicPEM. It calls
// mintmark bank.
func (n *Network) Config(publicKeyFile string) string {
	return fmt.Sprintf("{mode: http, url: %q, issuer: bank, audience: network, keys: [{kid: network-1, publicKeyFile: %s}]}", n.server.URL+"/mintmark", publicKeyFile)
}

// PublicPEM is the key by which its answers are verified.
func (n *Network) PublicPEM() string { return PublicPEM(n.t, n.key.Public()) }

// ServeHTTP answers a request.
func (n *Network) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the process was killed while it sent
	}
	answer, err := n.answer(string(body), req.Header.Get("Idempotency-Key"))
	if err != nil {
		n.t.Errorf("a request does not hold: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	lost, silent := n.lossy && mathrand.N(3) > 0, n.silent
	n.mu.Unlock()
	if silent {
		<-req.Context().Done()
		return
	}
	if lost {
		w.WriteHeader(http.StatusGatewayTimeout) // of something on the way
		return
	}
	w.Header().Set("Content-Type", "application/jose")
	_, _ = io.WriteString(w, answer)
}

// answer acts on a request, once, and gives the answer to it.
func (n *Network) answer(compact, header string) (string, error) {
	parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return "", err
	}
	payload, err := parsed.Verify(n.asker)
	if err != nil {
		return "", err
	}
	var req struct {
		Issuer string `json:"iss"`
		Aud    string
		Exp    int64
		Key    string `json:"jti"`
		Tenant string
		Kind   string
		Body   struct{ ChannelID, Passcode string }
	}
	if err := json.Unmarshal(payload, &req); err != nil {
		return "", err
	}
	if req.Issuer != "bank" || req.Aud != "network" || req.Key != header || req.Kind != "one-time-passcode" || time.Now().Unix() > req.Exp {
		return "", fmt.Errorf("it says %+v", req)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if before, ok := n.answers[req.Key]; ok {
		return before, nil
	}
	n.acted[req.Body.ChannelID]++
	n.codes[req.Body.ChannelID] = req.Body.Passcode
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"inResponseTo": req.Key, "tenant": req.Tenant, "kind": req.Kind, "outcome": "ACCEPTED",
	})
	unsigned.Header["kid"], unsigned.Header["typ"] = "network-1", "mintmark-connector-answer+jwt"
	n.answers[req.Key], err = unsigned.SignedString(n.key)
	return n.answers[req.Key], err
}

// Acted is how often it acted, by channelId.
func (n *Network) Acted() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.acted)
}

// Code is the passcode that a channel got; empty for none.
func (n *Network) Code(channel string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.codes[channel]
}

// Mend has it lose no more answers.
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lossy = false
}

// Silence has it act and answer nobody for as long as they wait, or answer again.
func (n *Network) Silence(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
}
