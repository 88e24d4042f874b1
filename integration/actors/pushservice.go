package actors

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mintmark/mintmark/passkit"
)

// PushService is Apple's push service, simulated: HTTP/2 alone, a client certificate
// required, and answers as told, by push token.
type PushService struct {
	t      testing.TB
	srv    *httptest.Server
	caFile string

	mu      sync.Mutex // guards what follows
	roots   *x509.CertPool
	pushes  map[string]int // by push token: taken
	asked   map[string]int // by push token: taken or not
	answers map[string]PushAnswer
	faults  []string // what no client may do
	tls     map[string]uint16
}

// PushAnswer is an answer to a push.
type PushAnswer struct {
	Status     int
	Body       string
	RetryAfter string
	Times      int  // 0: always
	Never      bool // no answer at all, for as long as the client waits
}

// NewPushService makes one that knows no pass certificates yet.
func NewPushService(t testing.TB) *PushService {
	t.Helper()
	s := &PushService{t: t, roots: x509.NewCertPool(), pushes: map[string]int{}, asked: map[string]int{}, answers: map[string]PushAnswer{}, tls: map[string]uint16{}}
	own, ownPEM := loopbackCertificate(t, "simulated push service")
	s.caFile = filepath.Join(t.TempDir(), "push-ca.pem")
	if err := os.WriteFile(s.caFile, ownPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	s.srv = httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	s.srv.EnableHTTP2 = true
	s.srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{own},
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

// Config is what a server needs to push here, YAML under passes.push.
func (s *PushService) Config() string {
	return fmt.Sprintf("    host: %s\n    caFile: %s\n", strings.TrimPrefix(s.srv.URL, "https://"), s.caFile)
}

// Trust has it know the pass certificates below roots in PEM.
func (s *PushService) Trust(roots []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roots.AppendCertsFromPEM(roots)
}

func (s *PushService) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	topic := passkit.ReadMarks(r.TLS.PeerCertificates[0]).PassTypeIdentifier
	token, ok := strings.CutPrefix(r.URL.Path, "/3/device/")
	var found string
	switch {
	case err != nil || string(body) != "{}":
		found = fmt.Sprintf("the body is %q", body)
	case !ok || r.Method != http.MethodPost || r.ProtoMajor != 2:
		found = fmt.Sprintf("%s %s over HTTP/%d", r.Method, r.URL.Path, r.ProtoMajor)
	case r.Header.Get("apns-topic") != topic:
		found = fmt.Sprintf("topic %s with the certificate of %s", r.Header.Get("apns-topic"), topic)
	}
	answer, told := s.take(token, topic, r.TLS.Version, found)
	switch {
	case told && answer.Never:
		<-r.Context().Done()
	case told:
		if answer.RetryAfter != "" {
			w.Header().Set("Retry-After", answer.RetryAfter)
		}
		w.WriteHeader(answer.Status)
		_, _ = io.WriteString(w, answer.Body)
	}
}

// take counts a push, and gives the answer to it if it was told one.
func (s *PushService) take(token, topic string, version uint16, fault string) (PushAnswer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tls[topic] = version
	s.asked[token]++
	if fault != "" {
		s.faults = append(s.faults, fault)
	}
	answer, told := s.answers[token]
	if !told {
		answer, told = s.answers["topic:"+topic]
	}
	if told && (answer.Times == 0 || s.asked[token] <= answer.Times) {
		return answer, true
	}
	s.pushes[token]++
	return PushAnswer{}, false
}

// Tell has pushes to a push token answered so; to a pass type's, by "topic:" and its name.
func (s *PushService) Tell(token string, a PushAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[token] = a
}

// Forget takes back what was told.
func (s *PushService) Forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answers, token)
}

// Took is how many pushes to a push token were taken.
func (s *PushService) Took(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pushes[token]
}

// Asked is how many pushes to a push token came, taken or not.
func (s *PushService) Asked(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[token]
}

// Pushes is Took for every push token.
func (s *PushService) Pushes() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pushes)
}

// Told is how many push tokens took a push.
func (s *PushService) Told() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pushes)
}

// TLSVersion is the version of the last connection for a pass type.
func (s *PushService) TLSVersion(topic string) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tls[topic]
}

// Check reports what no client may do.
func (s *PushService) Check() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		s.t.Error(f)
	}
}

// DeviceToken is a push token, different for each number.
func DeviceToken(n int) string { return fmt.Sprintf("%064x", n+1) }
