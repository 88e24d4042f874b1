package faultmodule

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

//go:embed faultmodule.c
var source []byte

// Build compiles the library into a directory of the test's and returns its path. It
// has no settings yet: [New] is what most tests want.
func Build(t testing.TB) string {
	t.Helper()
	path, err := BuildTo(t.TempDir())
	if err != nil {
		t.Fatalf("faultmodule: %v", err)
	}
	return path
}

// BuildTo puts the library into dir, which must exist, and returns its path. It is
// compiled once per process; each file is a module with a state of its own.
func BuildTo(dir string) (path string, err error) {
	library, err := compiled()
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "faultmodule.so")
	return path, os.WriteFile(path, library, 0o700)
}

// compiled is the library's content.
var compiled = sync.OnceValues(func() ([]byte, error) {
	compiler, err := findCompiler()
	if err != nil {
		return nil, err
	}
	headers, err := headerDir()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "faultmodule-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "faultmodule.c")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return nil, err
	}
	library := filepath.Join(dir, "faultmodule.so")
	args := []string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread",
		"-fvisibility=hidden", "-I" + headers, "-o", library, file}
	if runtime.GOOS == "linux" {
		// -Bsymbolic: our own function list names our own functions, also in a program
		// that is linked with another PKCS#11 module. -ldl: for C libraries that still
		// have dlopen apart.
		args = append(args, "-Wl,-Bsymbolic", "-ldl")
	}
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile faultmodule.c: %w\n%s", err, out)
	}
	return os.ReadFile(library)
})

// findCompiler returns $CC, gcc or cc.
func findCompiler() (string, error) {
	for _, name := range []string{os.Getenv("CC"), "gcc", "cc"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no C compiler: install gcc (tools/ensure.sh gcc)")
}

// headerDir returns the directory of OASIS's pkcs11.h, pkcs11t.h and pkcs11f.h, which
// come with the Go package for PKCS#11: the only copy this project needs.
func headerDir() (string, error) {
	cmd := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/miekg/pkcs11")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find pkcs11.h: go list: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
