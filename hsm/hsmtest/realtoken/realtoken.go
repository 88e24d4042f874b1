// Package realtoken gives tests tokens of real PKCS#11 modules beside SoftHSM: each knows
// other mechanisms, answers other codes, and differs wherever the standard leaves room.
//
//	on := realtoken.NSS(t)           // on every machine that runs the tests
//	on, err := realtoken.TPM2(t)     // where it is installed; the error says what is missing
//
// They are described as SoftHSM's tokens are, as far as they have such files. A token goes
// away with its test, and so do the processes behind it.
package realtoken

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/mintmark/mintmark/softhsm"
)

// first finds the first file that one of the patterns matches.
func first(patterns ...string) (string, bool) {
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[0], true
		}
	}
	return "", false
}

// wrapperSource is a PKCS#11 module that forwards to another one and gives C_Initialize
// its parameters in pReserved, where crypto11 and miekg/pkcs11 have nothing to say. NSS
// looks for one pointer more behind CK_C_INITIALIZE_ARGS, which must be null.
const wrapperSource = `
#include <dlfcn.h>
typedef unsigned long ul;
struct list { unsigned char version[2]; ul (*f[68])(); };
static struct list ours;
static ul (*initialize)(void *);
static ul my_initialize(void *given) {
	struct { void *mutex[4]; ul flags; const char *reserved; void *beyond; } args = {{0}, 2 /* CKF_OS_LOCKING_OK */, RESERVED, 0};
	return initialize(&args);
}
ul C_GetFunctionList(struct list **out) {
	void *lib = dlopen(MODULE, RTLD_NOW);
	ul (*get)(struct list **) = lib ? (ul (*)(struct list **))dlsym(lib, "C_GetFunctionList") : 0;
	struct list *real;
	if (!get || get(&real)) return 5; /* CKR_GENERAL_ERROR */
	ours = *real;
	initialize = (ul (*)(void *))real->f[0];
	ours.f[0] = (ul (*)())my_initialize;
	*out = &ours;
	return 0;
}
`

// wrap builds the wrapper of a module into dir.
func wrap(dir, module, reserved string) (library string, err error) {
	source, library := filepath.Join(dir, "wrapper.c"), filepath.Join(dir, "wrapper.so")
	if err := os.WriteFile(source, []byte(wrapperSource), 0o600); err != nil {
		return "", err
	}
	cc := os.Getenv("CC") // cgo's compiler, which the tests need anyway
	if cc == "" {
		cc = "cc"
	}
	out, err := exec.Command(cc, "-shared", "-fPIC", "-w", "-o", library, source, "-ldl",
		"-DMODULE="+strconv.Quote(module), "-DRESERVED="+strconv.Quote(reserved)).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the wrapper of %s: %w: %s", module, err, out)
	}
	return library, nil
}

// NSS makes a token of NSS's softoken for one test, behind a wrapper of its own. Like
// softhsm.New it fails the test if NSS is missing.
func NSS(t softhsm.TB) *softhsm.Token {
	t.Helper()
	softoken, ok := first(
		"/usr/lib/*-linux-*/libsoftokn3.so",
		"/usr/lib/*-linux-*/nss/libsoftokn3.so",
		"/usr/lib64/libsoftokn3.so",
		"/usr/lib/libsoftokn3.so",
		"/opt/homebrew/lib/libsoftokn3.dylib",
		"/usr/local/lib/libsoftokn3.dylib",
		"/home/linuxbrew/.linuxbrew/lib/libsoftokn3.so",
	)
	if !ok {
		t.Fatal("libsoftokn3 is not installed (tools/ensure.sh nss installs it)")
	}
	// NSS derives a key from the PIN for each value that it writes; one round of it does here.
	t.Setenv("NSS_MIN_MP_PBE_ITERATION_COUNT", "1")
	t.Setenv("NSS_MAX_MP_PBE_ITERATION_COUNT", "1")
	on := &softhsm.Token{Label: "NSS of the test", Dir: t.TempDir()}
	on.PINFile = filepath.Join(on.Dir, "pin")
	if err := os.WriteFile(on.PINFile, []byte("a PIN of the test"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("certutil", "-N", "-d", "sql:"+on.Dir, "-f", on.PINFile).CombinedOutput(); err != nil {
		t.Fatal(fmt.Sprintf("make an NSS database (tools/ensure.sh nss installs certutil): %v: %s", err, out))
	}
	var err error
	on.Module, err = wrap(on.Dir, softoken, fmt.Sprintf("configdir='sql:%s' flags=noModDB dbTokenDescription='%s'", on.Dir, on.Label))
	if err != nil {
		t.Fatal(err)
	}
	return on
}
