package integration

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

// A command that waits for a call which does not come back from its module ends when it is
// interrupted again, also where nobody reads what it says then.
func TestSecondInterruptEndsACommandAtOnce(t *testing.T) {
	s := newSite(t)
	fault := faultmodule.New(t, s.token.Module)
	path := filepath.Join(s.dir, "mintmark.yaml")
	s.write("mintmark.yaml", strings.Replace(readFile(t, path), s.token.Module, fault.Path, 1))
	hang := fault.Hang("C_Sign", faultmodule.Forever)
	p := process(t, nil, "doctor", "--conformance", "--config", path)
	hang.Await(1)
	p.interruptUntilEnded()
	p.saidSo()

	before := hang.Fired()
	unread := exec.Command(mintmark, "doctor", "--conformance", "--config", path)
	unread.Stderr = fullPipe(t)
	p = running(t, unread)
	hang.Await(before + 1)
	p.interruptUntilEnded()
}

// fullPipe is the end to write to of a pipe that takes no more.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = read.Close(), write.Close() })
	fd := int(write.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = syscall.Write(fd, make([]byte, 4096))
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return write
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
	srv.saidSo()
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
	if status := s.cmd.ProcessState.ExitCode(); status != 130 {
		s.t.Errorf("the process ended with %d\n%s", status, s.stderr)
	}
}

// saidSo: the last word of a process that was interrupted again is why it ended.
func (s *server) saidSo() {
	s.t.Helper()
	if !strings.Contains(s.stderr.String(), "mintmark: interrupted again") {
		s.t.Errorf("the process does not say why it ended:\n%s", s.stderr)
	}
}
