// Package faultmodule makes a PKCS#11 module that watches another one and breaks it
// on purpose, so that tests can see what a service does when its HSM fails.
//
// The module is a shared library that forwards every call to a real module, such as
// SoftHSM's. It counts the calls, the objects and the sessions, and while rules are in
// force it answers with errors, late, wrongly, or not at all:
//
//	token := softhsm.New(t)
//	fault := faultmodule.New(t, token.Module)
//	module := pkcs11.New(fault.Path) // instead of token.Module
//	…
//	fault.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_DEVICE_ERROR, Times: 1})
//	fault.DropSessions()
//	hang := fault.Hang("C_Sign", faultmodule.Forever)
//	hang.Await(1) // a call is stuck now
//	hang.Clear()  // and goes on
//
// The module may be loaded by the test itself or by a server that the test starts: all
// a process needs is the path. Rules and counters are in a file that both map, so the
// test controls the module while the server runs.
//
// # What is counted, and when
//
// A call counts when it comes, before any rule. So does a call that only asks for a
// length, with a null output buffer: miekg/pkcs11 makes one before every C_Sign,
// C_Encrypt and so on, and a rule of one call for C_Sign acts upon that. (A rule that
// corrupts waits for a call that has output.)
//
// Objects count as created when C_GenerateKey, C_GenerateKeyPair (two), C_DeriveKey,
// C_CreateObject, C_CopyObject or C_UnwrapKey succeeded, and as destroyed when
// C_DestroyObject did. Session objects that vanish with their session are not seen.
//
// # What an injected error does
//
// The real module does not see the call, with one exception. An error in C_Sign,
// C_DigestUpdate and the like ends the operation that C_SignInit or C_DigestInit began,
// as PKCS#11 wants, so the module ends it in the real module by doing the work and
// throwing the result away. [Rule].LeaveActive leaves it, as a broken driver might.
// [Rule].Forward has the work done and then loses the answer.
//
// # What the module does to timing
//
// Calls run as concurrently as without it, but commands ([Module.DropSessions] and the
// like) and C_Finalize wait until no call is inside the real module: SoftHSM crashes
// otherwise. So a program that finalizes under its own calls does not crash here;
// [Totals].FinalizedInFlight tells of it. A call that a rule holds is not inside. Delays
// and the end of a hang are exact to about a millisecond.
package faultmodule

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Config describes a module that needs more than a path.
type Config struct {
	// Inner is the path of the real module.
	Inner string
	// OwnCopy loads a copy of the file Inner. Two modules in one process that load the
	// same file share one state; with a copy each they are two HSMs.
	OwnCopy bool
	// SoftHSMConf is what SOFTHSM2_CONF is set to while the real module's C_Initialize
	// runs, if not empty. The variable is the process's: modules of this package wait for
	// each other, other threads that read the environment do not know of it.
	SoftHSMConf string
	// Reserved is the string that the real C_Initialize gets as pReserved, if not
	// empty. NSS's softoken takes its parameters there.
	Reserved string
}

// Module is one fault module: a library file of its own, so its state is its own too,
// and the rules and counters that control it wherever it is loaded. Its methods may be
// called from several goroutines; those that can fail end the test.
type Module struct {
	// Path is the library to load.
	Path string

	t       testing.TB
	config  Config
	control string // the control file's path

	mu  sync.Mutex // serialises changes of the rules
	ctl *control
}

// New makes a module in front of the module inner. It lasts as long as the test; calls
// that hang are let go at its end.
func New(t testing.TB, inner string) *Module {
	t.Helper()
	return NewWith(t, Config{Inner: inner})
}

// NewWith is New with more to say.
func NewWith(t testing.TB, config Config) *Module {
	t.Helper()
	m, err := newModule(t, config)
	if err != nil {
		t.Fatalf("faultmodule: %v", err)
	}
	t.Cleanup(m.Clear)
	return m
}

// newModule writes the library, the control file and the library's settings into a
// directory of the test's.
func newModule(t testing.TB, config Config) (*Module, error) {
	dir := t.TempDir()
	if config.OwnCopy {
		own := filepath.Join(dir, "inner.so")
		if err := copyFile(own, config.Inner); err != nil {
			return nil, err
		}
		config.Inner = own
	}
	path, err := BuildTo(dir)
	if err != nil {
		return nil, err
	}
	m := &Module{Path: path, t: t, config: config, control: filepath.Join(dir, "control")}
	if m.ctl, err = createControl(m.control); err != nil {
		return nil, err
	}
	settings, err := m.settings()
	if err != nil {
		return nil, err
	}
	return m, os.WriteFile(path+".conf", []byte(settings), 0o600)
}

// settings is the file that the library looks for beside itself.
func (m *Module) settings() (string, error) {
	var b strings.Builder
	for _, s := range m.variables() {
		if strings.Contains(s.value, "\n") {
			return "", fmt.Errorf("%s: line break in %q", s.key, s.value)
		}
		fmt.Fprintf(&b, "%s=%s\n", s.key, s.value)
	}
	return b.String(), nil
}

type variable struct{ key, env, value string }

func (m *Module) variables() []variable {
	return []variable{
		{"module", "FAULTMODULE_MODULE", m.config.Inner},
		{"control", "FAULTMODULE_CONTROL", m.control},
		{"softhsm2_conf", "FAULTMODULE_SOFTHSM2_CONF", m.config.SoftHSMConf},
		{"reserved", "FAULTMODULE_PRESERVED", m.config.Reserved},
	}
}

// Env returns the module's settings as environment variables. The library at Path has
// them in a file beside it and needs no variables; a library made by [Build] or
// [BuildTo] does.
func (m *Module) Env() []string {
	var env []string
	for _, v := range m.variables() {
		env = append(env, v.env+"="+v.value)
	}
	return env
}

// Setenv sets what Env returns for the rest of the test.
func (m *Module) Setenv(t testing.TB) {
	t.Helper()
	for _, v := range m.variables() {
		t.Setenv(v.env, v.value)
	}
}

// DropSessions has every session closed (C_CloseAllSessions), as a device does that
// lost its connection. Each process that has the module loaded now does so before its
// next call, in which it finds its session gone.
func (m *Module) DropSessions() { m.ctl.dropSessions.Add(1) }

// Logout has every token logged out (C_Logout), in the manner of DropSessions.
func (m *Module) Logout() { m.ctl.logout.Add(1) }

// Uninitialize has the real module finalized (C_Finalize), in the manner of
// DropSessions: calls return CKR_CRYPTOKI_NOT_INITIALIZED until the program calls
// C_Initialize again, as they do after a driver restarted itself.
func (m *Module) Uninitialize() { m.ctl.finalize.Add(1) }

// copyFile copies the file from, following links, to a new file that can be loaded.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
