package hsm

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>

// What is needed of PKCS#11 v2.40 (base, 3). A function list is a version and then the
// functions in the order of pkcs11f.h, which later versions only lengthen (3.6); the
// numbers are places in it.
typedef unsigned char CK_BYTE;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;
typedef struct {
	CK_BYTE version[2];
	void (*at[68])(void);
} CK_FUNCTION_LIST;
enum { AT_GetAttributeValue = 24, AT_Encrypt = 30, AT_Decrypt = 34, AT_DigestFinal = 41, AT_Sign = 43 };

#ifndef RTLD_NOLOAD
#define RTLD_NOLOAD 0
#endif

// functions_of gives the function list of a module that this process has loaded, or
// NULL. The handle is not given back: the module stays.
static CK_FUNCTION_LIST *functions_of(const char *path) {
	CK_FUNCTION_LIST *list = NULL;
	CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
	void *module = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	if (module != NULL)
		*(void **)&get = dlsym(module, "C_GetFunctionList"); // POSIX's way round ISO C
	if (get == NULL || get(&list) != 0)
		return NULL;
	return list;
}

// call is C_Encrypt, C_Decrypt or C_Sign, whose parameters are the same, or
// C_DigestFinal, which has no input.
static CK_RV call(CK_FUNCTION_LIST *list, int at, CK_ULONG session, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *room) {
	if (at == AT_DigestFinal)
		return ((CK_RV (*)(CK_ULONG, CK_BYTE *, CK_ULONG *))list->at[at])(session, out, room);
	return ((CK_RV (*)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *))list->at[at])(session, in, n, out, room);
}

// attribute is C_GetAttributeValue for one attribute. Its CK_ATTRIBUTE stands here, since Go
// memory may not hold pointers to Go memory over a call.
static CK_RV attribute(CK_FUNCTION_LIST *list, CK_ULONG session, CK_ULONG object, CK_ULONG type, CK_BYTE *out, CK_ULONG *room) {
	struct { CK_ULONG type; void *value; CK_ULONG length; } a = {type, out, *room};
	CK_RV rv = ((CK_RV (*)(CK_ULONG, CK_ULONG, void *, CK_ULONG))list->at[AT_GetAttributeValue])(session, object, &a, 1);
	*room = a.length;
	return rv;
}
*/
import "C"

import (
	"errors"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/secret"
)

// sized calls a module's functions with a buffer that is known to be large enough
// (PKCS#11 v2.40 base, 5.2), in memory of ours. The binding asks for the length first
// and then lets the module write into memory of its own:
//
//   - that is a call more, which a network HSM pays with a round trip;
//   - a value that was read stays in memory that is freed without being overwritten;
//   - NSS leaves GCM's tag out of the length it answers, so that C_Encrypt fails;
//   - a failed C_Decrypt loses the binding's buffer (v1.1.2), and what is not lost is
//     freed with the key or the clear text still in it.
type sized struct{ list *C.CK_FUNCTION_LIST }

// sizedFor takes the functions of the module at path, which the binding has loaded.
func sizedFor(path string) (sized, error) {
	name := append([]byte(path), 0)
	list := C.functions_of((*C.char)(unsafe.Pointer(&name[0])))
	if list == nil {
		return sized{}, errors.New("it gives no function list")
	}
	return sized{list}, nil
}

// encrypt is C_Encrypt for AES-GCM.
func (f sized) encrypt(s pkcs11.SessionHandle, plaintext []byte) ([]byte, error) {
	return f.call("C_Encrypt", C.AT_Encrypt, s, plaintext, len(plaintext)+gcmTag)
}

// encryptBlocks is C_Encrypt for a cipher whose output is as long as its input.
func (f sized) encryptBlocks(s pkcs11.SessionHandle, plaintext []byte) ([]byte, error) {
	return f.call("C_Encrypt", C.AT_Encrypt, s, plaintext, len(plaintext))
}

// decrypt is C_Decrypt. The plaintext is shorter than its ciphertext, but SoftHSM wants
// room for the tag too.
func (f sized) decrypt(s pkcs11.SessionHandle, ciphertext []byte) ([]byte, error) {
	return f.call("C_Decrypt", C.AT_Decrypt, s, ciphertext, len(ciphertext))
}

// sign is C_Sign for a signature or MAC of at most room bytes.
func (f sized) sign(s pkcs11.SessionHandle, data []byte, room int) ([]byte, error) {
	return f.call("C_Sign", C.AT_Sign, s, data, room)
}

// digestFinal is C_DigestFinal for a digest of at most room bytes.
func (f sized) digestFinal(s pkcs11.SessionHandle, room int) ([]byte, error) {
	return f.call("C_DigestFinal", C.AT_DigestFinal, s, nil, room)
}

// attribute is C_GetAttributeValue for one attribute of at most room bytes.
func (f sized) attribute(s pkcs11.SessionHandle, h handle, typ uint, room int) ([]byte, error) {
	return taken("C_GetAttributeValue", room, func(out *C.CK_BYTE, n *C.CK_ULONG) C.CK_RV {
		return C.attribute(f.list, C.CK_ULONG(s), C.CK_ULONG(h), C.CK_ULONG(typ), out, n)
	})
}

func (f sized) call(name string, at C.int, s pkcs11.SessionHandle, in []byte, room int) ([]byte, error) {
	return taken(name, room, func(out *C.CK_BYTE, n *C.CK_ULONG) C.CK_RV {
		return C.call(f.list, at, C.CK_ULONG(s), pointer(in), C.CK_ULONG(len(in)), out, n)
	})
}

// taken gives what the function wrote into a buffer of room bytes. What it wrote before
// it failed (text whose tag proved wrong) or behind its answer is overwritten. The error
// is an *Error.
func taken(name string, room int, call func(out *C.CK_BYTE, n *C.CK_ULONG) C.CK_RV) ([]byte, error) {
	out := make([]byte, max(room, 1)) // without a buffer it would tell the length
	n := C.CK_ULONG(room)
	rv := uint(call(pointer(out), &n))
	if rv == pkcs11.CKR_OK && n > C.CK_ULONG(room) {
		rv = pkcs11.CKR_BUFFER_TOO_SMALL // a length beyond what it was given
	}
	if rv != pkcs11.CKR_OK {
		secret.Wipe(out)
		return nil, &Error{Op: name, Code: rv}
	}
	secret.Wipe(out[n:])
	return out[:n:n], nil
}

// pointer points to the beginning of b, or to some byte if b is empty: modules refuse
// a null pointer.
func pointer(b []byte) *C.CK_BYTE {
	if len(b) == 0 {
		b = make([]byte, 1)
	}
	return (*C.CK_BYTE)(unsafe.Pointer(&b[0]))
}
