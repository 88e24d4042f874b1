//go:build ignore

// A PKCS#11 module that stands before another one: it forwards every call, counts it,
// and answers wrongly, late or not at all when a rule says so. The Go package beside
// this file builds it, embeds it and controls it; its package comment describes what
// the rules mean. (The first line keeps the go command from compiling this file.)
//
// Counters and rules live in a file that every process concerned maps, so that a test
// controls the module inside a server it started. Whatever is in that file is read and
// written with atomic operations only.
//
// Where the module finds its settings: in FILE.conf beside its own file, then in the
// environment.
//
//	module         FAULTMODULE_MODULE         the real module; required
//	control        FAULTMODULE_CONTROL        the control file; without it: no rules
//	softhsm2_conf  FAULTMODULE_SOFTHSM2_CONF  SOFTHSM2_CONF for the real C_Initialize
//	reserved       FAULTMODULE_PRESERVED      pReserved for the real C_Initialize

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// The standard's headers want these five from whoever includes them. Everything is
// hidden (see the compiler's flags) except the functions they declare.
#define CK_PTR *
#define NULL_PTR 0
#define CK_DECLARE_FUNCTION(type, name) __attribute__((visibility("default"))) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#include "pkcs11.h"

// pkcs11f.h names each function once, in the order of CK_FUNCTION_LIST.
enum function {
#define CK_PKCS11_FUNCTION_INFO(name) F_##name,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
	FUNCTIONS
};

static const char *const function_names[FUNCTIONS] = {
#define CK_PKCS11_FUNCTION_INFO(name) #name,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
};

// ---- The control file. control.go declares the same; both sides check the size. ----

#define MAGIC UINT64_C(0x314c5541464d4d31) // changes with the layout
#define MAX_RULES 4096
#define ANY_FUNCTION UINT64_MAX
#define FOREVER UINT64_MAX

enum rule_flag {
	RULE_ANSWERS = 1,       // answer rv
	RULE_HANGS = 2,         // hold the call until the rule is cleared
	RULE_FORWARDS = 4,      // do the call for real before answering rv
	RULE_LEAVES_ACTIVE = 8, // do not end the operation in the real module
	RULE_CORRUPTS = 16,     // change a bit of the output
	RULE_CRASHES = 32       // end the process by SIGSEGV
};

typedef _Atomic uint64_t word;

// A rule's place is used once. Go writes the other fields before id, and after that
// only clears id; seen and fired are ours.
struct rule {
	word id; // not 0: in force
	word function;
	word flags;
	word rv;
	word delay_ns;
	word after; // matching calls to let pass first
	word times; // calls to act upon then, or FOREVER
	word seen;  // matching calls so far
	word fired; // calls acted upon so far
};

struct control {
	word magic;
	word size;
	// The rules in force are among [rule_low, rule_count).
	word rule_low;
	word rule_count;
	// Commands: Go adds 1; each process obeys when it sees a number it has not seen.
	word drop_sessions;
	word logout;
	word finalize;
	// Counters.
	word objects_created;
	word objects_destroyed;
	word sessions_opened;
	word sessions_closed;
	word injected;
	word finalized_in_flight;
	struct {
		char name[32];
		word calls;
		word failures;
	} function[FUNCTIONS];
	struct rule rule[MAX_RULES];
};

static struct control *ctl; // set once by load
static CK_FUNCTION_LIST_PTR inner; // set once by load; NULL if that failed

static void count(word *counter, uint64_t n) { atomic_fetch_add(counter, n); }

// ---- Loading ----

static struct {
	char module[PATH_MAX];
	char control[PATH_MAX];
	char softhsm2_conf[PATH_MAX];
	char reserved[4096];
} setting;

// complain explains on stderr what a return value cannot.
static void complain(const char *what, const char *detail) {
	fprintf(stderr, "faultmodule: %s: %s\n", what, detail);
}

static void set(char *to, size_t size, const char *value) {
	if (value != NULL && snprintf(to, size, "%s", value) >= (int)size) {
		complain("setting too long", value);
		to[0] = 0;
	}
}

static void read_settings(void) {
	struct {
		const char *key, *env;
		char *to;
		size_t size;
	} known[] = {
		{"module", "FAULTMODULE_MODULE", setting.module, sizeof setting.module},
		{"control", "FAULTMODULE_CONTROL", setting.control, sizeof setting.control},
		{"softhsm2_conf", "FAULTMODULE_SOFTHSM2_CONF", setting.softhsm2_conf, sizeof setting.softhsm2_conf},
		{"reserved", "FAULTMODULE_PRESERVED", setting.reserved, sizeof setting.reserved},
	};
	const size_t n = sizeof known / sizeof *known;
	for (size_t i = 0; i < n; i++)
		set(known[i].to, known[i].size, getenv(known[i].env));

	// The file wins: it belongs to this copy of the library, and a process that loads
	// two copies has one environment.
	Dl_info self;
	char path[PATH_MAX], line[PATH_MAX + 64];
	if (!dladdr((void *)&inner, &self) ||
	    snprintf(path, sizeof path, "%s.conf", self.dli_fname) >= (int)sizeof path)
		return;
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, "\n")] = 0;
		char *value = strchr(line, '=');
		if (value == NULL)
			continue;
		*value++ = 0;
		for (size_t i = 0; i < n; i++)
			if (strcmp(line, known[i].key) == 0)
				set(known[i].to, known[i].size, value);
	}
	fclose(f);
}

// map_control maps the control file, or memory of the same form if there is none.
static bool map_control(void) {
	struct stat st;
	void *p;
	if (setting.control[0] == 0) {
		p = mmap(NULL, sizeof *ctl, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return false;
		ctl = p;
		return true;
	}
	int fd = open(setting.control, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		complain(setting.control, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	p = st.st_size == (off_t)sizeof *ctl
		? mmap(NULL, sizeof *ctl, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
		: MAP_FAILED;
	close(fd);
	if (p == MAP_FAILED) {
		complain(setting.control, "not a control file of this version");
		return false;
	}
	ctl = p;
	if (ctl->magic != MAGIC || ctl->size != sizeof *ctl) {
		complain(setting.control, "not a control file of this version");
		return false;
	}
	for (int i = 0; i < FUNCTIONS; i++)
		if (strncmp(ctl->function[i].name, function_names[i], sizeof ctl->function[i].name) != 0) {
			complain("the control file and pkcs11f.h disagree on", function_names[i]);
			return false;
		}
	return true;
}

static CK_FUNCTION_LIST function_list;

// The commands this process has obeyed. Owner: module_lock, held exclusively.
static struct {
	uint64_t drop_sessions, logout, finalize;
} seen;

static void load_once(void) {
	read_settings();
	if (!map_control())
		return;
	// What was commanded before this process loaded the module is not for it.
	seen.drop_sessions = ctl->drop_sessions;
	seen.logout = ctl->logout;
	seen.finalize = ctl->finalize;

	// RTLD_LOCAL: the real module has the same names as this one. It is never closed,
	// as a call may be held in it when this library is; loading it again is harmless.
	void *lib = dlopen(setting.module, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL || setting.module[0] == 0) {
		complain("cannot load the real module", lib == NULL ? dlerror() : "none is set");
		return;
	}
	CK_C_GetFunctionList get;
	*(void **)&get = dlsym(lib, "C_GetFunctionList"); // POSIX's own way round ISO C
	CK_FUNCTION_LIST_PTR list = NULL;
	if (get == NULL || get(&list) != CKR_OK || list == NULL) {
		complain(setting.module, "not a PKCS#11 module");
		return;
	}
	function_list.version = list->version;
	inner = list;
}

static bool load(void) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load_once);
	return inner != NULL;
}

// ---- Sessions: which are open, for the counters and for commands that need one. ----

// Owner: session_lock, which is never held across a call of the real module.
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;
static struct session {
	CK_SESSION_HANDLE handle;
	CK_SLOT_ID slot;
} *sessions;
static size_t session_count, session_room;

static void session_opened(CK_SESSION_HANDLE handle, CK_SLOT_ID slot) {
	count(&ctl->sessions_opened, 1);
	pthread_mutex_lock(&session_lock);
	if (session_count == session_room) {
		size_t room = session_room ? 2 * session_room : 64;
		struct session *more = realloc(sessions, room * sizeof *more);
		if (more == NULL)
			abort(); // a test's process; a wrong count would be worse
		sessions = more;
		session_room = room;
	}
	sessions[session_count++] = (struct session){handle, slot};
	pthread_mutex_unlock(&session_lock);
}

// sessions_closed forgets and counts one session, those of a slot, or all.
enum which { ONE, OF_SLOT, ALL };

static void sessions_closed(enum which which, CK_ULONG value) {
	pthread_mutex_lock(&session_lock);
	for (size_t i = session_count; i-- > 0;) {
		if ((which == ONE && sessions[i].handle != value) || (which == OF_SLOT && sessions[i].slot != value))
			continue;
		sessions[i] = sessions[--session_count];
		count(&ctl->sessions_closed, 1);
	}
	pthread_mutex_unlock(&session_lock);
}

// ---- Commands ----

// Whoever calls the real module holds this lock shared, so that who holds it
// exclusively knows that nobody is inside: SoftHSM uses freed memory if its sessions
// are closed or it is finalized under a call. A call that a rule holds does not have
// the lock. Writers come first, or a busy process would never be commanded.
#ifdef PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
static pthread_rwlock_t module_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
#else
static pthread_rwlock_t module_lock = PTHREAD_RWLOCK_INITIALIZER;
#endif

// C_CloseAllSessions on every slot.
static void drop_all_sessions(void) {
	CK_SLOT_ID slots[256];
	CK_ULONG n = sizeof slots / sizeof *slots;
	if (inner->C_GetSlotList(CK_TRUE, slots, &n) != CKR_OK)
		return;
	for (CK_ULONG i = 0; i < n; i++)
		if (inner->C_CloseAllSessions(slots[i]) == CKR_OK)
			sessions_closed(OF_SLOT, slots[i]);
}

// C_Logout for every token: of several sessions with one token the first succeeds.
static void logout_all_tokens(void) {
	pthread_mutex_lock(&session_lock);
	size_t n = session_count;
	CK_SESSION_HANDLE *handles = calloc(n + 1, sizeof *handles);
	if (handles == NULL)
		abort();
	for (size_t i = 0; i < n; i++)
		handles[i] = sessions[i].handle;
	pthread_mutex_unlock(&session_lock);
	for (size_t i = 0; i < n; i++)
		inner->C_Logout(handles[i]);
	free(handles);
}

// obey carries out commands that this process has not seen. Any call may be the one
// that finds a command, and does it before it goes on itself: there is no thread of
// our own that a fork would lose.
static void obey(void) {
	pthread_rwlock_wrlock(&module_lock);
	uint64_t drop = ctl->drop_sessions, logout = ctl->logout, finalize = ctl->finalize;
	if (drop != seen.drop_sessions)
		drop_all_sessions();
	if (logout != seen.logout)
		logout_all_tokens();
	if (finalize != seen.finalize && inner->C_Finalize(NULL_PTR) == CKR_OK)
		sessions_closed(ALL, 0);
	seen.drop_sessions = drop;
	seen.logout = logout;
	seen.finalize = finalize;
	pthread_rwlock_unlock(&module_lock);
}

// lock_module takes the lock shared, with no command left to obey.
static void lock_module(void) {
	for (;;) {
		pthread_rwlock_rdlock(&module_lock);
		if (ctl->drop_sessions == seen.drop_sessions && ctl->logout == seen.logout &&
		    ctl->finalize == seen.finalize)
			return;
		pthread_rwlock_unlock(&module_lock);
		obey();
	}
}

// ---- Rules ----

static uint64_t now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

// hold keeps a call back for the rule's delay or, if it hangs, until it is cleared;
// clearing it also cuts a delay short. It looks once a millisecond: a wake-up between
// processes would need more than POSIX has everywhere.
static void hold(struct rule *r, uint64_t id, bool hang, uint64_t delay) {
	const uint64_t millisecond = UINT64_C(1000000), end = now_ns() + delay;
	while (r->id == id) {
		uint64_t now = now_ns(), left = millisecond;
		if (!hang) {
			if (now >= end)
				return;
			if (end - now < left)
				left = end - now;
		}
		nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
	}
}

// A call on its way.
struct call {
	enum function function;
	bool locked;  // holds module_lock
	bool forward; // the real module does it
	bool end;     // instead, the real module's operation is to be ended
	bool answer;  // the caller gets rv, whatever happened
	CK_RV rv;
	struct rule *corrupts; // the rule that wants the output changed, or NULL
};

// apply_rules holds the call as the rules say. The first rule that answers is the
// last that is looked at.
static void apply_rules(struct call *c) {
	for (uint64_t i = ctl->rule_low; i < ctl->rule_count; i++) {
		struct rule *r = &ctl->rule[i];
		uint64_t id = r->id;
		if (id == 0 || (r->function != ANY_FUNCTION && r->function != (uint64_t)c->function))
			continue;
		uint64_t nth = atomic_fetch_add(&r->seen, 1);
		if (nth < r->after || (r->times != FOREVER && nth - r->after >= r->times))
			continue;
		count(&r->fired, 1);
		count(&ctl->injected, 1);
		uint64_t flags = r->flags;
		hold(r, id, flags & RULE_HANGS, r->delay_ns);
		if (flags & RULE_CRASHES) {
			int *volatile nowhere = NULL;
			*nowhere = 0;
		}
		if (flags & RULE_CORRUPTS)
			c->corrupts = r;
		if (flags & RULE_ANSWERS) {
			c->answer = true;
			c->rv = r->rv;
			c->forward = flags & RULE_FORWARDS;
			c->end = !(flags & (RULE_FORWARDS | RULE_LEAVES_ACTIVE));
			return;
		}
	}
}

// Calls between begin and finish, held ones included.
static _Atomic int in_flight;

// begin counts a call, applies the rules and takes the lock.
static void begin(struct call *c, enum function function, bool lock) {
	*c = (struct call){.function = function};
	if (!load()) {
		c->answer = true;
		c->rv = CKR_GENERAL_ERROR;
		return;
	}
	atomic_fetch_add(&in_flight, 1);
	count(&ctl->function[function].calls, 1);
	c->forward = true;
	apply_rules(c);
	if (lock) {
		lock_module();
		c->locked = true;
	}
}

// finish returns what the caller gets, given what the real module said.
static CK_RV finish(struct call *c, CK_RV rv) {
	if (c->answer)
		rv = c->rv;
	if (inner == NULL)
		return rv;
	if (c->locked)
		pthread_rwlock_unlock(&module_lock);
	if (rv != CKR_OK)
		count(&ctl->function[c->function].failures, 1);
	atomic_fetch_sub(&in_flight, 1);
	return rv;
}

// corrupt changes the last bit of the output, if a rule says so. That is a wrong
// signature and a wrong authentication tag, but still a number below an RSA modulus.
// A call that only asked for the length has no output: it does not count.
static void corrupt(struct call *c, CK_BYTE_PTR out, const CK_ULONG *out_len) {
	struct rule *r = c->corrupts;
	if (r == NULL)
		return;
	if (out != NULL_PTR && *out_len > 0) {
		out[*out_len - 1] ^= 1;
		return;
	}
	atomic_fetch_sub(&r->seen, 1);
	atomic_fetch_sub(&r->fired, 1);
	atomic_fetch_sub(&ctl->injected, 1);
}

// ---- Ending operations ----
//
// A real device that fails in C_Sign ends the operation: the session can start another.
// Had the real module not seen the call, the next C_SignInit would get
// CKR_OPERATION_ACTIVE, a fault of ours. So it does the work, into memory of ours that
// is wiped: there is no other way to end an operation in PKCS#11 v2.40.

typedef CK_RV (*data_function)(CK_SESSION_HANDLE, CK_BYTE_PTR, CK_ULONG, CK_BYTE_PTR, CK_ULONG_PTR);
typedef CK_RV (*final_function)(CK_SESSION_HANDLE, CK_BYTE_PTR, CK_ULONG_PTR);

// scratch allocates room for a result. SLACK is for modules that ask for less than they
// need or refuse to say. SoftHSM 2.6.1 asks for ULONG_MAX when a decryption with padding
// has had no data; nothing is that long.
#define SLACK 65536
#define LONGEST 0x40000000

static CK_BYTE_PTR scratch(CK_RV rv, CK_ULONG *size) {
	*size = (rv == CKR_OK && *size < LONGEST ? *size : 0) + SLACK;
	CK_BYTE_PTR out = malloc(*size);
	if (out == NULL)
		abort();
	return out;
}

static void discard(CK_BYTE_PTR out, CK_ULONG size) {
	volatile CK_BYTE *p = out;
	for (CK_ULONG i = 0; i < size; i++)
		p[i] = 0;
	free(out);
}

static void end_data(data_function f, CK_SESSION_HANDLE session, CK_BYTE_PTR in, CK_ULONG in_len) {
	CK_ULONG size = 0;
	CK_RV rv = f(session, in, in_len, NULL_PTR, &size);
	CK_BYTE_PTR out = scratch(rv, &size);
	CK_ULONG n = size;
	f(session, in, in_len, out, &n);
	discard(out, size);
}

// end_parts ends an operation in parts with its C_…Final. If that never has a buffer
// long enough, whole, the one-call function of the same operation, ends it as an error.
static void end_parts(final_function final, data_function whole, CK_SESSION_HANDLE session) {
	CK_ULONG size = 0;
	CK_RV rv = final(session, NULL_PTR, &size);
	CK_BYTE_PTR out = scratch(rv, &size);
	CK_ULONG n = size;
	if (final(session, out, &n) == CKR_BUFFER_TOO_SMALL) {
		CK_BYTE in = 0;
		n = size;
		whole(session, &in, sizeof in, out, &n);
	}
	discard(out, size);
}

static void end_encrypt(CK_SESSION_HANDLE s) { end_parts(inner->C_EncryptFinal, inner->C_Encrypt, s); }
static void end_decrypt(CK_SESSION_HANDLE s) { end_parts(inner->C_DecryptFinal, inner->C_Decrypt, s); }
static void end_digest(CK_SESSION_HANDLE s) { end_parts(inner->C_DigestFinal, inner->C_Digest, s); }
static void end_sign(CK_SESSION_HANDLE s) { end_parts(inner->C_SignFinal, inner->C_Sign, s); }

// A signature of one byte is wrong for every mechanism, and ends the verification.
static void end_verify(CK_SESSION_HANDLE session) {
	CK_BYTE wrong = 0;
	inner->C_VerifyFinal(session, &wrong, sizeof wrong);
}

// ---- The 68 functions ----

// CALL defines a function: END ends the operation if the call is not to be forwarded,
// DONE is what to count when the real module did it.
#define CALL(name, parameters, arguments, END, DONE)         \
	CK_RV name parameters {                              \
		struct call c;                               \
		CK_RV rv = CKR_OK;                           \
		begin(&c, F_##name, true);                   \
		if (c.forward) {                             \
			if ((rv = inner->name arguments) == CKR_OK) { \
				DONE;                        \
			}                                    \
		} else if (c.end) {                          \
			END;                                 \
		}                                            \
		return finish(&c, rv);                       \
	}
#define NOTHING (void)0
#define PLAIN(name, parameters, arguments) CALL(name, parameters, arguments, NOTHING, NOTHING)
#define ENDS(name, parameters, arguments, END) CALL(name, parameters, arguments, END, NOTHING)
#define OUTPUT(name, parameters, arguments, END) CALL(name, parameters, arguments, END, corrupt(&c, out, out_len))
#define COUNTS(name, parameters, arguments, DONE) CALL(name, parameters, arguments, NOTHING, DONE)

// C_GetFunctionList is outside the rules, and succeeds even without a real module:
// miekg/pkcs11 does not survive its failing. C_Initialize fails then.
CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
	if (list == NULL_PTR)
		return CKR_ARGUMENTS_BAD;
	if (load())
		count(&ctl->function[F_C_GetFunctionList].calls, 1);
	*list = &function_list;
	return CKR_OK;
}

static CK_RV initialize(CK_VOID_PTR given) {
	// NSS reads its parameters where the standard has pReserved, and one pointer more
	// behind it, which must be NULL.
	struct {
		CK_C_INITIALIZE_ARGS args;
		void *beyond;
	} extended = {0};
	if (setting.reserved[0] != 0) {
		if (given != NULL_PTR)
			extended.args = *(CK_C_INITIALIZE_ARGS *)given;
		extended.args.pReserved = setting.reserved;
		given = &extended;
	}
	if (setting.softhsm2_conf[0] == 0)
		return inner->C_Initialize(given);

	// The variable is the process's, and so is the lock: other copies of this library
	// set it too, perhaps at the same time. Where there is no /proc there is no lock.
	int lock = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (lock >= 0)
		while (flock(lock, LOCK_EX) != 0 && errno == EINTR)
			;
	static const char name[] = "SOFTHSM2_CONF";
	const char *was = getenv(name);
	char *kept = was == NULL ? NULL : strdup(was);
	setenv(name, setting.softhsm2_conf, 1);
	CK_RV rv = inner->C_Initialize(given);
	if (kept == NULL)
		unsetenv(name);
	else
		setenv(name, kept, 1);
	free(kept);
	if (lock >= 0)
		close(lock);
	return rv;
}

CK_RV C_Initialize(CK_VOID_PTR args) {
	struct call c;
	CK_RV rv = CKR_OK;
	begin(&c, F_C_Initialize, false);
	if (c.forward) {
		// Commands from before are for a module that is no more, or will be refused.
		obey();
		pthread_rwlock_wrlock(&module_lock);
		rv = initialize(args);
		pthread_rwlock_unlock(&module_lock);
	}
	return finish(&c, rv);
}

// C_Finalize waits until no call is inside the real module. Without us there might be
// a crash there; with us there is a count for the test to look at.
CK_RV C_Finalize(CK_VOID_PTR reserved) {
	struct call c;
	CK_RV rv = CKR_OK;
	begin(&c, F_C_Finalize, false);
	if (c.forward) {
		if (in_flight > 1)
			count(&ctl->finalized_in_flight, 1);
		pthread_rwlock_wrlock(&module_lock);
		if ((rv = inner->C_Finalize(reserved)) == CKR_OK)
			sessions_closed(ALL, 0);
		pthread_rwlock_unlock(&module_lock);
	}
	return finish(&c, rv);
}

// C_WaitForSlotEvent may block for ever, so it does not hold the lock.
CK_RV C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID_PTR slot, CK_VOID_PTR reserved) {
	struct call c;
	CK_RV rv = CKR_OK;
	begin(&c, F_C_WaitForSlotEvent, false);
	if (c.forward)
		rv = inner->C_WaitForSlotEvent(flags, slot, reserved);
	return finish(&c, rv);
}

// General, slots and tokens
PLAIN(C_GetInfo, (CK_INFO_PTR info), (info))
PLAIN(C_GetSlotList, (CK_BBOOL present, CK_SLOT_ID_PTR list, CK_ULONG_PTR n), (present, list, n))
PLAIN(C_GetSlotInfo, (CK_SLOT_ID slot, CK_SLOT_INFO_PTR info), (slot, info))
PLAIN(C_GetTokenInfo, (CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info), (slot, info))
PLAIN(C_GetMechanismList, (CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR n), (slot, list, n))
PLAIN(C_GetMechanismInfo, (CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info), (slot, type, info))
PLAIN(C_InitToken, (CK_SLOT_ID slot, CK_UTF8CHAR_PTR pin, CK_ULONG pin_len, CK_UTF8CHAR_PTR label), (slot, pin, pin_len, label))
PLAIN(C_InitPIN, (CK_SESSION_HANDLE s, CK_UTF8CHAR_PTR pin, CK_ULONG pin_len), (s, pin, pin_len))
PLAIN(C_SetPIN, (CK_SESSION_HANDLE s, CK_UTF8CHAR_PTR old, CK_ULONG old_len, CK_UTF8CHAR_PTR new, CK_ULONG new_len), (s, old, old_len, new, new_len))

// Sessions
COUNTS(C_OpenSession, (CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR s), (slot, flags, application, notify, s),
	session_opened(*s, slot))
COUNTS(C_CloseSession, (CK_SESSION_HANDLE s), (s), sessions_closed(ONE, s))
COUNTS(C_CloseAllSessions, (CK_SLOT_ID slot), (slot), sessions_closed(OF_SLOT, slot))
PLAIN(C_GetSessionInfo, (CK_SESSION_HANDLE s, CK_SESSION_INFO_PTR info), (s, info))
PLAIN(C_GetOperationState, (CK_SESSION_HANDLE s, CK_BYTE_PTR state, CK_ULONG_PTR state_len), (s, state, state_len))
PLAIN(C_SetOperationState, (CK_SESSION_HANDLE s, CK_BYTE_PTR state, CK_ULONG state_len, CK_OBJECT_HANDLE encryption, CK_OBJECT_HANDLE authentication), (s, state, state_len, encryption, authentication))
PLAIN(C_Login, (CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG pin_len), (s, user, pin, pin_len))
PLAIN(C_Logout, (CK_SESSION_HANDLE s), (s))

// Objects
COUNTS(C_CreateObject, (CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR object), (s, a, n, object),
	count(&ctl->objects_created, 1))
COUNTS(C_CopyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR copy), (s, object, a, n, copy),
	count(&ctl->objects_created, 1))
COUNTS(C_DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object), (s, object),
	count(&ctl->objects_destroyed, 1))
PLAIN(C_GetObjectSize, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ULONG_PTR size), (s, object, size))
PLAIN(C_GetAttributeValue, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR a, CK_ULONG n), (s, object, a, n))
PLAIN(C_SetAttributeValue, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR a, CK_ULONG n), (s, object, a, n))
PLAIN(C_FindObjectsInit, (CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR a, CK_ULONG n), (s, a, n))
PLAIN(C_FindObjects, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE_PTR objects, CK_ULONG max, CK_ULONG_PTR n), (s, objects, max, n))
ENDS(C_FindObjectsFinal, (CK_SESSION_HANDLE s), (s), inner->C_FindObjectsFinal(s))

// Encryption
PLAIN(C_EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key), (s, m, key))
OUTPUT(C_Encrypt, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_data(inner->C_Encrypt, s, in, in_len))
OUTPUT(C_EncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_encrypt(s))
OUTPUT(C_EncryptFinal, (CK_SESSION_HANDLE s, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, out, out_len),
	end_encrypt(s))
PLAIN(C_DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key), (s, m, key))
OUTPUT(C_Decrypt, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_data(inner->C_Decrypt, s, in, in_len))
OUTPUT(C_DecryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_decrypt(s))
OUTPUT(C_DecryptFinal, (CK_SESSION_HANDLE s, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, out, out_len),
	end_decrypt(s))

// Digests
PLAIN(C_DigestInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m), (s, m))
OUTPUT(C_Digest, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_data(inner->C_Digest, s, in, in_len))
ENDS(C_DigestUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len), (s, in, in_len),
	end_digest(s))
ENDS(C_DigestKey, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key), (s, key),
	end_digest(s))
OUTPUT(C_DigestFinal, (CK_SESSION_HANDLE s, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, out, out_len),
	end_digest(s))

// Signatures
PLAIN(C_SignInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key), (s, m, key))
OUTPUT(C_Sign, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_data(inner->C_Sign, s, in, in_len))
ENDS(C_SignUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len), (s, in, in_len),
	end_sign(s))
OUTPUT(C_SignFinal, (CK_SESSION_HANDLE s, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, out, out_len),
	end_sign(s))
PLAIN(C_SignRecoverInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key), (s, m, key))
OUTPUT(C_SignRecover, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	end_data(inner->C_SignRecover, s, in, in_len))
PLAIN(C_VerifyInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key), (s, m, key))
ENDS(C_Verify, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR signature, CK_ULONG signature_len), (s, in, in_len, signature, signature_len),
	inner->C_Verify(s, in, in_len, signature, signature_len))
ENDS(C_VerifyUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len), (s, in, in_len),
	end_verify(s))
ENDS(C_VerifyFinal, (CK_SESSION_HANDLE s, CK_BYTE_PTR signature, CK_ULONG signature_len), (s, signature, signature_len),
	end_verify(s))
PLAIN(C_VerifyRecoverInit, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key), (s, m, key))
OUTPUT(C_VerifyRecover, (CK_SESSION_HANDLE s, CK_BYTE_PTR signature, CK_ULONG signature_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, signature, signature_len, out, out_len),
	end_data(inner->C_VerifyRecover, s, signature, signature_len))

// Two operations at once
OUTPUT(C_DigestEncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	(end_digest(s), end_encrypt(s)))
OUTPUT(C_DecryptDigestUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	(end_decrypt(s), end_digest(s)))
OUTPUT(C_SignEncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	(end_sign(s), end_encrypt(s)))
OUTPUT(C_DecryptVerifyUpdate, (CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, in, in_len, out, out_len),
	(end_decrypt(s), end_verify(s)))

// Keys
COUNTS(C_GenerateKey, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR key), (s, m, a, n, key),
	count(&ctl->objects_created, 1))
COUNTS(C_GenerateKeyPair, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR pub, CK_ULONG pub_n, CK_ATTRIBUTE_PTR priv, CK_ULONG priv_n, CK_OBJECT_HANDLE_PTR pub_key, CK_OBJECT_HANDLE_PTR priv_key), (s, m, pub, pub_n, priv, priv_n, pub_key, priv_key),
	count(&ctl->objects_created, 2))
OUTPUT(C_WrapKey, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR out_len), (s, m, wrapping, key, out, out_len), NOTHING)
COUNTS(C_UnwrapKey, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE unwrapping, CK_BYTE_PTR in, CK_ULONG in_len, CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR key), (s, m, unwrapping, in, in_len, a, n, key),
	count(&ctl->objects_created, 1))
COUNTS(C_DeriveKey, (CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE base, CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR key), (s, m, base, a, n, key),
	count(&ctl->objects_created, 1))

// Random numbers and the functions of earlier versions
PLAIN(C_SeedRandom, (CK_SESSION_HANDLE s, CK_BYTE_PTR seed, CK_ULONG seed_len), (s, seed, seed_len))
PLAIN(C_GenerateRandom, (CK_SESSION_HANDLE s, CK_BYTE_PTR out, CK_ULONG out_len), (s, out, out_len))
PLAIN(C_GetFunctionStatus, (CK_SESSION_HANDLE s), (s))
PLAIN(C_CancelFunction, (CK_SESSION_HANDLE s), (s))

static CK_FUNCTION_LIST function_list = {
	.version = {2, 40}, // until load takes over the real module's
#define CK_PKCS11_FUNCTION_INFO(name) .name = name,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
};
