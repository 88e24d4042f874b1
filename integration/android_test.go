package integration

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/integration/actors"
)

// androidService is where Android wallets are pushed: https, with a secret of its own. It
// takes its time until it is told not to.
type androidService struct {
	srv   *httptest.Server
	dir   string
	asked chan string // what each call is: method, path, Authorization, body
	took  chan bool
	slow  chan struct{}
}

func newAndroidService(t *testing.T) *androidService {
	t.Helper()
	s := &androidService{dir: t.TempDir(), asked: make(chan string, 64), took: make(chan bool, 64), slow: make(chan struct{})}
	s.srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			PassTypeIdentifier string
			PushTokens         []string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		s.asked <- fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("Authorization"), " ", body)
		select {
		case <-s.slow:
			w.WriteHeader(http.StatusNoContent)
			s.took <- true
		case <-r.Context().Done(): // the caller has waited long enough
		}
	}))
	t.Cleanup(s.srv.Close)
	for name, text := range map[string]string{
		"secret": "key=android-secret\n",
		"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.srv.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// config is what a server needs to push here, YAML under passes.push.
func (s *androidService) config() string {
	return fmt.Sprintf("    endpoints:\n      - {client: android, url: %s/push, authorizationFile: %s}\n", s.srv.URL, filepath.Join(s.dir, "secret"))
}

// trust has a server believe the service's certificate, and wait for it longer than a test
// would.
func (s *androidService) trust(p *passServer) {
	p.t.Helper()
	text, err := os.ReadFile(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	changed := strings.Replace(string(text), "outbound:\n", "outbound:\n  timeout: 60s\n  caFile: "+filepath.Join(s.dir, "ca.pem")+"\n", 1)
	if err := os.WriteFile(p.config, []byte(changed), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// An Android wallet is told at the endpoint of its kind, in the form that it knows. While
// that hangs, devices of the same type that are Apple's are told, and again.
func androidsAreTold(t *testing.T, apple *actors.PushService, android *androidService, p *passServer) {
	token := p.setUp(ecPasses, "9")
	const iPhone = 300
	p.register(ecPasses, "9", token, iPhone)
	path := "/api/" + devTenant + "/passes/apple/v1/devices/android-1/registrations/" + ecPasses + "/9"
	a := p.call("POST", path, map[string]string{"Authorization": "AndroidPass " + token}, []byte(`{"pushToken":"android-token-1"}`))
	if a.status != 201 {
		t.Fatalf("registration answered %d: %s", a.status, a.body)
	}
	p.change(ecPasses, "9", 1)
	want := "POST /push key=android-secret {" + ecPasses + " [android-token-1]}"
	p.await("the Android is asked for", func() bool { return len(android.asked) != 0 })
	if got := <-android.asked; got != want {
		t.Errorf("asked for %q, want %q", got, want)
	}
	for n := range 3 { // the first call still hangs, or the second
		p.await("the iPhone is told", func() bool { return apple.Took(deviceToken(iPhone)) == n+1 })
		p.change(ecPasses, "9", n+2)
	}
	close(android.slow)
	p.await("the Android is told", func() bool { return len(android.took) != 0 })
	for len(android.asked) != 0 {
		if got := <-android.asked; got != want {
			t.Errorf("then %q", got)
		}
	}
	for _, text := range []string{"android-secret", "android-token-1", "push refused"} {
		if strings.Contains(p.stderr.String(), text) {
			t.Errorf("the log says %q", text)
		}
	}
}
