package integration

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// receiver is a network of its own making: it verifies requests with another library, acts
// once by each idempotency key, and signs its answers. Its line loses some of them.
type receiver struct {
	t       *testing.T
	asker   any // the public key of those who ask
	key     *ecdsa.PrivateKey
	server  *httptest.Server
	mu      sync.Mutex        // guards what follows
	acted   map[string]int    // by channelId, of which each passcode here has its own
	codes   map[string]string // by channelId
	answers map[string]string // by idempotency key
	lossy   bool
}

func newReceiver(t *testing.T, asker any, id identity) *receiver {
	r := &receiver{t: t, asker: asker, key: newKey(t), acted: map[string]int{}, codes: map[string]string{}, answers: map[string]string{}, lossy: true}
	r.server = httptest.NewUnstartedServer(r)
	r.server.TLS = &tls.Config{Certificates: []tls.Certificate{id.tls()}}
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the process was killed while it sent
	}
	answer, err := r.answer(string(body), req.Header.Get("Idempotency-Key"))
	if err != nil {
		r.t.Errorf("a request does not hold: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	lost := r.lossy && rand.N(3) > 0
	r.mu.Unlock()
	if lost {
		w.WriteHeader(http.StatusGatewayTimeout) // of something on the way
		return
	}
	w.Header().Set("Content-Type", "application/jose")
	_, _ = io.WriteString(w, answer)
}

// answer acts on a request, once, and gives the answer to it.
func (r *receiver) answer(compact, header string) (string, error) {
	parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return "", err
	}
	payload, err := parsed.Verify(r.asker)
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.answers[req.Key]; ok {
		return before, nil
	}
	r.acted[req.Body.ChannelID]++
	r.codes[req.Body.ChannelID] = req.Body.Passcode
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"inResponseTo": req.Key, "tenant": req.Tenant, "kind": req.Kind, "outcome": "ACCEPTED",
	})
	unsigned.Header["kid"], unsigned.Header["typ"] = "network-1", "mintmark-connector-answer+jwt"
	r.answers[req.Key], err = unsigned.SignedString(r.key)
	return r.answers[req.Key], err
}

func (r *receiver) seen() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.acted)
}

// kill -9 while passcodes are sent over a line that loses answers: what a caller was told is
// on its way arrives, and nothing is acted on twice.
func TestKilledWhileItTellsTheNetwork(t *testing.T) {
	dir := t.TempDir()
	dev := start(t, dir, nil, nil)
	dev.stop()
	authority := newCA(t, "network")
	asker, err := x509.ParsePKIXPublicKey(dev.pem(filepath.Join(dir, "keys", "connector-jws.pem")))
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, asker, authority.server())
	s := &site{t: t, dir: dir}
	s.write("network-ca.pem", certificatePEM(authority.cert))
	s.write("network.pem", publicPEM(t, r.key.Public()))
	config := readFile(t, filepath.Join(dir, "mintmark.yaml"))
	var lines []string
	for line := range strings.Lines(config) {
		if strings.HasPrefix(line, "  connector:") {
			line = fmt.Sprintf("  connector: {mode: http, url: %q, issuer: bank, audience: network, keys: [{kid: network-1, publicKeyFile: network.pem}]}\n", r.server.URL+"/mintmark")
		}
		lines = append(lines, line)
	}
	s.write("mintmark.yaml", strings.Join(lines, "")+"outbound: {caFile: network-ca.pem, allowPrivate: [127.0.0.0/8]}\n")
	told := map[string]string{} // the ids of passcodes that are on their way, by channelId
	token := dev.issuer().token(nil)
	for round := range 3 {
		srv := s.serve()
		for i := range 4 {
			channel := fmt.Sprintf("channel-%d-%d", round, i)
			a := srv.send("/v1/one-time-passcodes", token, request{"externalCardId": dev.info.Cards[i%2].ExternalCardID, "channelId": channel})
			var sent struct{ PasscodeID string }
			if a.status == http.StatusTooManyRequests {
				continue
			}
			a.into(t, &sent)
			told[channel] = sent.PasscodeID
		}
		<-time.After(rand.N(700 * time.Millisecond)) // at a random point of the delivery
		srv.kill()
	}
	r.mu.Lock()
	r.lossy = false
	r.mu.Unlock()
	srv := s.serve()
	eventually(t, 20*time.Second, func() error {
		if n := srv.count(`SELECT COUNT(*) FROM network_notices`); n != 0 {
			return fmt.Errorf("%d notices wait", n)
		}
		return nil
	})
	seen := r.seen()
	for channel := range told {
		if seen[channel] != 1 {
			t.Errorf("what was sent to %s was acted on %d times", channel, seen[channel])
		}
	}
	for channel, n := range seen {
		if n != 1 {
			t.Errorf("what was sent to %s was acted on %d times", channel, n)
		}
	}
	if len(told) < 8 {
		t.Errorf("only %d passcodes were sent", len(told))
	}
	// A passcode that was drawn by a process that is dead is verified by this one: the fifth,
	// and last of the hour, of the second card.
	const last = "channel-2-1"
	var got struct{ Verified bool }
	srv.send("/v1/one-time-passcodes/"+told[last]+"/verifications", token, request{"passcode": r.codes[last]}).into(t, &got)
	if !got.Verified {
		t.Errorf("the passcode of %s does not hold", last)
	}
}
