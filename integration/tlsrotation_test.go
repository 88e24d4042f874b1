package integration

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// The listener's key in the token gives way to another, with another certificate, while
// connections come in: none fails, and the retired key signs no handshake afterwards.
func TestTLSKeyInTheTokenIsRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	s, _ := tlsSite(t, newCA(t, "unused"), hsm.APITLS)
	s.must("keys", "certify", "--name", "api-tls", "--common-name", "mint", "--dns", "localhost", "--out", "first.crt", "--write")
	first := parsePEM(t, s.dir+"/first.crt")
	f := behind(s, first, "roles: [merchant]\napi:\n  listen: \"127.0.0.1:0\"\n  tls: {keyInToken: true}\n"+tokenClient)

	config := strings.Replace(readFile(t, s.dir+"/mintmark.yaml"), "mintmark.db", "keys.db", 1)
	if err := os.WriteFile(s.dir+"/keys.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must("keys", "generate", "--config", "keys.yaml", "--name", "second", "--purpose", "api-tls", "--state", "next", "--write")
	s.must("keys", "certify", "--config", "keys.yaml", "--name", "second", "--common-name", "mint", "--dns", "localhost", "--out", "second.crt", "--write")
	second := parsePEM(t, s.dir+"/second.crt")
	f.roots.AddCert(second)
	f.hangup("configuration reloaded")

	stop, seen := make(chan struct{}), make(chan *x509.Certificate, 4096)
	var dialling sync.WaitGroup
	for range 3 {
		dialling.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				state, err := f.dial("api", func(cfg *tls.Config) { cfg.ServerName = "localhost" })
				if err != nil {
					t.Errorf("a handshake fails: %v", err)
					return
				}
				select {
				case seen <- state.PeerCertificates[0]:
				default:
				}
			}
		})
	}
	await := func(want *x509.Certificate) {
		t.Helper()
		limit := time.After(patience)
		for {
			select {
			case got := <-seen:
				if got.Equal(want) {
					return
				}
			case <-limit:
				t.Error("no connection shows the certificate")
				return
			}
		}
	}
	await(first)
	s.must("keys", "activate", "second", "--config", "keys.yaml", "--write")
	f.hangup("configuration reloaded")
	const uses = `mintmark_key_uses_total{key="api-tls",purpose="api-tls"}`
	before := f.counter(uses)
	await(second)
	close(stop)
	dialling.Wait()
	if n := f.counter(uses) - before; n != 0 || before == 0 {
		t.Errorf("the retired key signed %d times after it was retired, and %d before", n, before)
	}
}
