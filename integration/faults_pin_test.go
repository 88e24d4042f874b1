//go:build faults

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/softhsm"
)

// serveConfig runs mintmark serve on a development directory's configuration, with its
// modules where they are said to be.
func serveConfig(t *testing.T, like *server, where hsm.Isolation) *server {
	t.Helper()
	s := process(t, []string{"MINTMARK_HSM_ISOLATION=" + string(where)}, "serve", "--config", filepath.Join(like.dir, "mintmark.yaml"))
	s.dir, s.info = like.dir, like.info
	eventually(t, patience, func() error {
		if !s.listens(s.stderr.String()) {
			return fmt.Errorf("does not listen: %s", s.stderr)
		}
		return nil
	})
	return s
}

// A wrong PIN is tried once: over 1000 requests, three restarts and the commands that an
// operator tries next. The service stays up and says so, and a right PIN file brings it
// up as it runs.
func TestWrongPINIsTriedOnceByAllProcesses(t *testing.T) {
	for _, where := range []hsm.Isolation{hsm.NoIsolation, hsm.ProcessIsolation} {
		t.Run(string(where), func(t *testing.T) { testWrongPIN(t, where) })
	}
}

func testWrongPIN(t *testing.T, where hsm.Isolation) {
	f := newField(t, 50, where)
	dev := f.serve(t)
	dev.stop()
	f.module.Reset()
	right, err := os.ReadFile(f.token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	replacePIN(t, f.token, "wrong-pin")

	var s *server
	for restart := range 4 {
		s = serveConfig(t, dev, where)
		for range 250 {
			if a := s.mustPost(s.newRequest()); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Fatalf("answered %d: %s", a.status, a.body)
			}
		}
		if a := s.get(s.info.AdminURL + "/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "refused") {
			t.Errorf("/readyz answers %d: %s", a.status, a.body)
		}
		if a := s.get(s.info.AdminURL + "/livez"); a.status != http.StatusOK {
			t.Errorf("/livez answers %d", a.status)
		}
		for command, args := range map[string][]string{
			"doctor": {"doctor"}, "keys": {"keys", "list"},
		} {
			p := process(t, nil, append(args, "--config", filepath.Join(dev.dir, "mintmark.yaml"))...)
			<-p.exited
			t.Logf("start %d: %s ends with %d: %s", restart, command, p.cmd.ProcessState.ExitCode(), lastLines(p.stderr.String(), 2))
			if p.process.Err() == nil {
				t.Errorf("%s succeeds", command)
			}
		}
		if restart < 3 {
			s.stop()
		}
	}
	if n := f.module.Counts()["C_Login"]; n != 1 {
		t.Errorf("C_Login was called %d times with the wrong PIN", n)
	}
	if n := strings.Count(s.stderr.String(), stateChange); n != 1 {
		t.Errorf("%d lines tell of changes of state:\n%s", n, s.stderr)
	}

	replacePIN(t, f.token, string(right))
	replaced := time.Now()
	took := eventually(t, patience, func() error {
		if a := s.mustPost(s.newRequest()); a.status != http.StatusOK {
			return fmt.Errorf("answered %d: %s", a.status, a.body)
		}
		return nil
	})
	t.Logf("the first success came %v after the PIN file was replaced (%v)", took, replaced.Format(time.TimeOnly))
	if n := f.module.Failures()["C_Login"]; n != 1 {
		t.Errorf("C_Login was refused %d times", n)
	}
}

// replacePIN puts another file in the place of the PIN file.
func replacePIN(t *testing.T, on *softhsm.Token, pin string) {
	t.Helper()
	fresh := on.PINFile + ".new"
	if err := os.WriteFile(fresh, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, on.PINFile); err != nil {
		t.Fatal(err)
	}
}
