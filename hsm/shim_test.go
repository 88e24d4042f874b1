package hsm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

// shimSource is a PKCS#11 module that forwards to another one. It writes the name of
// each C_Login, C_DestroyObject and C_Decrypt to a log. While a file says so it refuses
// to destroy what should go, or boasts of having decrypted a MiB. Built with RESERVED,
// it gives that to C_Initialize.
// CK_FUNCTION_LIST is a version and then 68 function pointers; the numbers are places
// among them (PKCS#11 v2.40, pkcs11f.h).
const shimSource = `
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
typedef unsigned long ul;
struct list { unsigned char version[2]; ul (*f[68])(); };
enum { C_Initialize = 0, C_Login = 18, C_DestroyObject = 22, C_Decrypt = 34 };
static struct list ours;
static ul (*initialize)(void *);
static ul (*login)(ul, ul, const char *, ul);
static ul (*destroy)(ul, ul);
static ul (*decrypt)(ul, char *, ul, char *, ul *);
static void note(const char *s) {
	int fd = open(DIR "/calls", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (write(fd, s, strlen(s)) < 0) _exit(99);
	close(fd);
}
static ul my_login(ul s, ul user, const char *pin, ul len) { note("C_Login\n"); return login(s, user, pin, len); }
static ul my_destroy(ul s, ul o) {
	note("C_DestroyObject\n");
	if (access(DIR "/refuse", F_OK) == 0) return 6; /* CKR_FUNCTION_FAILED */
	return destroy(s, o);
}
static ul my_decrypt(ul s, char *in, ul n, char *out, ul *room) {
	note("C_Decrypt\n");
	ul rv = decrypt(s, in, n, out, room);
	if (access(DIR "/boast", F_OK) == 0) *room = 1 << 20;
	return rv;
}
#ifdef RESERVED
/* CK_C_INITIALIZE_ARGS; NSS looks for one pointer more behind it, which must be null. */
static ul my_initialize(void *given) {
	struct { void *mutex[4]; ul flags; const char *reserved; void *beyond; } args = {{0}, 2 /* CKF_OS_LOCKING_OK */, RESERVED, 0};
	return initialize(&args);
}
#endif
ul C_GetFunctionList(struct list **out) {
	void *lib = dlopen(MODULE, RTLD_NOW);
	ul (*get)(struct list **) = lib ? (ul (*)(struct list **))dlsym(lib, "C_GetFunctionList") : 0;
	struct list *real;
	if (!get || get(&real)) return 5; /* CKR_GENERAL_ERROR */
	ours = *real;
	initialize = (ul (*)(void *))real->f[C_Initialize];
	login = (ul (*)(ul, ul, const char *, ul))real->f[C_Login];
	destroy = (ul (*)(ul, ul))real->f[C_DestroyObject];
	decrypt = (ul (*)(ul, char *, ul, char *, ul *))real->f[C_Decrypt];
#ifdef RESERVED
	ours.f[C_Initialize] = (ul (*)())my_initialize;
#endif
	ours.f[C_Login] = (ul (*)())my_login;
	ours.f[C_Decrypt] = (ul (*)())my_decrypt;
	ours.f[C_DestroyObject] = (ul (*)())my_destroy;
	*out = &ours;
	return 0;
}
`

// shim puts the counting module before the token's own; calls tells how often a
// function was called. A file called refuse or boast beside the module has it misbehave.
func shim(t testing.TB, on *softhsm.Token, defines ...string) (calls func(function string) int) {
	t.Helper()
	dir := t.TempDir()
	source, library := filepath.Join(dir, "shim.c"), filepath.Join(dir, "shim.so")
	if err := os.WriteFile(source, []byte(shimSource), 0o600); err != nil {
		t.Fatal(err)
	}
	cc := os.Getenv("CC") // cgo's compiler, which this package needs anyway
	if cc == "" {
		cc = "cc"
	}
	args := []string{"-shared", "-fPIC", "-w", "-o", library, source, "-ldl",
		"-DMODULE=" + strconv.Quote(on.Module), "-DDIR=" + strconv.Quote(dir)}
	build := exec.Command(cc, append(args, defines...)...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	on.Module = library
	return func(function string) int {
		b, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(b), function+"\n")
	}
}
