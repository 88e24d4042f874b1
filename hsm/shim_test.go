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
// each C_Login, C_DestroyObject, C_Decrypt and C_Sign to a log, and of each C_OpenSession
// and C_CloseSession that succeeds. While a file says so it
// refuses to destroy what should go (refuse), boasts of having decrypted a MiB (boast),
// keeps who signs inside (hold), is lost to logins and signatures (lost), signs no digest
// of SHA-384 or SHA-512 as it is (strict), gives CKA_EC_POINT without the OCTET STRING
// around it (bare), or opens no read-only sessions (writers).
// CK_FUNCTION_LIST is a version and then 68 function pointers; the numbers are places
// among them (PKCS#11 v2.40, pkcs11f.h).
const shimSource = `
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
typedef unsigned long ul;
struct list { unsigned char version[2]; ul (*f[68])(); };
struct attribute { ul type; void *value; ul length; };
enum { C_OpenSession = 12, C_CloseSession = 13, C_Login = 18, C_DestroyObject = 22, C_GetAttributeValue = 24, C_Decrypt = 34, C_Sign = 43 };
static struct list ours;
static ul (*open_session)(ul, ul, void *, void *, ul *);
static ul (*close_session)(ul);
static ul (*login)(ul, ul, const char *, ul);
static ul (*destroy)(ul, ul);
static ul (*decrypt)(ul, char *, ul, char *, ul *);
static ul (*sign)(ul, char *, ul, char *, ul *);
static ul (*get_attributes)(ul, ul, struct attribute *, ul);
static int says(const char *file) { return access(file, F_OK) == 0; }
static void note(const char *s) {
	int fd = open(DIR "/calls", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (write(fd, s, strlen(s)) < 0) _exit(99);
	close(fd);
}
static ul my_open_session(ul slot, ul flags, void *app, void *notify, ul *s) {
	if (!(flags & 2) && says(DIR "/writers")) return 6; /* CKR_FUNCTION_FAILED */
	ul rv = open_session(slot, flags, app, notify, s);
	if (rv == 0) note("C_OpenSession\n");
	return rv;
}
static ul my_close_session(ul s) {
	ul rv = close_session(s);
	if (rv == 0) note("C_CloseSession\n");
	return rv;
}
static ul my_login(ul s, ul user, const char *pin, ul len) {
	note("C_Login\n");
	if (says(DIR "/lost")) return 0x32; /* CKR_DEVICE_REMOVED */
	return login(s, user, pin, len);
}
static ul my_sign(ul s, char *in, ul n, char *out, ul *room) {
	note("C_Sign\n");
	while (says(DIR "/hold")) usleep(1000);
	if (says(DIR "/lost")) return 0x32; /* CKR_DEVICE_REMOVED */
	if ((n == 48 || n == 64) && says(DIR "/strict")) return 0x21; /* CKR_DATA_LEN_RANGE */
	return sign(s, in, n, out, room);
}
static ul my_attributes(ul s, ul o, struct attribute *a, ul n) {
	ul rv = get_attributes(s, o, a, n);
	if (rv == 0 && says(DIR "/bare"))
		for (; n > 0; n--, a++)
			if (a->type == 0x181 && a->value && a->length == 67) /* CKA_EC_POINT of P-256 */
				memmove(a->value, (char *)a->value + 2, a->length = 65);
	return rv;
}
static ul my_destroy(ul s, ul o) {
	note("C_DestroyObject\n");
	if (says(DIR "/refuse")) return 6; /* CKR_FUNCTION_FAILED */
	return destroy(s, o);
}
static ul my_decrypt(ul s, char *in, ul n, char *out, ul *room) {
	note("C_Decrypt\n");
	ul rv = decrypt(s, in, n, out, room);
	if (says(DIR "/boast")) *room = 1 << 20;
	return rv;
}
ul C_GetFunctionList(struct list **out) {
	void *lib = dlopen(MODULE, RTLD_NOW);
	ul (*get)(struct list **) = lib ? (ul (*)(struct list **))dlsym(lib, "C_GetFunctionList") : 0;
	struct list *real;
	if (!get || get(&real)) return 5; /* CKR_GENERAL_ERROR */
	ours = *real;
	open_session = (ul (*)(ul, ul, void *, void *, ul *))real->f[C_OpenSession];
	close_session = (ul (*)(ul))real->f[C_CloseSession];
	login = (ul (*)(ul, ul, const char *, ul))real->f[C_Login];
	destroy = (ul (*)(ul, ul))real->f[C_DestroyObject];
	decrypt = (ul (*)(ul, char *, ul, char *, ul *))real->f[C_Decrypt];
	sign = (ul (*)(ul, char *, ul, char *, ul *))real->f[C_Sign];
	get_attributes = (ul (*)(ul, ul, struct attribute *, ul))real->f[C_GetAttributeValue];
	ours.f[C_OpenSession] = (ul (*)())my_open_session;
	ours.f[C_CloseSession] = (ul (*)())my_close_session;
	ours.f[C_Login] = (ul (*)())my_login;
	ours.f[C_Decrypt] = (ul (*)())my_decrypt;
	ours.f[C_DestroyObject] = (ul (*)())my_destroy;
	ours.f[C_Sign] = (ul (*)())my_sign;
	ours.f[C_GetAttributeValue] = (ul (*)())my_attributes;
	*out = &ours;
	return 0;
}
`

// shim puts the counting module before the token's own; calls tells how often a
// function was called. misbehave says how it may be told to do otherwise.
func shim(t testing.TB, on *softhsm.Token) (calls func(function string) int) {
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
	build := exec.Command(cc, "-shared", "-fPIC", "-w", "-o", library, source, "-ldl",
		"-DMODULE="+strconv.Quote(on.Module), "-DDIR="+strconv.Quote(dir))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	on.Module = library
	return func(function string) int { return strings.Count(callLog(t, on), function+"\n") }
}

// callLog is what a shimmed module has noted so far.
func callLog(t testing.TB, on *softhsm.Token) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(on.Module), "calls"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// sessionsOf says how many sessions of a shimmed module are open, and how many were at
// most. SoftHSM does not say (ulSessionCount is CK_UNAVAILABLE_INFORMATION).
func sessionsOf(t testing.TB, on *softhsm.Token) (open, most int) {
	t.Helper()
	for line := range strings.Lines(callLog(t, on)) {
		switch strings.TrimSpace(line) {
		case "C_OpenSession":
			open++
			most = max(most, open)
		case "C_CloseSession":
			open--
		}
	}
	return open, most
}

// misbehave has a shimmed module do what shimSource says of the word, until the returned
// function ends it.
func misbehave(t testing.TB, on *softhsm.Token, word string) (end func()) {
	t.Helper()
	file := filepath.Join(filepath.Dir(on.Module), word)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(file) }
}
