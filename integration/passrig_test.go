package integration

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/actors"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// The pass types of a pass server: development's own, with an RSA key, and one with a
// P-256 key.
const (
	devTenant  = "dev"
	rsaPasses  = "pass.dev.mintmark"
	ecPasses   = "pass.test.ec"
	passesTeam = "TEAM123456"
)

// passInfo is the part of dev.json that is about passes.
type passInfo struct {
	Passes struct{ Tenant, PassTypeIdentifier, TeamIdentifier, SerialNumber, AuthenticationToken, RootCert string }
}

func (s *server) passInfo() passInfo {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "dev.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var i passInfo
	if err := json.Unmarshal(b, &i); err != nil {
		s.t.Fatal(err)
	}
	return i
}

// passServer is `mintmark serve` with the role passes, over the token and the database
// that development mode made.
type passServer struct {
	t      testing.TB
	dir    string
	config string
	base   string // https or http, without a path
	admin  string
	bearer string // of the issuer client, who manages the passes
	env    []string
	roots  map[string]*x509.CertPool // by pass type
	hsm    struct{ Module, TokenLabel, PinFile, Softhsm2Conf string }

	cmd    *exec.Cmd
	stderr *lockedBuffer
	exited chan struct{}
}

// newPassServer makes a server whose push configuration is push, YAML under passes.push.
// It does not run yet.
func newPassServer(t *testing.T, push string) *passServer {
	t.Helper()
	dir := t.TempDir()
	dev := start(t, dir, nil, nil)
	p := &passServer{t: t, dir: dir, bearer: dev.info.Clients.Issuer.Token, roots: map[string]*x509.CertPool{}}
	p.env = append(os.Environ(), "SOFTHSM2_CONF="+dev.info.HSM.Softhsm2Conf)
	p.hsm = dev.info.HSM
	root := dev.passInfo().Passes.RootCert
	dev.stop()
	text, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	p.roots[rsaPasses] = x509.NewCertPool()
	p.roots[rsaPasses].AppendCertsFromPEM(text)
	p.addECKey(dev)
	p.base, p.admin = "http://"+freeAddress(t), "http://"+freeAddress(t)
	old, err := os.ReadFile(filepath.Join(dir, "mintmark.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("passes:\n  publicURL: %s\n  types:\n"+
		"    - {tenant: %s, passTypeIdentifier: %s, key: dev-pass}\n    - {tenant: %s, passTypeIdentifier: %s, key: pass-ec}\n  push:\n%s",
		p.base, devTenant, rsaPasses, devTenant, ecPasses, push)
	config := replaceSection(string(old), "passes:", own+"outbound:\n  allowPrivate: [127.0.0.0/8]\n")
	config = replaceSection(config, "api:", "api:\n  listen: "+strings.TrimPrefix(p.base, "http://")+"\n")
	config = replaceSection(config, "admin:", "admin:\n  listen: "+strings.TrimPrefix(p.admin, "http://")+"\n")
	config = strings.Replace(config, "roles: [issuer, merchant, passes]", "roles: [passes]", 1)
	p.config = filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && p.stderr != nil {
			t.Logf("the end of the server's log:\n%s", lastLines(p.stderr.String(), 30))
		}
		if p.stderr != nil && strings.Contains(p.stderr.String(), "DATA RACE") {
			t.Errorf("the race detector found something:\n%s", p.stderr)
		}
	})
	return p
}

// replaceSection replaces a top-level section of a YAML text.
func replaceSection(text, head, by string) string {
	var out []string
	inside := false
	for _, line := range strings.SplitAfter(text, "\n") {
		if line == head+"\n" {
			inside = true
			out = append(out, by)
			continue
		}
		if inside && strings.HasPrefix(line, " ") {
			continue
		}
		inside = false
		out = append(out, line)
	}
	return strings.Join(out, "")
}

func freeAddress(t testing.TB) string {
	t.Helper()
	return actors.FreeAddress(t)
}

// addECKey makes a P-256 pass key in the token, with a certificate of its own simulation.
func (p *passServer) addECKey(dev *server) {
	p.t.Helper()
	path := filepath.Join(p.dir, "keyring.yaml")
	ring, err := hsm.LoadKeyring(path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.(*testing.T).Setenv("SOFTHSM2_CONF", dev.info.HSM.Softhsm2Conf)
	cfg := hsm.Config{Name: "dev", Module: dev.info.HSM.Module, TokenLabel: dev.info.HSM.TokenLabel, PINFile: dev.info.HSM.PinFile, Keyring: ring, Log: slog.New(slog.DiscardHandler), CallTimeout: keyWithin}
	token, err := hsm.Open(context.Background(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	key, _, err := token.Generate(context.Background(), hsm.NewKey{Name: "pass-ec", Purpose: hsm.Pass, Algorithm: hsm.P256}, time.Now())
	if err == nil {
		err = token.Close(context.Background())
	}
	if err != nil {
		p.t.Fatal(err)
	}
	cfg.Keyring = &hsm.Keyring{Environment: ring.Environment, Keys: append(slices.Clone(ring.Keys), key)}
	if token, err = hsm.Open(context.Background(), cfg); err != nil {
		p.t.Fatal(err)
	}
	pub, err := token.Public("pass-ec")
	if err == nil {
		err = token.Close(context.Background())
	}
	if err != nil {
		p.t.Fatal(err)
	}
	authority, err := passtest.New(time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	leaf, err := authority.Leaf(pub, passtest.For(ecPasses, passesTeam))
	if err != nil {
		p.t.Fatal(err)
	}
	p.roots[ecPasses] = authority.Roots()
	var chain bytes.Buffer
	for _, der := range [][]byte{leaf.Raw, authority.Intermediate.Raw} {
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	if err := os.WriteFile(filepath.Join(p.dir, "pass-ec.crt"), chain.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root.Raw})
	if err := os.WriteFile(filepath.Join(p.dir, "pass-ec-root.pem"), root, 0o600); err != nil {
		p.t.Fatal(err)
	}
	cfg.Keyring.Keys[len(cfg.Keyring.Keys)-1].Certificate = "pass-ec.crt"
	if err := cfg.Keyring.Save(path); err != nil {
		p.t.Fatal(err)
	}
}

// run starts the server and waits until it is ready.
func (p *passServer) run() {
	p.t.Helper()
	p.cmd = exec.Command(mintmark, "serve", "--config", p.config)
	p.stderr, p.exited = &lockedBuffer{}, make(chan struct{})
	p.cmd.Env, p.cmd.Stderr = p.env, p.stderr
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, exited := p.cmd, p.exited
	go func() { _ = cmd.Wait(); close(exited) }()
	p.await("the server is ready", func() bool { return isReady(p.admin) })
}

// as is the same server for a subtest, which does not stop it.
func (p *passServer) as(t *testing.T) *passServer {
	same := *p
	same.t = t
	return &same
}

// kill is kill -9.
func (p *passServer) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	p.cmd = nil
}

// await waits for something that must come.
func (p *passServer) await(what string, is func() bool) {
	p.t.Helper()
	p.awaitFor(time.Minute, what, is)
}

func (p *passServer) awaitFor(limit time.Duration, what string, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(limit); !is(); {
		select {
		case <-p.exited:
			p.t.Fatalf("the server ended before %s:\n%s", what, lastLines(p.stderr.String(), 20))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: %s\n%s", limit, what, lastLines(p.stderr.String(), 20))
		}
	}
}

// call makes one call and gives the answer.
func (p *passServer) call(method, path string, header map[string]string, body []byte) answer {
	p.t.Helper()
	req, err := http.NewRequest(method, p.base+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	a, err := do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// manage makes a call as the issuer client, which must be answered with one of the statuses.
func (p *passServer) manage(method, path string, body any, want ...int) answer {
	p.t.Helper()
	b, raw := body.([]byte)
	contentType := "application/octet-stream"
	if !raw && body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			p.t.Fatal(err)
		}
		contentType = "application/json"
	}
	send := func() answer {
		return p.call(method, "/api/"+devTenant+path, map[string]string{"Authorization": "Bearer " + p.bearer, "Content-Type": contentType}, b)
	}
	a := send()
	for range 4 { // a disk that is slow for a moment is answered 503, which a client repeats
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			break
		}
		a = send()
	}
	if !slices.Contains(want, a.status) {
		p.t.Fatalf("%s %s answered %d: %s", method, path, a.status, a.body)
	}
	return a
}

// setUp gives a type an icon, and makes a pass; it gives the pass's token.
func (p *passServer) setUp(passType, serial string) string {
	p.t.Helper()
	files := map[string]string{}
	for name, size := range map[string]int{"icon.png": 38, "icon@2x.png": 76, "icon@3x.png": 114} {
		png, err := passtest.PNG(size, size)
		if err != nil {
			p.t.Fatal(err)
		}
		var asset struct{ SHA256 string }
		if err := json.Unmarshal(p.manage("PUT", "/assets", png, 200).body, &asset); err != nil {
			p.t.Fatal(err)
		}
		files[name] = asset.SHA256
	}
	p.manage("PUT", "/pass-types/"+passType, map[string]any{"files": files, "template": map[string]any{"organizationName": "Shop", "description": "Card"}}, 200)
	return p.change(passType, serial, 0)
}

// change puts the next version of a pass, and gives the token.
func (p *passServer) change(passType, serial string, value int) string {
	p.t.Helper()
	doc := map[string]any{"pass": map[string]any{"generic": map[string]any{"backFields": []any{map[string]any{"key": "n", "value": value}}}}}
	a := p.manage("PUT", "/passes/"+passType+"/"+serial, doc, 200, 201)
	var out struct {
		Pass struct{ AuthenticationToken string }
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		p.t.Fatal(err)
	}
	return out.Pass.AuthenticationToken
}

func (p *passServer) device(method, path, token string, body string) answer {
	p.t.Helper()
	return p.call(method, "/api/"+devTenant+"/passes/apple/v1"+path, map[string]string{"Authorization": "ApplePass " + token}, []byte(body))
}

// openedPass is a bundle, verified below a root.
func openedPass(t testing.TB, pkpass []byte, roots *x509.CertPool) *passkit.Bundle {
	t.Helper()
	b, err := passkit.Open(pkpass)
	if err != nil {
		t.Fatal(err)
	}
	if r := passkit.Verify(b, passkit.VerifyOptions{Roots: roots, Now: time.Now()}); !r.OK() {
		t.Errorf("the pass does not verify: %v", r.Results)
	}
	return b
}

// opensslVerifies has openssl verify a pass's signature over its manifest, down to a root.
func opensslVerifies(t testing.TB, b *passkit.Bundle, root string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{passkit.FileManifest, passkit.FileSignature} {
		if err := os.WriteFile(filepath.Join(dir, name), b.Files[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", filepath.Join(dir, passkit.FileSignature),
		"-content", filepath.Join(dir, passkit.FileManifest), "-binary", "-CAfile", root, "-purpose", "any", "-out", os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}
