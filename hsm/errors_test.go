package hsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
	pkgerrors "github.com/pkg/errors"
)

// Every code that the recovery machine tells apart, and some of those it does not.
func TestClassOfEachCode(t *testing.T) {
	want := map[Class][]uint{
		ClassRequest: {
			pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_SENSITIVE,
			pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ACTION_PROHIBITED,
			pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_ENCRYPTED_DATA_INVALID,
			pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
			pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_INDIGESTIBLE, pkcs11.CKR_KEY_SIZE_RANGE,
			pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID,
			pkcs11.CKR_SIGNATURE_INVALID, pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT,
			pkcs11.CKR_BUFFER_TOO_SMALL, pkcs11.CKR_CURVE_NOT_SUPPORTED,
		},
		ClassSession: {
			pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_OPERATION_ACTIVE,
			pkcs11.CKR_OPERATION_NOT_INITIALIZED,
		},
		ClassLogin: {pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID},
		ClassDevice: {
			pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_TOKEN_NOT_PRESENT,
			pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
		},
		ClassSuspect: {pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY},
		ClassPIN: {
			pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED,
			pkcs11.CKR_PIN_LOCKED,
		},
		ClassExhausted: {pkcs11.CKR_SESSION_COUNT},
	}
	names := map[Class]string{
		ClassRequest: "request", ClassSession: "session", ClassLogin: "login", ClassDevice: "device",
		ClassSuspect: "suspect", ClassPIN: "pin", ClassExhausted: "exhausted",
	}
	for class, codes := range want {
		if class.String() != names[class] {
			t.Errorf("class %d is called %s, want %s", class, class, names[class])
		}
		for _, code := range codes {
			rv := pkcs11.Error(code)
			for how, err := range map[string]error{
				"bare":                rv,
				"as crypto11 wraps":   pkgerrors.WithMessage(rv, "failed"),
				"as errors.Join does": errors.Join(rv, errors.New("and another")),
			} {
				err = fmt.Errorf("outer: %w", ckr("C_X", err))
				var e *Error
				if !errors.As(err, &e) || e.Class() != class || e.Code != code || e.Op != "C_X" || classify(err) != class {
					t.Errorf("%v, %s: %v of class %v, want %v", rv, how, err, classify(err), class)
				}
			}
		}
	}
}

func TestErrorsAreWrappedOnce(t *testing.T) {
	if err := ckr("C_X", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	inner := ckr("C_Inner", pkcs11.Error(pkcs11.CKR_DEVICE_ERROR))
	if err := ckr("C_Outer", inner); err != inner {
		t.Errorf("wrapped again: %v", err)
	}
	if !strings.Contains(inner.Error(), "C_Inner") || !strings.Contains(inner.Error(), "CKR_DEVICE_ERROR") {
		t.Errorf("error reads %q", inner)
	}
	if err := ckr("C_X", errors.New("pool timed out")); classify(err) != ClassExhausted || !strings.HasPrefix(err.Error(), "C_X: ") {
		t.Errorf("error without a code is %v of class %v", err, classify(err))
	}
}
