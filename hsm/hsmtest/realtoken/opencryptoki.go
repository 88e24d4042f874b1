package realtoken

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

const (
	ockFactoryLabel = "IBM OS PKCS#11"
	ockLabel        = "mintmark modules"
	ockFactorySO    = "87654321" // every new openCryptoki token's
	ockSO           = "76543210"
	ockFirstPIN     = "12348765"
	ockPIN          = "11223344" // this token holds nothing worth keeping; 8 digits at most
	ockPIDFile      = "/run/pkcsslotd.pid"
)

// OpenCryptoki gives openCryptoki's software token. There is one a machine, behind a
// daemon and owned by root: it is taken only if it has never been used, or by these tests
// alone. The error says why it cannot be had.
func OpenCryptoki(t softhsm.TB) (*softhsm.Token, error) {
	t.Helper()
	module, ok := first("/usr/lib/*-linux-*/pkcs11/libopencryptoki.so", "/usr/lib64/pkcs11/libopencryptoki.so", "/usr/lib64/opencryptoki/libopencryptoki.so")
	if !ok {
		return nil, errors.New("not installed (apt-get install opencryptoki)")
	}
	if os.Getuid() != 0 {
		return nil, errors.New("its daemon and its tools want root")
	}
	if err := startSlotDaemon(t); err != nil {
		return nil, err
	}
	slot, label, err := softwareSlot()
	if err != nil {
		return nil, err
	}
	switch label {
	case ockFactoryLabel:
		if err := initialize(slot); err != nil {
			return nil, err
		}
	case ockLabel: // of an earlier test, which has removed its keys
	default:
		return nil, fmt.Errorf("its software token is somebody's: label %q", label)
	}
	dir := t.TempDir()
	on := &softhsm.Token{Module: module, Label: ockLabel, Dir: dir, PINFile: filepath.Join(dir, "pin")}
	return on, os.WriteFile(on.PINFile, []byte(ockPIN), 0o600)
}

// initialize makes the new token this package's. The tool reads PINs from where its input
// comes, and does little before both PINs are others than the first ones.
func initialize(slot string) error {
	for _, step := range []struct {
		input string
		args  []string
	}{
		{ockFactorySO + "\n" + ockLabel + "\n", []string{"-I"}},
		{ockFactorySO + "\n" + ockSO + "\n" + ockSO + "\n", []string{"-P"}},
		{"", []string{"-u", "-S", ockSO, "-n", ockFirstPIN}},
		{"", []string{"-p", "-U", ockFirstPIN, "-n", ockPIN}},
	} {
		cmd := exec.Command("pkcsconf", append(step.args, "-c", slot)...)
		cmd.Stdin = strings.NewReader(step.input)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pkcsconf %s: %w: %s", step.args[0], err, out)
		}
	}
	return nil
}

// startSlotDaemon starts pkcsslotd for the time of the test, unless it runs.
func startSlotDaemon(t softhsm.TB) error {
	if pid, err := slotDaemon(); err == nil && syscall.Kill(pid, 0) == nil {
		return nil
	}
	if out, err := exec.Command("pkcsslotd").CombinedOutput(); err != nil { // it goes into the background when it is ready
		return fmt.Errorf("pkcsslotd: %w: %s", err, out)
	}
	t.Cleanup(func() {
		if pid, err := slotDaemon(); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	})
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if exec.Command("pkcsconf", "-t").Run() == nil {
			return nil
		}
	}
	return errors.New("pkcsslotd started and does not answer")
}

func slotDaemon() (pid int, err error) {
	b, err := os.ReadFile(ockPIDFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

var ockToken = regexp.MustCompile(`(?s)Token #(\d+) Info:\s+Label: ([^\n]*?)\s*\n.*?Model: ([^\n]*?)\s*\n`)

// softwareSlot finds the slot of the software token.
func softwareSlot() (slot, label string, err error) {
	out, err := exec.Command("pkcsconf", "-t").CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("pkcsconf -t: %w: %s", err, out)
	}
	for _, m := range ockToken.FindAllStringSubmatch(string(out), -1) {
		if strings.Contains(m[3], "Soft") {
			return m[1], m[2], nil
		}
	}
	return "", "", errors.New("none of its tokens is the software token")
}
