package integration

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

// benchRig is one token with its keys, and what servers that are measured on it need: each
// is `mintmark serve` with a configuration made from that of development mode.
type benchRig struct {
	t      *testing.T
	dev    *server // stopped: whom to be, and where the keys are
	config string  // of the development server
	ring   *hsm.Keyring
	merch  *party
	issuer *party
}

func newBenchRig(t *testing.T) *benchRig {
	t.Helper()
	dev := start(t, t.TempDir(), nil, nil)
	r := &benchRig{t: t, dev: dev, merch: dev.merchant(), issuer: dev.issuer()}
	dev.stop()
	r.config = readFile(t, filepath.Join(dev.dir, "mintmark.yaml"))
	var err error
	if r.ring, err = hsm.LoadKeyring(filepath.Join(dev.dir, "keyring.yaml")); err != nil {
		t.Fatal(err)
	}
	return r
}

// A variant is what is different about a server.
type variant struct {
	binary  string // the one under test, if empty
	env     []string
	roles   string            // all, if empty
	store   string            // YAML; a SQLite database of its own, if empty
	replace map[string]string // in the text of the configuration
}

// ownStore is the database of development mode, with its cards.
func (r *benchRig) ownStore() string {
	return "  sqlite: " + strconv.Quote(filepath.Join(r.dev.dir, "mintmark.db")) + "\n"
}

// serve runs a variant until the test ends.
func (r *benchRig) serve(v variant) *server {
	r.t.Helper()
	dir := r.t.TempDir()
	if v.store == "" {
		v.store = "  sqlite: " + strconv.Quote(filepath.Join(dir, "mintmark.db")) + "\n"
	}
	if v.roles == "" {
		v.roles = "[issuer, merchant, passes]"
	}
	text := replaceSection(r.config, "api:", "api:\n  listen: 127.0.0.1:0\n")
	text = replaceSection(text, "admin:", "admin:\n  listen: 127.0.0.1:0\n")
	text = replaceSection(text, "store:", "store:\n"+v.store)
	text = strings.NewReplacer("roles: [issuer, merchant, passes]", "roles: "+v.roles, "keyring: keyring.yaml",
		"keyring: "+strconv.Quote(filepath.Join(r.dev.dir, "keyring.yaml"))+"\ndataDir: "+strconv.Quote(dir)).Replace(text)
	for from, to := range v.replace {
		if !strings.Contains(text, from) {
			r.t.Fatalf("the configuration has no %s", from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	config := filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.run(v, dir, config)
}

// run starts a variant. It logs to a file, as one that is served does: a pipe would have the
// clients' process read what it writes.
func (r *benchRig) run(v variant, dir, config string) *server {
	r.t.Helper()
	if v.binary == "" {
		v.binary = mintmark
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(v.binary, "serve", "--config", config)
	cmd.Env, cmd.Stderr = append(os.Environ(), v.env...), log
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("the end of the server's log:\n%s", lastLines(readFile(r.t, log.Name()), 20))
		}
	})
	s := running(r.t, cmd)
	s.dir = dir
	s.await(func() bool { return s.isUp(readFile(r.t, log.Name())) })
	return s
}

// http is requests to a server; each measurement makes them anew, since tokens grow old.
func (r *benchRig) http(name, raw string, s *server, requests func(address string) (func(client int) ([]byte, error), error), statuses ...int) bench.Subject {
	address := strings.TrimPrefix(s.info.BaseURL, "http://")
	return bench.Subject{Name: name, Raw: raw, Measure: func(clients int, d time.Duration) (bench.Point, error) {
		next, err := requests(address)
		if err != nil {
			return bench.Point{}, err
		}
		family, err := bench.Process(s.cmd.Process.Pid).Family()
		if err != nil {
			return bench.Point{}, err
		}
		return bench.HTTP{Address: address, Server: family, Request: next, Statuses: statuses}.Measure(clients, d)
	}}
}

// same is one request again and again.
func same(request []byte) func(int) ([]byte, error) {
	return func(int) ([]byte, error) { return request, nil }
}

func jsonHeader(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json"}
}

// rs256 is the signing of a merchant JWT.
func (r *benchRig) rs256(name, raw string, s *server) bench.Subject {
	const body = `{"sub":"merchant-1","usr":"cashier-1","aud":"mintmark-dev","mbn":"Corner Shop","mcc":"5411","x-tid":"00000001"}`
	return r.http(name, raw, s, func(address string) (func(int) ([]byte, error), error) {
		return same(bench.Wire("POST", address, "/v1/merchant-tokens", jsonHeader(r.issuer.token(nil)), []byte(body))), nil
	}, http.StatusOK)
}

// es256 is the making of an Apple proximity token.
func (r *benchRig) es256(name, raw string, s *server) bench.Subject {
	return r.http(name, raw, s, func(address string) (func(int) ([]byte, error), error) {
		return same(bench.Wire("POST", address, "/apple/proximity-token", jsonHeader(r.merch.token(nil)), nil)), nil
	}, http.StatusOK)
}

// checkjwt looks at a merchant JWT and signs nothing.
func (r *benchRig) checkjwt(name string, s *server) bench.Subject {
	return r.http(name, "", s, func(address string) (func(int) ([]byte, error), error) {
		return same(bench.Wire("POST", address, "/tokens/checkjwt", jsonHeader(r.merch.token(nil)), nil)), nil
	}, http.StatusOK)
}

// card is a signed card, each with a nonce of its own; Apple's chain is the same each time.
func (r *benchRig) card(name, raw string, s *server) bench.Subject {
	return r.http(name, raw, s, func(address string) (func(int) ([]byte, error), error) {
		header := jsonHeader(r.issuer.token(nil))
		certificates := []string{r.dev.certificate(r.dev.info.Apple.LeafCert), r.dev.certificate(r.dev.info.Apple.SubCert)}
		return func(int) ([]byte, error) {
			fresh := make([]byte, 84)
			_, _ = rand.Read(fresh)
			body, err := json.Marshal(request{
				"externalCardId": r.dev.info.Cards[0].ExternalCardID, "certificates": certificates, "walletType": "APPLE_PAY",
				"nonce": hex.EncodeToString(fresh[:4]), "nonceSignature": "40" + hex.EncodeToString(fresh[4:]),
			})
			return bench.Wire("POST", address, "/issuer/push-provisioning/signed-cards", header, body), err
		}, nil
	}, http.StatusOK)
}

// rawLoop is the raw loop on the rig's keys, through a module.
func (r *benchRig) rawLoop(name, module string, args ...string) bench.Subject {
	l := bench.RawLoop{Program: mintmark, Env: []string{"SOFTHSM2_CONF=" + r.dev.info.HSM.Softhsm2Conf}, Args: append([]string{
		"--module", module, "--token-label", r.dev.info.HSM.TokenLabel, "--pin-file", r.dev.info.HSM.PinFile,
	}, args...)}
	return bench.Subject{Name: name, Measure: func(n int, d time.Duration) (bench.Point, error) {
		return l.Measure(context.Background(), n, d)
	}}
}

// id is the CKA_ID of the active key of a purpose.
func (r *benchRig) id(p hsm.Purpose) string {
	r.t.Helper()
	k, err := r.ring.Active(p)
	if err != nil {
		r.t.Fatal(err)
	}
	return k.ID
}

// benchPasses are passes of the development pass type on a server.
type benchPasses struct {
	r      *benchRig
	s      *server
	tokens []string

	next  atomic.Uint64
	mu    sync.Mutex
	chill uint64 // how often the type was changed; guarded by mu
}

func (r *benchRig) newPasses(s *server, n int) *benchPasses {
	r.t.Helper()
	b := &benchPasses{r: r, s: s, tokens: make([]string, n)}
	p := &passServer{t: r.t, base: s.info.BaseURL, bearer: r.issuer.token(nil)}
	p.setUp(rsaPasses, "bench-0")
	for i := range b.tokens {
		b.tokens[i] = p.change(rsaPasses, "bench-"+strconv.Itoa(i), 1)
	}
	return b
}

// round changes the pass type, unless it was for this round or a later one: all passes have
// to be signed anew.
func (b *benchPasses) round(n uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < b.chill {
		return nil
	}
	url := b.s.info.BaseURL + "/api/" + devTenant + "/pass-types/" + rsaPasses
	bearer := b.r.issuer.token(nil)
	now, err := call{method: http.MethodGet, url: url, token: bearer}.by(client)
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := json.Unmarshal(now.body, &doc); err != nil {
		return fmt.Errorf("%w: %s", err, now.body)
	}
	put := map[string]any{"files": doc["files"], "template": map[string]any{"organizationName": "Shop", "description": "Card of " + strconv.FormatUint(b.chill, 10)}}
	a, err := call{method: http.MethodPut, url: url, token: bearer, body: put}.by(client)
	if err == nil {
		err = a.want(http.StatusOK)
	}
	b.chill++
	return err
}

func (b *benchPasses) path(what string, i uint64) string {
	return "/api/" + devTenant + "/passes/apple/v1" + what + rsaPasses + "/bench-" + strconv.FormatUint(i, 10)
}

func (b *benchPasses) header(i uint64) map[string]string {
	return map[string]string{"Authorization": "ApplePass " + b.tokens[i], "Content-Type": "application/json"}
}

// cold is the first download of a pass's version: it is built, signed and recorded.
func (b *benchPasses) cold(name, raw string) bench.Subject {
	n := uint64(len(b.tokens))
	return b.r.http(name, raw, b.s, func(address string) (func(int) ([]byte, error), error) {
		return func(int) ([]byte, error) {
			i := b.next.Add(1) - 1
			if err := b.round(i / n); err != nil {
				return nil, err
			}
			return bench.Wire("GET", address, b.path("/passes/", i%n), b.header(i%n), nil), nil
		}, nil
	}, http.StatusOK)
}

// warm is a further download.
func (b *benchPasses) warm(name string) bench.Subject {
	return b.r.http(name, "", b.s, func(address string) (func(int) ([]byte, error), error) {
		return same(bench.Wire("GET", address, b.path("/passes/", 0), b.header(0), nil)), nil
	}, http.StatusOK)
}

// register is a new device each time, for one of the passes; list asks what one has.
func (b *benchPasses) register(name string) bench.Subject {
	var last atomic.Uint64
	return b.r.http(name, "", b.s, func(address string) (func(int) ([]byte, error), error) {
		return func(int) ([]byte, error) {
			n := last.Add(1)
			i := n % uint64(len(b.tokens))
			body := fmt.Appendf(nil, `{"pushToken":"%064x"}`, n)
			return bench.Wire("POST", address, b.path(fmt.Sprintf("/devices/bench-device-%d/registrations/", n), i), b.header(i), body), nil
		}, nil
	}, http.StatusCreated, http.StatusOK)
}

func (b *benchPasses) list(name string) bench.Subject {
	return b.r.http(name, "", b.s, func(address string) (func(int) ([]byte, error), error) {
		return same(bench.Wire("GET", address, "/api/"+devTenant+"/passes/apple/v1/devices/bench-device-1/registrations/"+rsaPasses, nil, nil)), nil
	}, http.StatusOK)
}

// The measuring works, whatever it measures: one server, the raw loop beside it.
func TestBenchMeasures(t *testing.T) {
	r := newBenchRig(t)
	s := r.serve(variant{roles: "[merchant]"})
	card := []string{"--work", "card", "--rsa-id", r.id(hsm.TAVSigning), "--hmac-id", r.id(hsm.CardIndex), "--aes-id", r.id(hsm.CardVault)}
	r.requireRawCardToBeTheSequence(card...)
	rows, err := bench.Run([]bench.Subject{
		r.rawLoop("raw", r.dev.info.HSM.Module, card...),
		r.rs256("RS256", "raw", s),
	}, bench.Plan{Clients: []int{2}, Rounds: 1, Each: 2 * time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.PerSecond <= 0 || row.CPU <= 0 || row.P50 <= 0 || row.P99 < row.P50 {
			t.Errorf("a row without figures: %+v", row)
		}
	}
	if row := rows[1]; row.ToRaw <= 0 || row.ToLeft < row.ToRaw || row.ClientCPU <= 0 {
		t.Errorf("not held against the raw loop: %+v", row)
	}
}

// The raw sequence is that of a sealed card, as docs/pkcs11.md has it: no call more, which
// would flatter what is held against it.
func (r *benchRig) requireRawCardToBeTheSequence(args ...string) {
	r.t.Helper()
	spy := faultmodule.New(r.t, r.dev.info.HSM.Module)
	var p bench.Point
	got := countCalls(r.t, spy, func() {
		var err error
		if p, err = r.rawLoop("raw", spy.Path, args...).Measure(1, 100*time.Millisecond); err != nil {
			r.t.Fatal(err)
		}
	})
	documented := documentedCall.FindAllStringSubmatch(readFile(r.t, "../docs/pkcs11.md"), -1)
	if len(documented) == 0 {
		r.t.Fatal("docs/pkcs11.md names no calls")
	}
	for _, line := range documented {
		each, err := strconv.ParseUint(line[2], 10, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		if want := each * (p.Operations + 1); got[line[1]] != want { // the thread's first is not counted
			r.t.Errorf("the raw loop called %s %d times, want %d: %d each", line[1], got[line[1]], want, each)
		}
	}
}

var documentedCall = regexp.MustCompile(`(?m)^(C_\w+) +(\d+)$`)

// What measures a token leaves nothing there, also when it fails.
func TestBenchLeavesNoKeys(t *testing.T) {
	s := newSite(t)
	before := len(s.objects())
	args := []string{"bench", "--module", s.token.Module, "--token-label", s.token.Label, "--pin-file", s.token.PINFile, "--rounds", "1"}
	t.Setenv("SOFTHSM2_CONF", s.token.ConfigFile)
	out := s.must(append(args, "--clients", "2", "--seconds", "4")...)
	for _, want := range []string{"| raw RSA-2048 | 2 |", "| gate: RS256 JWT | 2 |", "| raw sealed card | 2 |", "| gate: sealed card | 2 |"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no row %q:\n%s", want, out)
		}
	}
	nowhere := filepath.Join(s.dir, "no-such-folder", "run.json")
	if _, log, status := s.run(append(args, "--clients", "2", "--seconds", "4", "--json", nowhere)...); status != 1 {
		t.Errorf("no place for its figures: status %d: %s", status, log)
	}
	if _, log, status := s.run(append(args, "--clients", "0")...); status != 2 {
		t.Errorf("no clients: status %d: %s", status, log)
	}
	if after := len(s.objects()); after != before {
		t.Errorf("%d objects on the token, %d before", after, before)
	}
}

// objects are the files of the token's objects.
func (s *site) objects() []string {
	s.t.Helper()
	all, err := filepath.Glob(filepath.Join(s.token.Dir, "tokens", "*", "*.object"))
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
