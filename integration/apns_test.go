package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/passkit"
)

// pushService is Apple's push service, simulated: HTTP/2 alone, a client certificate
// required, and answers as told, by push token.
type pushService struct {
	t      testing.TB
	srv    *httptest.Server
	caFile string

	mu      sync.Mutex // guards what follows
	roots   *x509.CertPool
	pushes  map[string]int // by push token: taken
	asked   map[string]int // by push token: taken or not
	answers map[string]pushAnswer
	faults  []string // what no client may do
	tls     map[string]uint16
}

type pushAnswer struct {
	status     int
	body       string
	retryAfter string
	times      int // 0: always
}

// newPushService makes one that knows pass certificates below roots, to which more can be
// added.
func newPushService(t testing.TB) *pushService {
	t.Helper()
	s := &pushService{t: t, roots: x509.NewCertPool(), pushes: map[string]int{}, asked: map[string]int{}, answers: map[string]pushAnswer{}, tls: map[string]uint16{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "simulated push service"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s.caFile = filepath.Join(t.TempDir(), "push-ca.pem")
	if err := os.WriteFile(s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.srv = httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	s.srv.EnableHTTP2 = true
	s.srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert,
		NextProtos:   []string{"h2"},
		VerifyConnection: func(c tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for _, cert := range c.PeerCertificates[1:] {
				intermediates.AddCert(cert)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			_, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: s.roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			return err
		},
	}
	s.srv.StartTLS()
	t.Cleanup(s.srv.Close)
	return s
}

// config is what a server needs to push here, YAML under passes.push.
func (s *pushService) config() string {
	return fmt.Sprintf("    host: %s\n    caFile: %s\n", strings.TrimPrefix(s.srv.URL, "https://"), s.caFile)
}

func (s *pushService) trust(p *passServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, file := range []string{"pass-root.pem", "pass-ec-root.pem"} {
		b, err := os.ReadFile(filepath.Join(p.dir, file))
		if err != nil {
			s.t.Fatal(err)
		}
		s.roots.AppendCertsFromPEM(b)
	}
}

func (s *pushService) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	topic := passkit.ReadMarks(r.TLS.PeerCertificates[0]).PassTypeIdentifier
	token, ok := strings.CutPrefix(r.URL.Path, "/3/device/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls[topic] = r.TLS.Version
	s.asked[token]++
	fault := func(format string, a ...any) { s.faults = append(s.faults, fmt.Sprintf(format, a...)) }
	switch {
	case err != nil || string(body) != "{}":
		fault("the body is %q", body)
	case !ok || r.Method != http.MethodPost || r.ProtoMajor != 2:
		fault("%s %s over HTTP/%d", r.Method, r.URL.Path, r.ProtoMajor)
	case r.Header.Get("apns-topic") != topic:
		fault("topic %s with the certificate of %s", r.Header.Get("apns-topic"), topic)
	}
	answer, told := s.answers[token]
	if !told {
		answer, told = s.answers["topic:"+topic]
	}
	if told && (answer.times == 0 || s.asked[token] <= answer.times) {
		if answer.retryAfter != "" {
			w.Header().Set("Retry-After", answer.retryAfter)
		}
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
		return
	}
	s.pushes[token]++
}

func (s *pushService) tell(token string, a pushAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[token] = a
}

func (s *pushService) took(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pushes[token]
}

func (s *pushService) wasAsked(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[token]
}

func (s *pushService) check() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		s.t.Error(f)
	}
}

// deviceToken is a push token, different for each name.
func deviceToken(n int) string { return fmt.Sprintf("%064x", n+1) }

func (p *passServer) register(passType, serial, token string, n int) {
	p.t.Helper()
	path := fmt.Sprintf("/devices/device-%d/registrations/%s/%s", n, passType, serial)
	body, _ := json.Marshal(map[string]string{"pushToken": deviceToken(n)})
	if a := p.device("POST", path, token, string(body)); a.status != 201 && a.status != 200 {
		p.t.Fatalf("registration answered %d: %s", a.status, a.body)
	}
}

func (p *passServer) registered(passType string, n int) bool {
	return p.device("GET", fmt.Sprintf("/devices/device-%d/registrations/%s", n, passType), "", "").status == 200
}

// The steps share a server, in this order: the last has the certificate refused.
func TestDevicesAreTold(t *testing.T) {
	apple, android := newPushService(t), newAndroidService(t)
	p := newPassServer(t, apple.config()+android.config())
	apple.trust(p)
	android.trust(p)
	p.run()
	t.Run("androids, at their own pace", func(t *testing.T) { androidsAreTold(t, apple, android, p.as(t)) })
	t.Run("with the key in the token", func(t *testing.T) { toldWithTheKeyInTheToken(t, apple, p.as(t)) })
	t.Run("as the push service answers", func(t *testing.T) { answersAreHeeded(t, apple, p.as(t)) })
	refusedCertificateStopsItsTypeAlone(t, apple, p)
	apple.check()
}

func toldWithTheKeyInTheToken(t *testing.T, apple *pushService, p *passServer) {
	tokens := map[string]string{rsaPasses: p.setUp(rsaPasses, "1"), ecPasses: p.setUp(ecPasses, "1")}
	for i, passType := range []string{rsaPasses, ecPasses} {
		p.register(passType, "1", tokens[passType], 100+i)
		p.change(passType, "1", 1)
	}
	for i := range 2 {
		p.await("the device is told", func() bool { return apple.took(deviceToken(100+i)) == 1 })
	}
	apple.mu.Lock()
	versions := fmt.Sprintf("%x %x", apple.tls[rsaPasses], apple.tls[ecPasses])
	apple.mu.Unlock()
	if versions != "303 304" { // an RSA key in the token makes no RSASSA-PSS
		t.Errorf("TLS versions are %s", versions)
	}
}

// What the push service answers decides what becomes of entry and registration.
func answersAreHeeded(t *testing.T, apple *pushService, p *passServer) {
	token := p.change(ecPasses, "2", 0)
	const good, bad, gone, renewed, busy, odd = 0, 1, 2, 3, 4, 5
	for _, n := range []int{good, bad, gone, renewed, busy, odd} {
		p.register(ecPasses, "2", token, n)
	}
	past := fmt.Sprintf(`{"reason":"Unregistered","timestamp":%d}`, time.Now().Add(-time.Hour).UnixMilli())
	future := fmt.Sprintf(`{"reason":"Unregistered","timestamp":%d}`, time.Now().Add(time.Hour).UnixMilli())
	apple.tell(deviceToken(bad), pushAnswer{status: 400, body: `{"reason":"BadDeviceToken"}`})
	apple.tell(deviceToken(gone), pushAnswer{status: 410, body: future})
	apple.tell(deviceToken(renewed), pushAnswer{status: 410, body: past}) // registered since
	apple.tell(deviceToken(busy), pushAnswer{status: 429, retryAfter: "1", body: `{"reason":"TooManyRequests"}`, times: 2})
	apple.tell(deviceToken(odd), pushAnswer{status: 400, body: `{"reason":"BadSomething"}`})
	p.change(ecPasses, "2", 1)
	p.await("the one that was busy is told at last", func() bool { return apple.took(deviceToken(busy)) == 1 })
	if apple.wasAsked(deviceToken(busy)) != 3 {
		t.Errorf("it was asked %d times", apple.wasAsked(deviceToken(busy)))
	}
	for n, want := range map[int]bool{good: true, bad: false, gone: false, renewed: true, busy: true, odd: true} {
		if got := p.registered(ecPasses, n); got != want {
			t.Errorf("device %d is registered: %v", n, got)
		}
	}
	for _, n := range []int{good, bad, gone, renewed, odd} {
		if apple.wasAsked(deviceToken(n)) != 1 {
			t.Errorf("device %d was pushed %d times", n, apple.wasAsked(deviceToken(n)))
		}
	}
}

// A certificate that is refused is used no more: that is one type's trouble.
func refusedCertificateStopsItsTypeAlone(t *testing.T, apple *pushService, p *passServer) {
	apple.tell("topic:"+ecPasses, pushAnswer{status: 403, body: `{"reason":"BadCertificate"}`})
	const refused, other = 200, 201
	p.register(ecPasses, "3", p.change(ecPasses, "3", 0), refused)
	p.register(rsaPasses, "3", p.change(rsaPasses, "3", 0), other)
	p.change(ecPasses, "3", 1)
	p.await("the alarm is raised", func() bool { return p.metric(`mintmark_pass_push_stopped{type="` + ecPasses + `"} 1`) })
	if !strings.Contains(p.stderr.String(), "the push service refuses the pass certificate") {
		t.Error("the log does not say so")
	}
	p.change(ecPasses, "3", 2)
	p.change(rsaPasses, "3", 2)
	p.await("the other type goes on", func() bool { return apple.took(deviceToken(other)) == 1 })
	if n := apple.wasAsked(deviceToken(refused)); n != 1 {
		t.Errorf("the refused certificate was used %d times", n)
	}
	apple.tell("topic:"+ecPasses, pushAnswer{status: 200})
	p.kill()
	p.run()
	p.await("what waited is told after a new start", func() bool { return apple.wasAsked(deviceToken(refused)) == 2 })
}

func (p *passServer) metric(line string) bool {
	p.t.Helper()
	res, err := http.Get(p.admin + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return err == nil && strings.Contains(string(b), line)
}
