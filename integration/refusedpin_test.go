package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// A refused PIN file is the same one while its path, inode and time of change are. Any of
// them changed, somebody has been at it, and it is tried once more.
func TestRefusedPINFileIsAnotherOneWhen(t *testing.T) {
	for name, tt := range map[string]struct {
		touch func(t *testing.T, path string)
		tried uint64
	}{
		"nothing happens": {func(*testing.T, string) {}, 1},
		"it is read": {func(t *testing.T, path string) {
			if _, err := os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"its mode changes": {func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"a new file has its content and time": {func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			writePIN(t, path+".new")
			if err := errors.Join(os.Chtimes(path+".new", st.ModTime(), st.ModTime()), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}, 2},
		"it is written in place": {func(t *testing.T, path string) {
			writePIN(t, path)
			if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Second)); err != nil { // whatever the clock's grain
				t.Fatal(err)
			}
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.cfg.PINFile = filepath.Join(t.TempDir(), "pin")
			writePIN(t, r.cfg.PINFile)
			for _, before := range []func(*testing.T, string){func(*testing.T, string) {}, tt.touch, func(*testing.T, string) {}} {
				before(t, r.cfg.PINFile)
				if _, err := hsm.Open(context.Background(), r.cfg); !errors.Is(err, hsm.ErrLoginRefused) {
					t.Fatalf("with a wrong PIN: %v", err)
				}
			}
			if n := r.fault.Counts()["C_Login"]; n != tt.tried {
				t.Errorf("C_Login was called %d times, want %d", n, tt.tried)
			}
		})
	}
}

// writePIN writes a wrong PIN.
func writePIN(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("wrong-pin"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Of two members with one PIN file one tries it; the other one learns from it.
func TestRefusedPINFileOfTwoMembersIsTriedOnce(t *testing.T) {
	p := newPair(t)
	path := filepath.Join(t.TempDir(), "pin")
	writePIN(t, path)
	for i := range p.configs {
		p.configs[i].PINFile = path
	}
	h, err := hsm.Start(context.Background(), hsm.Spread, p.configs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for _, m := range h.Members() { // for which Start waits five seconds
		eventually(t, patience, func() error { return refused(m) })
	}
	if n := p.modules[0].Counts()["C_Login"] + p.modules[1].Counts()["C_Login"]; n != 1 {
		t.Errorf("C_Login was called %d times", n)
	}
}
