package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

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
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(3 * time.Minute), // a script that waits for ever says where
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // or each command would take a second more
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"waitfile":  waitFile,
			"waitready": waitReady,
			"freeport":  freePort,
			"terminate": terminate,
			"mode":      mode,
			"devjson":   devJSON,
			"token":     makeToken,
			"apple":     makeApple,
			"client":    makeClient,
			"expand":    expand,
			"occupy":    occupy,
			"stamp":     stamp,
			"lifecycle": lifecycle,
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

// waitWithin is longer than a start may take (20 seconds on a machine of its own).
const waitWithin = 60 * time.Second

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
func waitReady(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(waitWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + args[0] + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	ts.Fatalf("%s is not ready after %v", args[0], waitWithin)
}

// freeport VARIABLE sets an address that nobody listens on.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

// terminate sends SIGTERM, which kill does not know, to what runs in the background.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
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

// client FILE makes a client's public key.
func makeClient(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
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
func stamp(ts *testscript.TestScript, _ bool, args []string) {
	s, err := store.Open(context.Background(), ts.MkAbs(args[0]), args[1])
	ts.Check(err)
	ts.Check(s.Close())
}

// lifecycle FILE ENVIRONMENT prints the starts and stops on record.
func lifecycle(ts *testscript.TestScript, _ bool, args []string) {
	s, err := store.Open(context.Background(), ts.MkAbs(args[0]), args[1])
	ts.Check(err)
	entries, err := s.Read(context.Background(), 0, 1000)
	ts.Check(errors.Join(err, s.Close()))
	var events []string
	for _, e := range entries {
		if e.Kind != "lifecycle" {
			continue
		}
		var l struct{ Event string }
		ts.Check(json.Unmarshal(e.Body, &l))
		events = append(events, l.Event)
	}
	fmt.Fprintln(ts.Stdout(), strings.Join(events, " "))
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
			Iss, Kid, Aud, Sub, KeyFile, Token string
		} `json:"issuer"`
	} `json:"clients"`
	Apple struct {
		RootCert, SubCert, LeafCert, LeafKey string
	} `json:"apple"`
	Cards []struct {
		ExternalCardID string `json:"externalCardId"`
		Network        string `json:"network"`
		Last4          string `json:"last4"`
	} `json:"cards"`
}

// devjson DIR holds DIR/dev.json against the contract.
func devJSON(ts *testscript.TestScript, _ bool, args []string) {
	var i devInfo
	d := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile(filepath.Join(args[0], "dev.json")))))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&i))

	for name, path := range map[string]string{
		"dataDir": i.DataDir, "hsm.module": i.HSM.Module, "hsm.pinFile": i.HSM.PINFile, "hsm.softhsm2Conf": i.HSM.SoftHSM2Conf,
		"clients.issuer.keyFile": i.Clients.Issuer.KeyFile,
		"apple.rootCert":         i.Apple.RootCert, "apple.subCert": i.Apple.SubCert, "apple.leafCert": i.Apple.LeafCert, "apple.leafKey": i.Apple.LeafKey,
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
		i.Apple.LeafKey: "PRIVATE KEY", i.Clients.Issuer.KeyFile: "PRIVATE KEY",
	} {
		if block, _ := pem.Decode([]byte(ts.ReadFile(name))); block == nil || block.Type != kind {
			ts.Fatalf("%s holds no PEM %s", name, kind)
		}
	}
	if err := syscall.Kill(i.PID, 0); err != nil {
		ts.Fatalf("pid %d: %v", i.PID, err)
	}
	c := i.Clients.Issuer
	if slices.Contains([]string{i.HSM.TokenLabel, c.Iss, c.Kid, c.Aud, c.Sub}, "") || strings.Count(c.Token, ".") != 2 {
		ts.Fatalf("something is empty: %+v", i)
	}
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

// Whoever writes a command sees it in the package's comment, and there only what is.
func TestPackageCommentNamesEveryCommand(t *testing.T) {
	text, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "package main")
	for _, c := range newCommand().Commands() {
		if !strings.Contains(head, "mintmark "+c.Name()) {
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
