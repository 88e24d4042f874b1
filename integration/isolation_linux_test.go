package integration

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/internal/freezetest"
)

// isolated is a started rig whose member is in a process of its own.
func isolated(t *testing.T, change func(*hsm.Config)) *rig {
	t.Helper()
	r := newRig(t)
	r.cfg.Isolation = hsm.ProcessIsolation
	change(&r.cfg)
	return r.start()
}

// child is the process of a member of this test's own HSM.
func child(t *testing.T, member string) int {
	t.Helper()
	var pid int
	eventually(t, patience, func() error {
		var ok bool
		if pid, ok = childOf(t, os.Getpid(), member); !ok {
			return errors.New("no process")
		}
		return nil
	})
	return pid
}

// What ends or stops a member's process costs that process: who waited for it is told to come
// again, nobody is left waiting, nothing is released that is wrong, and the next process
// serves. The service's own process has nothing to end for.
func TestTroubleInAModuleCostsOneChild(t *testing.T) {
	r := isolated(t, func(c *hsm.Config) { c.CallTimeout, c.DrainTimeout = 3*time.Second, 200*time.Millisecond })
	for name, tt := range map[string]struct {
		trouble func(t *testing.T, r *rig)
		meets   func(r *rig) error // what meets it
	}{
		"SIGSEGV in C_Sign": {func(_ *testing.T, r *rig) {
			r.fault.Inject(faultmodule.Rule{Function: "C_Sign", Crash: true})
		}, (*rig).sign},
		"C_DeriveKey hangs for ever": {func(_ *testing.T, r *rig) {
			r.fault.Hang("C_DeriveKey", 1)
		}, (*rig).seal},
		"kill -9 under a call": {func(*testing.T, *rig) {}, func(r *rig) error {
			stuck, met := r.fault.Hang("C_Sign", 1), make(chan error, 1)
			go func() { met <- r.sign() }()
			stuck.Await(1)
			_ = syscall.Kill(child(r.t, "a"), syscall.SIGKILL)
			return <-met
		}},
		"the whole process stops": {func(t *testing.T, _ *rig) {
			if err := freezetest.Freeze(child(t, "a")); err != nil {
				t.Fatal(err)
			}
		}, (*rig).mac},
	} {
		t.Run(name, func(t *testing.T) {
			eventually(t, patience, r.everything)
			before, told := child(t, "a"), strings.Count(r.log.String(), ended)
			tt.trouble(t, r)
			var down *hsm.DownError
			var later interface{ RetryAfter() time.Duration }
			if err := tt.meets(r); !errors.As(err, &down) || !errors.As(err, &later) {
				t.Errorf("the request that meets it: %v", err)
			}
			for _, p := range []hsm.Purpose{hsm.TAVSigning, hsm.APITLS} {
				if _, err := r.hsm.Public(string(p)); err != nil {
					t.Errorf("the public key for %s is gone with the process: %v", p, err)
				}
			}
			took := eventually(t, patience, r.everything)
			t.Logf("well again %v after the request was answered", took)
			if after := child(t, "a"); after == before {
				t.Error("the process is the same")
			}
			if strings.Count(r.log.String(), ended) == told {
				t.Error("the log does not tell of the process's end")
			}
			if n := len(r.wedge); n != 0 {
				t.Error("this process was asked to end")
			}
			if s := r.hsm.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
				t.Errorf("%d ephemeral objects made, %d destroyed or gone with their process", s.EphemeralCreated, s.EphemeralDestroyed)
			}
		})
	}
}

// A call that comes back after its caller was let go, and with it a seal that asks for what
// nobody will say any more, leaves the process as it was.
func TestLateCallLeavesTheChild(t *testing.T) {
	r := isolated(t, func(c *hsm.Config) { c.CallTimeout, c.DrainTimeout = 300*time.Millisecond, time.Minute })
	before := child(t, "a")
	stuck := r.fault.Hang("C_GenerateKeyPair", 1)
	var down *hsm.DownError
	if err := r.seal(); !errors.As(err, &down) {
		t.Fatalf("the caller of the stuck call got %v", err)
	}
	stuck.Clear()
	eventually(t, patience, r.everything)
	if after := child(t, "a"); after != before {
		t.Errorf("process %d is now %d:\n%s", before, after, r.log)
	}
}

// Two members behind one library in two processes: one is killed under load, again and
// again, and the requests on their way through it are done by the other.
func TestKilledMemberCostsAtMostWhatWasInFlight(t *testing.T) {
	for _, policy := range []hsm.Policy{hsm.Failover, hsm.Spread} {
		t.Run(string(policy), func(t *testing.T) {
			p := newPair(t)
			// b's token moves in with a's: one library, one token each, one process each.
			second, err := p.tokens[0].Add("second")
			if err != nil {
				t.Fatal(err)
			}
			operate(t, second, func(o *operator) {
				for _, m := range p.keys {
					o.importKey(m)
				}
			})
			b := &p.configs[1]
			b.Module, b.TokenLabel, b.PINFile = p.configs[0].Module, second.Label, second.PINFile
			for i := range p.configs {
				p.configs[i].Isolation = hsm.ProcessIsolation
			}
			p.start(policy)
			pr := p.press()
			for range 2 {
				pr.more(t, 60)
				told := strings.Count(p.log.String(), ended)
				if err := syscall.Kill(child(t, "a"), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				eventually(t, patience, func() error {
					if strings.Count(p.log.String(), ended) == told {
						return errors.New("a's process has not ended")
					}
					return nil
				})
				pr.more(t, 60)
				eventually(t, patience, p.hsm.Members()[0].Ready)
			}
			pr.end()
			if n := pr.failed.Load(); n != 0 {
				t.Errorf("%d requests failed beside %d", n, pr.ok.Load())
			}
		})
	}
}

// A refused PIN stays refused whatever becomes of the process that was refused.
func TestRefusedPINOutlivesTheChild(t *testing.T) {
	r := newRig(t)
	r.cfg.Isolation = hsm.ProcessIsolation
	r.cfg.PINFile = filepath.Join(t.TempDir(), "pin")
	writePIN(t, r.cfg.PINFile)
	r.launch()
	for range 2 {
		eventually(t, patience, r.refused)
		r.hsm.Members()[0].Restart(errors.New("asked for"))
	}
	eventually(t, patience, r.refused)
	if n := r.fault.Counts()["C_Login"]; n != 1 {
		t.Errorf("C_Login was called %d times with a wrong PIN", n)
	}
	if err := os.Remove(r.cfg.PINFile); err != nil {
		t.Fatal(err)
	}
	right, err := os.ReadFile(r.token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.cfg.PINFile, right, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, r.everything)
}

// The service lives through a crash in the module, and its children do not outlive it.
func TestServiceOutlivesItsModulesAndNotTheReverse(t *testing.T) {
	fault := faultmodule.New(t, module(t))
	s := start(t, t.TempDir(), []string{"--module", fault.Path}, append([]string{"MINTMARK_HSM_ISOLATION=process"}, unsigned...))
	if a := s.mustPost(s.newRequest()); a.status != http.StatusOK {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	fault.Inject(faultmodule.Rule{Function: "C_DeriveKey", Crash: true})
	if a := s.mustPost(s.newRequest()); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("the request that meets it is answered %d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
	}
	s.answers(http.StatusOK)
	s.await(func() bool { return s.logged("SIGSEGV: ") != 0 }) // the log comes through a pipe
	if said := s.stderr.String(); strings.Contains(said, "goroutine ") || strings.Contains(said, "rax ") {
		t.Errorf("of the crash it is said:\n%s", said)
	}

	pid, ok := childOf(t, s.cmd.Process.Pid, "dev")
	if !ok {
		t.Fatal("the service has no child")
	}
	// One that reads nothing goes by the kernel's hand alone.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.kill()
	eventually(t, patience, func() error {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err == nil && n != 1 {
			return errors.New("the child lives on")
		}
		return err
	})
}

// Whoever is not started by its own parent, on its parent's socket, serves nobody.
func TestMemberCommandServesItsParentAlone(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(pair[0]), "socket")
	defer func() { _ = socket.Close(); _ = unix.Close(pair[1]) }()
	var with sync.WaitGroup
	for name, tt := range map[string]struct {
		cmd  *exec.Cmd
		want string
	}{
		"a person":           {exec.Command(mintmark, hsm.MemberCommand, "a"), "no socket was given"},
		"somebody between":   {exec.Command("/bin/sh", "-c", mintmark+" "+hsm.MemberCommand+" a; exit $?"), "the socket is not the parent's"},
		"without its member": {exec.Command(mintmark, hsm.MemberCommand), "accepts 1 arg"},
	} {
		if name == "somebody between" {
			tt.cmd.ExtraFiles = []*os.File{socket}
		}
		with.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			defer context.AfterFunc(ctx, func() { _ = tt.cmd.Process.Kill() })()
			out, err := tt.cmd.CombinedOutput()
			var status *exec.ExitError
			if !errors.As(err, &status) || status.ExitCode() != 2 || !strings.Contains(string(out), tt.want) {
				t.Errorf("%s: %v: %s", name, err, out)
			}
		})
	}
	with.Wait()
	if out, err := exec.Command(mintmark, "--help").CombinedOutput(); err != nil || strings.Contains(string(out), hsm.MemberCommand) {
		t.Errorf("help tells of it: %v: %s", err, out)
	}
}
