package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/integration/actors"
)

// trusted has the push service know the server's pass certificates.
func (p *passServer) trusted(by *actors.PushService) {
	p.t.Helper()
	for _, file := range []string{"pass-root.pem", "pass-ec-root.pem"} {
		b, err := os.ReadFile(filepath.Join(p.dir, file))
		if err != nil {
			p.t.Fatal(err)
		}
		by.Trust(b)
	}
}

// deviceToken is a push token, different for each number.
func deviceToken(n int) string { return actors.DeviceToken(n) }

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
	apple, android := actors.NewPushService(t), newAndroidService(t)
	p := newPassServer(t, apple.Config()+android.config())
	p.trusted(apple)
	android.trust(p)
	p.run()
	t.Run("androids, at their own pace", func(t *testing.T) { androidsAreTold(t, apple, android, p.as(t)) })
	t.Run("with the key in the token", func(t *testing.T) { toldWithTheKeyInTheToken(t, apple, p.as(t)) })
	t.Run("as the push service answers", func(t *testing.T) { answersAreHeeded(t, apple, p.as(t)) })
	refusedCertificateStopsItsTypeAlone(t, apple, p)
	apple.Check()
}

func toldWithTheKeyInTheToken(t *testing.T, apple *actors.PushService, p *passServer) {
	tokens := map[string]string{rsaPasses: p.setUp(rsaPasses, "1"), ecPasses: p.setUp(ecPasses, "1")}
	for i, passType := range []string{rsaPasses, ecPasses} {
		p.register(passType, "1", tokens[passType], 100+i)
		p.change(passType, "1", 1)
	}
	for i := range 2 {
		p.await("the device is told", func() bool { return apple.Took(deviceToken(100+i)) == 1 })
	}
	versions := fmt.Sprintf("%x %x", apple.TLSVersion(rsaPasses), apple.TLSVersion(ecPasses))
	if versions != "303 304" { // an RSA key in the token makes no RSASSA-PSS
		t.Errorf("TLS versions are %s", versions)
	}
}

// What the push service answers decides what becomes of entry and registration.
func answersAreHeeded(t *testing.T, apple *actors.PushService, p *passServer) {
	token := p.change(ecPasses, "2", 0)
	const good, bad, gone, renewed, busy, odd = 0, 1, 2, 3, 4, 5
	for _, n := range []int{good, bad, gone, renewed, busy, odd} {
		p.register(ecPasses, "2", token, n)
	}
	past := fmt.Sprintf(`{"reason":"Unregistered","timestamp":%d}`, time.Now().Add(-time.Hour).UnixMilli())
	future := fmt.Sprintf(`{"reason":"Unregistered","timestamp":%d}`, time.Now().Add(time.Hour).UnixMilli())
	apple.Tell(deviceToken(bad), actors.PushAnswer{Status: 400, Body: `{"reason":"BadDeviceToken"}`})
	apple.Tell(deviceToken(gone), actors.PushAnswer{Status: 410, Body: future})
	apple.Tell(deviceToken(renewed), actors.PushAnswer{Status: 410, Body: past}) // registered since
	apple.Tell(deviceToken(busy), actors.PushAnswer{Status: 429, RetryAfter: "1", Body: `{"reason":"TooManyRequests"}`, Times: 2})
	apple.Tell(deviceToken(odd), actors.PushAnswer{Status: 400, Body: `{"reason":"BadSomething"}`})
	p.change(ecPasses, "2", 1)
	p.await("the one that was busy is told at last", func() bool { return apple.Took(deviceToken(busy)) == 1 })
	if apple.Asked(deviceToken(busy)) != 3 {
		t.Errorf("it was asked %d times", apple.Asked(deviceToken(busy)))
	}
	for n, want := range map[int]bool{good: true, bad: false, gone: false, renewed: true, busy: true, odd: true} {
		if got := p.registered(ecPasses, n); got != want {
			t.Errorf("device %d is registered: %v", n, got)
		}
	}
	for _, n := range []int{good, bad, gone, renewed, odd} {
		if apple.Asked(deviceToken(n)) != 1 {
			t.Errorf("device %d was pushed %d times", n, apple.Asked(deviceToken(n)))
		}
	}
}

// A certificate that is refused is used no more: that is one type's trouble.
func refusedCertificateStopsItsTypeAlone(t *testing.T, apple *actors.PushService, p *passServer) {
	apple.Tell("topic:"+ecPasses, actors.PushAnswer{Status: 403, Body: `{"reason":"BadCertificate"}`})
	const refused, other = 200, 201
	p.register(ecPasses, "3", p.change(ecPasses, "3", 0), refused)
	p.register(rsaPasses, "3", p.change(rsaPasses, "3", 0), other)
	p.change(ecPasses, "3", 1)
	p.await("the alarm is raised", func() bool { return p.metric(`mintmark_pass_push_stopped{type="` + ecPasses + `"} 1`) })
	p.await("the log says so", func() bool {
		return strings.Contains(p.stderr.String(), "the push service refuses the pass certificate")
	})
	p.change(ecPasses, "3", 2)
	p.change(rsaPasses, "3", 2)
	p.await("the other type goes on", func() bool { return apple.Took(deviceToken(other)) == 1 })
	if n := apple.Asked(deviceToken(refused)); n != 1 {
		t.Errorf("the refused certificate was used %d times", n)
	}
	apple.Tell("topic:"+ecPasses, actors.PushAnswer{Status: 200})
	p.kill()
	p.run()
	p.await("what waited is told after a new start", func() bool { return apple.Asked(deviceToken(refused)) == 2 })
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
