package integration

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/actors"
)

// mintmark is the binary under test.
var mintmark string

// raceDetector says whether the binary has it. Measurements do without.
var raceDetector = true

// buildTags are those that the binary is built with.
var buildTags string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == hsm.MemberCommand { // a child of a test's own HSM
		if err := hsm.ServeMember(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "mintmark-integration-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if mintmark, err = actors.Build(dir, raceDetector, buildTags); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// devInfo is dev.json as a script reads it.
type devInfo struct {
	BaseURL, AdminURL, DataDir string
	PID                        int
	HSM                        struct{ Module, TokenLabel, PinFile, Softhsm2Conf string }
	Clients                    struct {
		Issuer   struct{ Iss, Kid, Aud, Sub, KeyFile, Token string }
		Merchant struct {
			Iss, Kid, Aud, Sub, KeyFile, Token string
			Claims                             claims
		}
	}
	Apple struct{ RootCert, SubCert, LeafCert, LeafKey string }
	Cards []struct{ ExternalCardID, Network, Last4 string }
}

// server is mintmark in a process of its own, mostly as a server.
type server struct {
	t       *testing.T
	process *actors.Process
	info    devInfo // of mintmark serve no more than the two URLs
	dir     string

	// of the process
	cmd    *exec.Cmd
	stderr *lockedBuffer
	stdout *lockedBuffer
	exited chan struct{}
}

// lockedBuffer is what a process writes while others read it.
type lockedBuffer = actors.Buffer

func lastLines(text string, n int) string { return actors.LastLines(text, n) }

// unsigned is the environment of a server that signs no checkpoints after its start, and asks
// its token for no signs of life: the calls to the token are then those of the test alone.
var unsigned = append([]string{"MINTMARK_AUDIT_EVERY=1h", "MINTMARK_HSM_KEEP_ALIVE=1h"}, uncovered...)

// uncovered is in the environment of servers that sign no checkpoints, many for want of a key:
// without them a service refuses all work after a minute, or after some thousand entries, which
// whoever asks again and again until it is well soon makes.
var uncovered = []string{"MINTMARK_AUDIT_MAX_UNSIGNED_AGE=3h", "MINTMARK_AUDIT_MAX_UNSIGNED=10000000"}

// patientNetwork is in the environment of every server: the payment network, which waits half
// a second for a decision, waits here until the request's deadline.
var patientNetwork = []string{"MINTMARK_PUSH_PROVISIONING_DECISIONS_WITHIN=1m"}

// process starts mintmark with these arguments, and env added to the environment. It is
// stopped when the test ends.
func process(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	cmd := exec.Command(mintmark, args...)
	cmd.Env = slices.Concat(os.Environ(), patientNetwork, env)
	return running(t, cmd)
}

// running is a command as a server, started.
func running(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	p := actors.Start(t, cmd)
	return &server{t: t, process: p, cmd: p.Cmd, stderr: p.Stderr, stdout: p.Stdout, exited: p.Exited}
}

// complaints are the lines of the log above the level of information.
func (s *server) complaints() string { return s.process.Complaints() }

// patience is how long a test waits for what has to come. It is nobody's promise: it is
// longer than a machine that has other work to do stands still.
const patience = time.Minute

// await waits until the server is ready, and fails the test if it ends before.
func (s *server) await(ready func() bool) {
	s.t.Helper()
	s.process.Await(s.t, patience, ready)
}

// start runs mintmark dev in dir with further arguments and environment, and waits
// until it is ready. It is stopped when the test ends.
func start(t *testing.T, dir string, args, env []string) *server {
	t.Helper()
	giveKeys(t, dir)
	s := process(t, env, append([]string{"dev", "--data", dir, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)...)
	s.dir = dir
	s.await(func() bool { return strings.Contains(s.stdout.String(), "The whole journey") })
	b, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &s.info); err != nil {
		t.Fatal(err)
	}
	keepKeys(t, dir)
	return s
}

// stop asks the server to end, and waits for it.
func (s *server) stop() { s.process.Stop() }

// kill is kill -9.
func (s *server) kill() { s.process.Kill() }

// request is a body of signed-cards.
type request map[string]any

// newRequest is a valid request with a fresh nonce for the first demo card.
func (s *server) newRequest() request { return s.requestFor(s.info.Cards[0].ExternalCardID) }

// requestFor is a valid request with a fresh nonce for a card.
func (s *server) requestFor(card string) request {
	b := make([]byte, 84)
	_, _ = rand.Read(b)
	return request{
		"externalCardId": card,
		"certificates":   []string{s.certificate(s.info.Apple.LeafCert), s.certificate(s.info.Apple.SubCert)},
		"nonce":          hex.EncodeToString(b[:4]),
		"nonceSignature": "40" + hex.EncodeToString(b[4:]),
		"walletType":     "APPLE_PAY",
	}
}

// with is a copy with members changed; a nil value removes one.
func (r request) with(changes request) request {
	out := request{}
	for k, v := range r {
		out[k] = v
	}
	for k, v := range changes {
		if v == nil {
			delete(out, k)
			continue
		}
		out[k] = v
	}
	return out
}

func (s *server) certificate(path string) string {
	return base64.StdEncoding.EncodeToString(s.pem(path))
}

func (s *server) pem(path string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		s.t.Fatalf("%s holds no PEM block", path)
	}
	return block.Bytes
}

// answer is what a caller got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the stable name of the answer's problem.
func (a answer) problem() string {
	var p struct{ Type string }
	_ = json.Unmarshal(a.body, &p)
	return strings.TrimPrefix(p.Type, "urn:mintmark:problem:")
}

var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}}

// post sends a request as the issuer client.
func (s *server) post(body any) (answer, error) {
	b, ok := body.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequest(http.MethodPost, s.info.BaseURL+"/issuer/push-provisioning/signed-cards", bytes.NewReader(b))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.info.Clients.Issuer.Token)
	return do(req)
}

func (s *server) mustPost(body any) answer {
	s.t.Helper()
	a, err := s.post(body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func do(req *http.Request) (answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	return read(resp)
}

// read takes an answer in.
func read(resp *http.Response) (answer, error) {
	a, err := actors.Read(resp)
	return answer{a.Status, a.Header, a.Body}, err
}

func (s *server) get(url string) answer {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// database opens the server's database beside it, to read (ro) or to write (rw).
func (s *server) database(mode string) *sql.DB {
	s.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.dir, "mintmark.db")+"?_busy_timeout=60000&mode="+mode)
	if err != nil {
		s.t.Fatal(err)
	}
	return db
}

// count asks the database, beside the server, for one number.
func (s *server) count(query string, args ...any) int {
	s.t.Helper()
	n, err := s.counted(query, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// counted is count for those who ask again.
func (s *server) counted(query string, args ...any) (n int, err error) {
	s.t.Helper()
	db := s.database("ro")
	err = db.QueryRow(query, args...).Scan(&n)
	return n, errors.Join(err, db.Close())
}

// node runs a script of testdata with JSON in, and decodes the JSON that comes out.
func node(t *testing.T, script string, in, out any) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", filepath.Join("testdata", script))
	cmd.Stdin = bytes.NewReader(b)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	result, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", script, err, stderr.Bytes())
	}
	if err := json.Unmarshal(result, out); err != nil {
		t.Fatalf("node %s: %v\n%s", script, err, result)
	}
}
