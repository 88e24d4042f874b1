package integration

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

// A command that waits for a call which does not come back from its module ends when it is
// interrupted again.
func TestSecondInterruptEndsACommandAtOnce(t *testing.T) {
	s := newSite(t)
	fault := faultmodule.New(t, s.token.Module)
	path := filepath.Join(s.dir, "mintmark.yaml")
	s.write("mintmark.yaml", strings.Replace(readFile(t, path), s.token.Module, fault.Path, 1))
	hang := fault.Hang("C_Sign", faultmodule.Forever)
	p := process(t, nil, "doctor", "--conformance", "--config", path)
	hang.Await(1)
	p.interruptUntilEnded()
}

// A service that drains goes on doing so, whatever else a supervisor sends, until somebody
// interrupts it.
func TestInterruptEndsAServiceThatDrains(t *testing.T) {
	s := newSite(t, hsm.MerchantJWT)
	s.configure("roles: [merchant]\nshutdownDelay: 5m\nmerchant: {audFingerprints: [" + fingerprint + "]}\n")
	srv := s.serve()
	srv.process.Signal(syscall.SIGTERM)
	srv.await(func() bool { return strings.Contains(srv.stderr.String(), "msg=stopping") })
	srv.process.Signal(syscall.SIGTERM)
	if a := srv.get(srv.info.AdminURL + "/livez"); a.status != http.StatusOK {
		t.Errorf("while it drains /livez answers %d", a.status)
	}
	srv.interruptUntilEnded()
}

// interruptUntilEnded sends SIGINT until the process has ended, as somebody does who leans on
// the keys: two that come at the same moment are one.
func (s *server) interruptUntilEnded() {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		select {
		case <-s.exited:
			return nil
		default:
			s.process.Signal(syscall.SIGINT)
			return errors.New("the process does not end")
		}
	})
	if status := s.cmd.ProcessState.ExitCode(); status != 130 || !strings.Contains(s.stderr.String(), "mintmark: interrupted again") {
		s.t.Errorf("the process ended with %d\n%s", status, s.stderr)
	}
}
