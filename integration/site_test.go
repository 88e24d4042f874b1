package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/softhsm"
)

// site is a folder as an operator makes it for mintmark serve: a token with keys, the
// keyring that lists them, a simulated Apple, and mintmark.yaml.
type site struct {
	t     *testing.T
	dir   string
	token *softhsm.Token
	apple *appletest.Issued
}

// fingerprint is that of the site's TLS certificate, as far as merchant JWTs tell.
const fingerprint = "sha256/zc6c97JhKPZUa+rIrVqjknDE1lDcDK77G41sDo+1ay0="

// newSite makes the folder, with an active key of each of these purposes, called by its
// purpose.
func newSite(t *testing.T, purposes ...hsm.Purpose) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	var err error
	if s.token, err = softhsm.Create(filepath.Join(s.dir, "softhsm"), "site"); err != nil {
		t.Fatal(err)
	}
	authority, err := appletest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if s.apple, err = authority.Leaf(); err != nil {
		t.Fatal(err)
	}
	if err := s.apple.WriteDir(filepath.Join(s.dir, "apple")); err != nil {
		t.Fatal(err)
	}
	s.write("keyring.yaml", "environment: test\n")
	s.configure("roles: [merchant]\nmerchant: {audFingerprints: [" + fingerprint + "]}\n")
	for _, p := range purposes {
		s.must("keys", "generate", "--name", string(p), "--purpose", string(p), "--write")
	}
	return s
}

// write makes or replaces a file of the folder in one piece, and gives its path.
func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// configure writes mintmark.yaml: these sections, and those that are the same in every
// test.
func (s *site) configure(sections string) {
	s.t.Helper()
	s.write("mintmark.yaml", fmt.Sprintf(`environment: test
admin: {listen: "127.0.0.1:0"}
hsm:
  environment: {SOFTHSM2_CONF: %q}
  members:
    - {name: hsm-a, module: %q, tokenLabel: %q, pinFile: %q}
keyring: keyring.yaml
store: {sqlite: mintmark.db}
pushProvisioning: {testRootFile: apple/apple-root.pem}
`, s.token.ConfigFile, s.token.Module, s.token.Label, s.token.PINFile)+sections)
}

// run runs a command on the site and gives its output and exit status.
func (s *site) run(args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	cmd := exec.Command(mintmark, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed, and gives its output.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, log, status := s.run(args...)
	if status != 0 {
		s.t.Fatalf("mintmark %s: status %d\n%s", strings.Join(args, " "), status, log)
	}
	return out
}

var (
	listening  = regexp.MustCompile(`msg=listening api=(\S+) admin=(\S+)`)
	listenerAt = regexp.MustCompile(`msg=listening listener=(\S+) address=(\S+)`)
)

// serve runs mintmark serve on the site until the test ends, and waits until it is ready.
// TLS or not, BaseURL has no certificate to fit: tests that need one take the address.
func (s *site) serve() *server {
	s.t.Helper()
	srv := process(s.t, append([]string{"MINTMARK_LOG_FORMAT=text", "GORACE=atexit_sleep_ms=0"}, uncovered...), "serve", "--config", filepath.Join(s.dir, "mintmark.yaml"))
	srv.dir = s.dir
	srv.await(func() bool { return srv.isUp(srv.stderr.String()) })
	return srv
}

// isUp takes the addresses of mintmark serve from its log, and reports whether it is ready there.
func (s *server) isUp(log string) bool { return s.listens(log) && isReady(s.info.AdminURL) }

// listens takes the addresses of mintmark serve from its log, and reports whether they are there.
func (s *server) listens(log string) bool {
	at := listening.FindStringSubmatch(log)
	if at == nil {
		return false
	}
	s.info.BaseURL, s.info.AdminURL = "http://"+at[1], "http://"+at[2]
	return true
}

// isReady looks whether the service with an admin listener is ready. A look that comes to
// nothing is no fault: there is a next one.
func isReady(admin string) bool {
	a, err := call{method: http.MethodGet, url: admin + "/readyz"}.by(client)
	return err == nil && a.status == http.StatusOK
}

// address is where a listener listens, by its name in the configuration.
func (s *server) address(listener string) string {
	s.t.Helper()
	for _, m := range listenerAt.FindAllStringSubmatch(s.stderr.String(), -1) {
		if m[1] == listener {
			return m[2]
		}
	}
	s.t.Fatalf("the log names no listener %s:\n%s", listener, s.stderr)
	return ""
}

// logged is how many lines of the log hold all of these texts.
func (s *server) logged(texts ...string) int {
	n := 0
lines:
	for line := range strings.Lines(s.stderr.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		n++
	}
	return n
}

// hangup sends SIGHUP and waits until the log tells of it in one more line that holds all
// of these texts.
func (s *server) hangup(texts ...string) {
	s.t.Helper()
	before := s.logged(texts...)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, patience, func() error {
		if s.logged(texts...) == before {
			return fmt.Errorf("the log has no further line with %q", texts)
		}
		return nil
	})
}

// entriesOf counts the entries of the log that are of a kind and hold a text.
const entriesOf = `SELECT COUNT(*) FROM audit_entries WHERE kind = ? AND instr(body, ?) > 0`

// entries is how many entries of the log are of a kind and hold a text.
func (s *server) entries(kind, text string) int {
	s.t.Helper()
	return s.count(entriesOf, kind, text)
}

// counter is the value of a metric, by its full name with labels; 0 if nothing was counted
// yet.
func (s *server) counter(name string) int {
	s.t.Helper()
	for line := range strings.Lines(string(s.get(s.info.AdminURL + "/metrics").body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return int(n)
		}
	}
	return 0
}
