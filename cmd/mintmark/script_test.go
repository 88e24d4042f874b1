package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/porttest"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/softhsm"
)

// The scripts under testdata/script run the real command in processes of its own. Each
// says in its first lines what it holds.

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mintmark": main})
}

func TestScripts(t *testing.T) {
	deadline, _ := t.Deadline() // the run's own limit, go test -timeout: a script that waits for ever says where
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            deadline,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or each command would take a second more
			tools, err := filepath.Abs("../../tools")
			e.Setenv("TOOLS", tools)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"waitfile":  waitFile,
			"waitready": waitReady,
			"waitalive": waitAlive,
			"freeport":  freePort,
			"terminate": terminate,
			"hangup":    hangUp,
			"mode":      mode,
			"devjson":   devJSON,
			"devtoken":  devToken,
			"token":     makeToken,
			"apple":     makeApple,
			"client":    makeClient,
			"sign":      signToken,
			"signnow":   signNow,
			"jwks":      makeJWKS,
			"x5t":       thumbprint,
			"expand":    expand,
			"occupy":    occupy,
			"stamp":     stampDatabase,
			"lifecycle": lifecycle,
			"entries":   countEntries,
		},
	})
}

// exits STATUS PROGRAM [ARG...] runs a program that must end with this status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	got := 0
	switch {
	case errors.As(err, &ended):
		got = ended.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d instead of %d", got, want)
	}
}

// waitWithin is longer than a start may take: 20 seconds on a machine of its own, and several
// times that where others work beside it.
const waitWithin = 3 * time.Minute

// waitfile FILE waits until a file is there.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(waitWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	ts.Fatalf("%s is not there after %v", args[0], waitWithin)
}

// waitready ADDRESS waits until the service with this admin listener is ready.
func waitReady(ts *testscript.TestScript, _ bool, args []string) { waitOK(ts, args[0], "/readyz") }

// waitalive ADDRESS waits until the service with this admin listener answers, ready or not.
func waitAlive(ts *testscript.TestScript, _ bool, args []string) { waitOK(ts, args[0], "/livez") }

func waitOK(ts *testscript.TestScript, address, path string) {
	for deadline := time.Now().Add(waitWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("%s does not answer 200 at %s after %v", address, path, waitWithin)
}

// freeport VARIABLE sets an address that nobody listens on, and that is nobody else's until the
// script ends.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	address, release, err := porttest.Reserve()
	ts.Check(err)
	ts.Defer(func() { _ = release() })
	ts.Setenv(args[0], address)
}

// terminate sends SIGTERM, which kill does not know, to what runs in the background.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
	}
}

// hangup sends SIGHUP to what runs in the background.
func hangUp(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGHUP))
	}
}

// mode OCTAL FILE compares a file's permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s instead of %s", args[1], got, args[0])
	}
}

// token DIR LABEL makes a SoftHSM token and sets MODULE, SERIAL, PINFILE and CONF.
func makeToken(ts *testscript.TestScript, _ bool, args []string) {
	t, err := softhsm.Create(ts.MkAbs(args[0]), args[1])
	ts.Check(err)
	for name, value := range map[string]string{"MODULE": t.Module, "SERIAL": t.Serial, "PINFILE": t.PINFile, "CONF": t.ConfigFile} {
		ts.Setenv(name, value)
	}
}

// apple DIR makes a simulated Apple chain.
func makeApple(ts *testscript.TestScript, _ bool, args []string) {
	authority, err := appletest.New(time.Now())
	ts.Check(err)
	issued, err := authority.Leaf()
	ts.Check(err)
	ts.Check(issued.WriteDir(ts.MkAbs(args[0])))
}

// client FILE [KEYFILE] makes a client's public key, and keeps its private key if told where.
func makeClient(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	if len(args) > 1 {
		der, err = x509.MarshalPKCS8PrivateKey(key)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	}
}

// sign FILE KEYFILE HEADER CLAIMS makes an RS256 token; HEADER is JSON beside alg, CLAIMS is
// JSON.
func signToken(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[1])))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ts.Check(err)
	claims := jwt.MapClaims{}
	ts.Check(json.Unmarshal([]byte(args[3]), &claims))
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	ts.Check(json.Unmarshal([]byte(args[2]), &unsigned.Header))
	token, err := unsigned.SignedString(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(token), 0o600))
}

// signnow FILE KEYFILE ISS SUB makes an RS256 token for mint.example that is good now.
func signNow(ts *testscript.TestScript, _ bool, args []string) {
	now := time.Now().Unix()
	claims := fmt.Sprintf(`{"iss":%q,"sub":%q,"aud":"mint.example","iat":%d,"exp":%d}`, args[2], args[3], now, now+600)
	signToken(ts, false, []string{args[0], args[1], `{"kid":"k"}`, claims})
}

// jwks FILE KID PUBLICKEY makes the JWK set that a client publishes.
func makeJWKS(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[2])))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	ts.Check(err)
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: args[1], Algorithm: "RS256", Use: "sig"}}})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// x5t VARIABLE CERTIFICATE sets a certificate's x5t#S256 (RFC 8705, 3.1).
func thumbprint(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[1])))
	sum := sha256.Sum256(block.Bytes)
	ts.Setenv(args[0], base64.RawURLEncoding.EncodeToString(sum[:]))
}

// expand FILE... puts the script's variables into files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// occupy VARIABLE listens on a port until the script ends, and sets its address.
func occupy(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// stamp FILE ENVIRONMENT makes a database of an environment.
func stampDatabase(ts *testscript.TestScript, _ bool, args []string) {
	s, err := store.Open(context.Background(), ts.MkAbs(args[0]), args[1])
	ts.Check(err)
	ts.Check(s.Close())
}

// lifecycle FILE ENVIRONMENT prints the starts and stops on record.
func lifecycle(ts *testscript.TestScript, _ bool, args []string) {
	var events []string
	for _, e := range entriesOf(ts, args[0], args[1]) {
		if e.Kind != audit.KindLifecycle {
			continue
		}
		var l struct{ Event string }
		ts.Check(json.Unmarshal(e.Body, &l))
		events = append(events, l.Event)
	}
	fmt.Fprintln(ts.Stdout(), strings.Join(events, " "))
}

// entries FILE ENVIRONMENT TEXT prints how many entries hold a text.
func countEntries(ts *testscript.TestScript, _ bool, args []string) {
	n := 0
	for _, e := range entriesOf(ts, args[0], args[1]) {
		if strings.Contains(string(e.Body), args[2]) {
			n++
		}
	}
	fmt.Fprintln(ts.Stdout(), n)
}

// entriesOf reads a database's log.
func entriesOf(ts *testscript.TestScript, path, environment string) []audit.Entry {
	s, err := store.Open(context.Background(), ts.MkAbs(path), environment)
	ts.Check(err)
	entries, err := s.Read(context.Background(), 0, 1000)
	ts.Check(errors.Join(err, s.Close()))
	return entries
}

// devInfo is dev.json, written down from the contract a second time: a member that is
// renamed, added or left out shows here. Members appear as the features land.
type devInfo struct {
	BaseURL  string `json:"baseUrl"`
	AdminURL string `json:"adminUrl"`
	DataDir  string `json:"dataDir"`
	PID      int    `json:"pid"`
	HSM      struct {
		Module       string `json:"module"`
		TokenLabel   string `json:"tokenLabel"`
		PINFile      string `json:"pinFile"`
		SoftHSM2Conf string `json:"softhsm2Conf"`
	} `json:"hsm"`
	Clients struct {
		Issuer struct {
			devClient
		} `json:"issuer"`
		Merchant struct {
			devClient
			Claims map[string]any `json:"claims"`
		} `json:"merchant"`
	} `json:"clients"`
	Apple struct {
		RootCert, SubCert, LeafCert, LeafKey string
	} `json:"apple"`
	Passes struct {
		Tenant              string `json:"tenant"`
		PassTypeIdentifier  string `json:"passTypeIdentifier"`
		TeamIdentifier      string `json:"teamIdentifier"`
		SerialNumber        string `json:"serialNumber"`
		AuthenticationToken string `json:"authenticationToken"`
		RootCert            string `json:"rootCert"`
	} `json:"passes"`
	Cards []struct {
		ExternalCardID string `json:"externalCardId"`
		Network        string `json:"network"`
		Last4          string `json:"last4"`
	} `json:"cards"`
}

// devClient is what every client there has.
type devClient struct {
	Iss     string `json:"iss"`
	Kid     string `json:"kid"`
	Aud     string `json:"aud"`
	Sub     string `json:"sub"`
	KeyFile string `json:"keyFile"`
	Token   string `json:"token"`
}

// says reports whether a token is of the client, signed with the key in keyFile, lives for
// 15 minutes, and says these claims and no others.
func (c devClient) says(key []byte, token string, further map[string]any) error {
	block, _ := pem.Decode(key)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return private.(*rsa.PrivateKey).Public(), nil }, jwt.WithValidMethods([]string{"RS256"}))
	if err != nil {
		return err
	}
	iat, exp, jti := claims["iat"], claims["exp"], claims["jti"]
	for _, name := range []string{"iat", "exp", "jti"} {
		delete(claims, name)
	}
	want := jwt.MapClaims{"iss": c.Iss, "aud": c.Aud, "sub": c.Sub}
	maps.Copy(want, further)
	if parsed.Header["kid"] != c.Kid || exp.(float64)-iat.(float64) != 900 || jti == nil || !reflect.DeepEqual(claims, want) {
		return fmt.Errorf("%v, iat %v, exp %v, jti %v: %v, want %v", parsed.Header, iat, exp, jti, claims, want)
	}
	return nil
}

// devtoken DIR CLIENT has mintmark print a token and holds it against DIR/dev.json.
func devToken(ts *testscript.TestScript, _ bool, args []string) {
	var i devInfo
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(args[0], "dev.json"))), &i))
	ts.Check(ts.Exec("mintmark", "dev", "token", args[1], "--data", args[0]))
	token := strings.TrimSuffix(ts.ReadFile("stdout"), "\n")
	c, claims := i.Clients.Issuer.devClient, map[string]any(nil)
	if args[1] == "merchant" {
		c, claims = i.Clients.Merchant.devClient, i.Clients.Merchant.Claims
	}
	if err := c.says([]byte(ts.ReadFile(c.KeyFile)), token, claims); err != nil || token == c.Token {
		ts.Fatalf("token of %s: %v", args[1], err)
	}
}

// devjson DIR holds DIR/dev.json against the contract.
func devJSON(ts *testscript.TestScript, _ bool, args []string) {
	var i devInfo
	d := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile(filepath.Join(args[0], "dev.json")))))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&i))

	for name, path := range map[string]string{
		"dataDir": i.DataDir, "hsm.module": i.HSM.Module, "hsm.pinFile": i.HSM.PINFile, "hsm.softhsm2Conf": i.HSM.SoftHSM2Conf,
		"clients.issuer.keyFile": i.Clients.Issuer.KeyFile, "clients.merchant.keyFile": i.Clients.Merchant.KeyFile,
		"apple.rootCert": i.Apple.RootCert, "apple.subCert": i.Apple.SubCert, "apple.leafCert": i.Apple.LeafCert, "apple.leafKey": i.Apple.LeafKey,
		"passes.rootCert": i.Passes.RootCert,
	} {
		if _, err := os.Stat(path); !filepath.IsAbs(path) || err != nil {
			ts.Fatalf("%s is %q: %v", name, path, err)
		}
	}
	for name, address := range map[string]string{"baseUrl": i.BaseURL, "adminUrl": i.AdminURL} {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Port() == "" || u.Port() == "0" || u.Path != "" {
			ts.Fatalf("%s is %q", name, address)
		}
	}
	for name, kind := range map[string]string{
		i.Apple.RootCert: "CERTIFICATE", i.Apple.SubCert: "CERTIFICATE", i.Apple.LeafCert: "CERTIFICATE",
		i.Apple.LeafKey: "PRIVATE KEY", i.Clients.Issuer.KeyFile: "PRIVATE KEY", i.Clients.Merchant.KeyFile: "PRIVATE KEY",
	} {
		if block, _ := pem.Decode([]byte(ts.ReadFile(name))); block == nil || block.Type != kind {
			ts.Fatalf("%s holds no PEM %s", name, kind)
		}
	}
	if err := syscall.Kill(i.PID, 0); err != nil {
		ts.Fatalf("pid %d: %v", i.PID, err)
	}
	c, m := i.Clients.Issuer, i.Clients.Merchant
	if slices.Contains([]string{i.HSM.TokenLabel, c.Iss, c.Kid, c.Aud, c.Sub, m.Iss, m.Kid, m.Aud, m.Sub}, "") || c.Aud != m.Aud || c.Iss == m.Iss {
		ts.Fatalf("a name is empty, or not what it should be: %+v", i)
	}
	for _, name := range []string{"usr", "mbn", "mcc", "x-tid", "aud_fingerprints"} {
		if text, _ := m.Claims[name].(string); text == "" {
			ts.Fatalf("clients.merchant.claims has no %s: %v", name, m.Claims)
		}
	}
	ts.Check(c.says([]byte(ts.ReadFile(c.KeyFile)), c.Token, nil))
	ts.Check(m.says([]byte(ts.ReadFile(m.KeyFile)), m.Token, m.Claims))
	if i.DataDir != ts.MkAbs(args[0]) {
		ts.Fatalf("dataDir is %s", i.DataDir)
	}
	if len(i.Cards) == 0 || i.Cards[0].Network != "mastercard" {
		ts.Fatalf("cards[0] is no Mastercard: %+v", i.Cards)
	}
	for _, card := range i.Cards {
		if card.ExternalCardID == "" || len(card.Last4) != 4 {
			ts.Fatalf("card %+v", card)
		}
	}
}

// Whoever writes a command for people sees it in the package's comment.
func TestPackageCommentNamesEveryCommand(t *testing.T) {
	text, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "package main")
	for _, c := range newCommand().Commands() {
		if !c.Hidden && !strings.Contains(head, "mintmark "+c.Name()) {
			t.Errorf("the package comment does not name mintmark %s", c.Name())
		}
	}
}

// No test is without its description, which its first line is.
func TestScriptsSayWhatTheyHold(t *testing.T) {
	names, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || !bytes.HasPrefix(b, []byte("# ")) {
			t.Errorf("%s does not begin with what it holds (%v)", name, err)
		}
	}
}
