//go:build faults

package integration

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

// remoteClient is Debian's client module of p11-kit.
const remoteClient = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"

// remote is a PKCS#11 module in processes of its own, behind a Unix socket.
type remote struct {
	t      *testing.T
	token  *softhsm.Token
	socket string
	cmd    *exec.Cmd
}

// serve starts p11-kit server on the socket.
func (r *remote) serve() {
	r.t.Helper()
	_ = os.Remove(r.socket)
	r.cmd = exec.Command("p11-kit", "server", "--foreground", "--name", r.socket, "--provider", r.token.Module, "pkcs11:")
	r.cmd.Env = append(os.Environ(), r.token.Env()...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has a child for each client
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, patience, func() error {
		_, err := os.Stat(r.socket)
		return err
	})
}

// kill is kill -9 for the server and its children.
func (r *remote) kill() {
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	_ = r.cmd.Wait()
}

// A remote module that is killed and comes back is used again, without a restart of ours.
// Debian 12's p11-kit remotes neither ECDH nor GCM: this is about signatures.
// Its client library was seen to hang for good instead of answering, which only a process of
// its own survives.
func TestRemoteModuleKilledAndBack(t *testing.T) {
	for _, where := range []hsm.Isolation{hsm.NoIsolation, hsm.ProcessIsolation} {
		t.Run(string(where), func(t *testing.T) { testRemoteModule(t, where) })
	}
}

func testRemoteModule(t *testing.T, where hsm.Isolation) {
	if _, err := os.Stat(remoteClient); err != nil {
		t.Fatal("install p11-kit and p11-kit-modules: ", err)
	}
	r := &remote{t: t, token: softhsm.New(t), socket: filepath.Join(t.TempDir(), "p11")}
	tav := newMaterial("tav", hsm.TAVSigning)
	operate(t, r.token, func(o *operator) { o.importKey(tav); o.fill(49) })
	r.serve()
	t.Cleanup(func() { r.kill() })
	t.Setenv("P11_KIT_SERVER_ADDRESS", "unix:path="+r.socket)

	// Each caller of its C_GetFunctionList gets a client of its own, with a login of its
	// own. Behind the fault module it is one.
	client := faultmodule.New(t, remoteClient)
	log := &lockedBuffer{}
	h, err := hsm.Start(context.Background(), hsm.Failover, []hsm.Config{{
		Name: "remote", Module: client.Path, TokenLabel: r.token.Label, PINFile: r.token.PINFile, DataDir: t.TempDir(),
		Keyring: &hsm.Keyring{Environment: "test", Keys: []hsm.Key{tav.pinned("remote")}}, KeepAlive: time.Hour, SignaturesOnly: true, Isolation: where,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		t.Logf("log:\n%s", lastLines(log.String(), 12))
	})
	if err := h.Ready(); err != nil {
		t.Fatal(err)
	}
	var ok, failed, wrong atomic.Int64
	sign := func() error {
		digest := sha256.Sum256([]byte("remote"))
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		sig, err := h.Sign(ctx, "tav", digest[:], crypto.SHA256)
		if err != nil {
			failed.Add(1)
			return err
		}
		if rsa.VerifyPKCS1v15(&tav.rsa.PublicKey, crypto.SHA256, digest[:], sig) != nil {
			wrong.Add(1)
		}
		ok.Add(1)
		return nil
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range clients {
		running.Add(1)
		go func() {
			defer running.Done()
			pause := time.NewTicker(thinkTime)
			defer pause.Stop()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if sign() != nil {
					<-pause.C
				}
			}
		}()
	}
	more := func() {
		want := ok.Load() + 100
		eventually(t, patience, func() error {
			if ok.Load() < want {
				return errors.New("too few signatures")
			}
			return nil
		})
	}
	more()
	r.kill()
	eventually(t, patience, func() error {
		if h.Ready() == nil {
			return errors.New("ready without its module")
		}
		return nil
	})
	<-time.After(2 * time.Second)
	r.serve()
	back := time.Now()
	took := eventually(t, patience, sign)
	more()
	close(stop)
	running.Wait()
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d wrong signatures", n)
	}
	t.Logf("remote module killed -9 at %s and back 2 s later: %d signatures, %d refused, first success %v after it was back",
		back.Format(time.TimeOnly), ok.Load(), failed.Load(), took)
}
