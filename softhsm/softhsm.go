// Package softhsm makes private, throw-away SoftHSM tokens, so that code which
// speaks PKCS#11 can be developed and tested against a real module instead of a
// mock.
//
// SoftHSM (https://www.softhsm.org) is a PKCS#11 module that keeps its tokens in
// files. An installed SoftHSM reads one configuration, /etc/softhsm2.conf or the
// user's own, and puts every token in one place. This package uses neither: a
// token made here has its own configuration, token directory and random PINs,
// all in a directory that the caller names, and goes away with that directory.
//
// In a test, one line gives a token that is initialised and has a PIN:
//
//	func TestSign(t *testing.T) {
//		token := softhsm.New(t)
//		module := pkcs11.New(token.Module)
//		if err := module.Initialize(); err != nil { … }
//		defer module.Finalize()
//		// … find the slot by token.Serial, open a session …
//		err := module.Login(session, pkcs11.CKU_USER, token.PIN())
//	}
//
// A development server keeps its token between runs:
//
//	token, err := softhsm.Create(filepath.Join(dataDir, "token"), "dev")
//	if err != nil { … }
//	err = token.Setenv()
//
// # The directory
//
// Create fills a directory with
//
//	softhsm2.conf   names tokens/ by its absolute path: the directory cannot be moved
//	pin, so-pin     the PINs of user and security officer, mode 0600, no newline
//	tokens/         SoftHSM's own files, mode 0700
//
// and leaves whatever else is there alone. Each piece is made under another name
// and renamed into place when whole, so a crash leaves something that the next
// Create completes. Processes that create in one directory at the same time wait
// for each other.
//
// # One module, one configuration, one process
//
// SoftHSM reads SOFTHSM2_CONF once, in C_Initialize, and keeps one state per
// process. So at any time a process can use the tokens of one configuration only,
// and tests in one test binary that use SoftHSM run one after the other: [New]
// sets the variable through t.Setenv, which refuses t.Parallel. Whoever
// initialised the module finalizes it before the next test initialises it; a test
// that forgets makes the next one see the wrong tokens. For two tokens at the same
// time use [Token.Add], which puts a second token beside the first.
//
// Tokens are initialised by a child process, softhsm2-util, never by loading the
// module into this one, so making a token is safe while the process has the module
// open for another. The PINs reach the child through a pseudo-terminal: a command
// line or an environment can be read by others on the machine.
//
// # What is not promised
//
// These tokens hold no secret worth keeping. The PIN lies beside the token, as
// clear text, and [Token.PIN] hands it out as a string. Nothing is synced to disk:
// after a power cut, remove the directory and make another.
package softhsm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// ErrNotInstalled is wrapped by errors that say SoftHSM's module or its tool
// softhsm2-util is not on this machine.
var ErrNotInstalled = errors.New("SoftHSM is not installed")

// moduleEnv names SoftHSM's module explicitly and wins over every usual place.
const moduleEnv = "SOFTHSM2_MODULE"

// usualPlaces are the patterns under which distributions install the module, the
// most specific first. The wildcard is the multiarch directory of Debian.
var usualPlaces = []string{
	"/usr/lib/softhsm/libsofthsm2.so",           // Debian, Ubuntu, Alpine, Arch
	"/usr/lib/*-linux-*/softhsm/libsofthsm2.so", // Debian multiarch
	"/usr/lib64/softhsm/libsofthsm2.so",         // openSUSE
	"/usr/lib64/pkcs11/libsofthsm2.so",          // Fedora, RHEL
	"/usr/lib64/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/usr/lib/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",    // from source; Homebrew on Intel
	"/opt/homebrew/lib/softhsm/libsofthsm2.so", // Homebrew on Apple silicon
	"/home/linuxbrew/.linuxbrew/lib/softhsm/libsofthsm2.so",
	"/opt/local/lib/softhsm/libsofthsm2.so", // MacPorts
}

// Find returns the path of SoftHSM's PKCS#11 module: the file that the environment
// variable SOFTHSM2_MODULE names, else the first one in the places where
// distributions install it. The error says what to install and is
// [ErrNotInstalled].
func Find() (module string, err error) {
	if named := os.Getenv(moduleEnv); named != "" {
		if !isFile(named) {
			return "", fmt.Errorf("%w at %s, the file that %s names", ErrNotInstalled, named, moduleEnv)
		}
		return named, nil
	}
	for _, place := range usualPlaces {
		found, _ := filepath.Glob(place) // the patterns are constants: Glob cannot fail
		for _, f := range found {
			if isFile(f) {
				return f, nil
			}
		}
	}
	return "", fmt.Errorf("%w: libsofthsm2.so is in none of the usual places; %s, or set %s to its path",
		ErrNotInstalled, installHint(), moduleEnv)
}

// findTool returns the path of softhsm2-util: from PATH, else beside a usual
// prefix (a service's PATH may lack /usr/local/bin or Homebrew's).
func findTool() (string, error) {
	if tool, err := exec.LookPath("softhsm2-util"); err == nil {
		return tool, nil
	}
	for _, dir := range []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin", "/opt/local/bin"} {
		if tool := filepath.Join(dir, "softhsm2-util"); isFile(tool) {
			return tool, nil
		}
	}
	return "", fmt.Errorf("%w: softhsm2-util, which initialises tokens, is not in PATH; %s", ErrNotInstalled, installHint())
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// installHint says how to install SoftHSM here.
func installHint() string {
	if runtime.GOOS == "darwin" {
		return "install it with: brew install softhsm"
	}
	for _, manager := range []struct{ name, command string }{
		{"apt-get", "apt-get install softhsm2"},
		{"dnf", "dnf install softhsm"},
		{"apk", "apk add softhsm"},
		{"zypper", "zypper install softhsm"},
		{"pacman", "pacman -S softhsm"},
	} {
		if _, err := exec.LookPath(manager.name); err == nil {
			return "install it with: " + manager.command
		}
	}
	return "install it with: apt-get install softhsm2 (Debian, Ubuntu), dnf install softhsm (Fedora), apk add softhsm (Alpine), brew install softhsm (macOS)"
}
