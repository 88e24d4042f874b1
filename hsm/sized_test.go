package hsm

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// The buffer is large enough at the first call, whatever becomes of it: no call only
// asks for a length. A code that proves nothing is followed by two more: the key's own
// sample, and the ciphertext once again.
func TestEachOpeningIsOneDecryption(t *testing.T) {
	on := softhsm.New(t)
	_, vault, _ := stock(t, on)
	calls := shim(t, on)
	tok := open(t, on, ringOf(vault))
	ctx, iv := context.Background(), []byte("unique nonce")
	for _, size := range []int{0, 1, 16, 4096, 100_000} {
		text := bytes.Repeat([]byte("x"), size)
		sealed, err := tok.EncryptGCM(ctx, vault.Name, iv, nil, text)
		if err != nil {
			t.Fatal(err)
		}
		before := calls("C_Decrypt")
		if clear, err := tok.DecryptGCM(ctx, vault.Name, iv, nil, sealed); err != nil || !bytes.Equal(clear, text) {
			t.Errorf("opened %d bytes of %d, %v", len(clear), size, err)
		}
		sealed[0] ^= 1
		if _, err := tok.DecryptGCM(ctx, vault.Name, iv, nil, sealed); err == nil {
			t.Errorf("changed ciphertext of %d bytes opened", size)
		}
		if n := calls("C_Decrypt") - before; n != 4 {
			t.Errorf("%d bytes: %d calls for an opening, and a refusal that was looked into", size, n)
		}
	}
}

// A module that reports more than it was given room for is not believed.
func TestLengthBeyondTheBufferIsAnError(t *testing.T) {
	on := softhsm.New(t)
	_, vault, _ := stock(t, on)
	shim(t, on)
	tok := open(t, on, ringOf(vault))
	ctx, iv := context.Background(), []byte("unique nonce")
	sealed, err := tok.EncryptGCM(ctx, vault.Name, iv, nil, []byte("card"))
	if err != nil {
		t.Fatal(err)
	}
	misbehave(t, on, "boast")
	clear, err := tok.DecryptGCM(ctx, vault.Name, iv, nil, sealed)
	requireCode(t, err, pkcs11.CKR_BUFFER_TOO_SMALL)
	if clear != nil {
		t.Errorf("opened %q", clear)
	}
}

// The code of a call without the binding is the module's own, under the function's name.
func TestErrorsOfSizedCallsKeepTheirCode(t *testing.T) {
	tok := open(t, softhsm.New(t), ringOf())
	for name, call := range map[string]func(u *unit) error{
		"C_Encrypt":     func(u *unit) error { return second(u.e.sized.encrypt(u.s, nil)) },
		"C_Decrypt":     func(u *unit) error { return second(u.e.sized.decrypt(u.s, make([]byte, 32))) },
		"C_Sign":        func(u *unit) error { return second(u.e.sized.sign(u.s, nil, 32)) },
		"C_DigestFinal": func(u *unit) error { return second(u.e.sized.digestFinal(u.s, 32)) },
	} {
		err := inSession(tok, "op", call)
		var e *Error
		if !errors.As(err, &e) || e.Op != name || e.Code != pkcs11.CKR_OPERATION_NOT_INITIALIZED || e.Class() != ClassSession {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}
