package realtoken

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

// startWithin is how long a process behind a token may take to start.
const startWithin = 20 * time.Second

// TPM2 gives a token of tpm2-pkcs11 over a TPM in software (swtpm). Between them stands
// tpm2-abrmd, with a D-Bus of its own: without it the TPM runs out of places for keys. The
// error says why it cannot be had.
func TPM2(t softhsm.TB) (*softhsm.Token, error) {
	t.Helper()
	module, ok := first("/usr/lib/*-linux-*/pkcs11/libtpm2_pkcs11.so", "/usr/lib64/pkcs11/libtpm2_pkcs11.so", "/usr/lib/pkcs11/libtpm2_pkcs11.so")
	if !ok {
		return nil, errors.New("not installed (apt-get install libtpm2-pkcs11-1)")
	}
	for tool, in := range map[string]string{"swtpm": "swtpm", "tpm2_ptool": "libtpm2-pkcs11-tools", "tpm2_getcap": "tpm2-tools", "tpm2-abrmd": "tpm2-abrmd libtss2-tcti-tabrmd0", "dbus-daemon": "dbus"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is not installed (apt-get install %s)", tool, in)
		}
	}
	dir := t.TempDir()
	if err := startTPM(t, dir); err != nil {
		return nil, err
	}
	t.Setenv("TPM2_PKCS11_STORE", dir)
	t.Setenv("TPM2_PKCS11_LOG_LEVEL", "0") // it speaks to standard error of what it only tries
	on := &softhsm.Token{Module: module, Label: "tpm of the test", Dir: dir, PINFile: filepath.Join(dir, "pin")}
	const pin = "a PIN of the test"
	for _, args := range [][]string{
		{"init"},
		{"addtoken", "--pid=1", "--label=" + on.Label, "--userpin=" + pin, "--sopin=" + pin + "'s officer"},
	} {
		if out, err := exec.Command("tpm2_ptool", append(args, "--path="+dir)...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("tpm2_ptool %s: %w: %s", args[0], err, out)
		}
	}
	return on, os.WriteFile(on.PINFile, []byte(pin), 0o600)
}

// startTPM starts the TPM and what stands before it, and points the module and the tools
// there.
func startTPM(t softhsm.TB, dir string) error {
	port, err := freePorts()
	if err != nil {
		return err
	}
	tpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=tcp,bindaddr=127.0.0.1,port="+strconv.Itoa(port), "--ctrl", "type=tcp,bindaddr=127.0.0.1,port="+strconv.Itoa(port+1))
	if err := start(t, tpm); err != nil {
		return err
	}
	if err := answers(port + 1); err != nil { // the port that it opens last, and that takes several callers
		return err
	}
	bus := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address=1")
	out, err := bus.StdoutPipe()
	if err != nil {
		return err
	}
	if err := start(t, bus); err != nil {
		return err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("dbus-daemon: %w", err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(address))
	manager := exec.Command("tpm2-abrmd", "--session", "--allow-root", "--tcti=swtpm:host=127.0.0.1,port="+strconv.Itoa(port))
	if err := start(t, manager); err != nil {
		return err
	}
	for _, name := range []string{"TPM2TOOLS_TCTI", "TPM2_PKCS11_TCTI"} {
		t.Setenv(name, "tabrmd:bus_type=session")
	}
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if exec.Command("tpm2_getcap", "properties-fixed").Run() == nil {
			return nil
		}
	}
	return errors.New("tpm2-abrmd started and does not answer")
}

// start starts a process that ends with the test.
func start(t softhsm.TB, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return nil
}

// freePorts gives the first of two ports in a row that nobody listens on: the TPM's own
// and that of its control channel, which clients look for behind it.
func freePorts() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+1))
		_ = l.Close()
		if err == nil {
			return port, next.Close()
		}
	}
	return 0, errors.New("no two free ports in a row")
}

// answers waits until somebody listens on a port.
func answers(port int) error {
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return c.Close()
		}
	}
	return errors.New("the TPM started and does not answer")
}
