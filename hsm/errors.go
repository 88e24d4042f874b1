package hsm

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/pkcs11"
)

// Class says what an error means for the one who has to act on it. It is decided by
// the CKR code alone (PKCS#11 v2.40 base, 5.1), never by text.
type Class int

// The classes.
const (
	// ClassRequest: this request cannot be served by this token as it stands
	// (mechanism, template, arguments, data). The session is sound; a retry is futile.
	ClassRequest Class = iota
	// ClassSession: the session is gone or poisoned. A new one may serve at once.
	ClassSession
	// ClassLogin: the login or the handles are gone. They must be made anew.
	ClassLogin
	// ClassDevice: the token or its module is gone.
	ClassDevice
	// ClassSuspect: CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED, which modules answer for
	// bad input too (SoftHSM 2.6.1 for a bad GCM tag), CKR_HOST_MEMORY, which NSS 3.87
	// answers for a key that a logout has closed, and codes that the standard does not
	// know, such as vendors' for a lost link. They alone prove nothing.
	ClassSuspect
	// ClassPIN: the PIN was refused or is locked. Never retried.
	ClassPIN
	// ClassExhausted: no session to be had at the moment.
	ClassExhausted
)

var classNames = [...]string{"request", "session", "login", "device", "suspect", "pin", "exhausted"}

// String is the class's name as it stands in logs and metrics.
func (c Class) String() string { return classNames[c] }

// classOf gives the class of a CKR code.
func classOf(rv pkcs11.Error) Class {
	switch rv {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_OPERATION_ACTIVE,
		pkcs11.CKR_OPERATION_NOT_INITIALIZED:
		return ClassSession
	case pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID:
		return ClassLogin
	case pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_MEMORY,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return ClassDevice
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE,
		pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED:
		return ClassPIN
	case pkcs11.CKR_SESSION_COUNT:
		return ClassExhausted
	}
	if slices.Contains(requestCodes, rv) {
		return ClassRequest
	}
	return ClassSuspect
}

// requestCodes are the codes that speak of what was asked for.
var requestCodes = []pkcs11.Error{
	pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_BUFFER_TOO_SMALL, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
	pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
	pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED,
	pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID,
	pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE,
	pkcs11.CKR_SIGNATURE_INVALID, pkcs11.CKR_SIGNATURE_LEN_RANGE,
	pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_INDIGESTIBLE,
	pkcs11.CKR_KEY_NEEDED, pkcs11.CKR_KEY_NOT_NEEDED, pkcs11.CKR_KEY_CHANGED, pkcs11.CKR_KEY_NOT_WRAPPABLE, pkcs11.CKR_KEY_UNEXTRACTABLE,
}

// Error is what a PKCS#11 call answered.
type Error struct {
	Op   string // the PKCS#11 function, or what was being done through crypto11
	Code uint   // the CKR code
}

// Error is the operation and the code's name.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Op, pkcs11.Error(e.Code)) }

// Class is the error's class.
func (e *Error) Class() Class { return classOf(pkcs11.Error(e.Code)) }

// ckr wraps an error of the bindings as *Error, if it carries a CKR code.
func ckr(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	var rv pkcs11.Error
	if errors.As(err, &rv) {
		return &Error{Op: op, Code: uint(rv)}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// classify gives the class of any error from this package; an error without a code
// (a pool that ran dry inside crypto11) counts as exhausted.
func classify(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class()
	}
	return ClassExhausted
}

// unavailable is an error after which a later try may succeed. Whoever answers a
// caller finds it by its method RetryAfter.
type unavailable struct {
	err   error
	after time.Duration
}

func (u *unavailable) Error() string { return u.err.Error() }
func (u *unavailable) Unwrap() error { return u.err }

// RetryAfter is how long a caller should wait before it tries again.
func (u *unavailable) RetryAfter() time.Duration { return u.after }

// ErrClosed is returned once Close has begun.
var ErrClosed = errors.New("token is closed")

// errClosed is ErrClosed as callers get it: another process may soon serve.
var errClosed = &unavailable{err: ErrClosed, after: time.Second}

// ErrBusy is returned when a call found no free place before its deadline.
var ErrBusy = errors.New("no free place on the token before the deadline")

// ErrTokenNotFound is returned when no present token, or more than one, answers to
// the configured label and serial number.
var ErrTokenNotFound = errors.New("token not found")

// ErrModule is returned for a file that cannot be loaded as a PKCS#11 library.
var ErrModule = errors.New("load PKCS#11 module")

// ErrLoginRefused is returned when the token refused the PIN. It must not be tried
// again: most tokens lock after a few attempts.
var ErrLoginRefused = errors.New("token refused the PIN")

// A KeyError says why a key cannot be used.
type KeyError struct {
	Name    string     // the key's name in the keyring, or its purpose when no key has it
	Problem KeyProblem // what is wrong
}

// KeyProblem is what is wrong with a key.
type KeyProblem string

// The problems a key can have.
const (
	KeyNotListed KeyProblem = "not in the keyring"
	KeyMissing   KeyProblem = "not on the token"
	KeyAmbiguous KeyProblem = "on the token more than once under its CKA_ID"
	KeyLost      KeyProblem = "on the token differs from its pin"
	KeyUnpinned  KeyProblem = "has no pin for this token"
	KeyRetired   KeyProblem = "is retired"
	KeyNext      KeyProblem = "is next in line and makes nothing yet"
	KeyNotBound  KeyProblem = "is for a role that this process does not have"
	KeyUnknown   KeyProblem = "is not known while the member is down"
	// KeyUnreadable: crypto11 reads less than this package; a CKA_EC_POINT, for one, only as
	// a DER OCTET STRING.
	KeyUnreadable KeyProblem = "is not in a form that can be signed with"
)

// Error names the key and the problem.
func (e *KeyError) Error() string { return fmt.Sprintf("key %s %s", e.Name, e.Problem) }

// RetryAfter makes an unusable key a matter of availability to callers: it degrades
// what needs the key until an operator mends the token or the keyring.
func (e *KeyError) RetryAfter() time.Duration { return time.Minute }

// Known marks the error as one that was reported when the key was found so; see
// DownError.Known.
func (e *KeyError) Known() bool { return true }
