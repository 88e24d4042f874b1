package hsm

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// What does not open costs no memory, or whoever may send ciphertext could use it up. The
// binding's own C_Decrypt shows beside it what it would cost: an output buffer each.
func TestFailedDecryptionsLeakNothing(t *testing.T) {
	const calls, size = 3000, 16384
	e := open(t, softhsm.New(t), ringOf()).current.Load()
	changed := bytes.Repeat([]byte("x"), size)
	err := e.withSession(func(u *unit) error {
		key, err := e.ctx.GenerateKey(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		})
		if err != nil {
			return err
		}
		ours := grown(t, calls, func() error { return second(u.decryptGCM(key, make([]byte, gcmIV), nil, changed)) })
		binding := grown(t, calls, func() error {
			params := pkcs11.NewGCMParams(make([]byte, gcmIV), nil, gcmTag*8)
			defer params.Free()
			if err := e.ctx.DecryptInit(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key); err != nil {
				t.Fatal(err)
			}
			return second(e.ctx.Decrypt(u.s, changed))
		})
		t.Logf("%d failed decryptions of %d bytes leak %d bytes each, through the binding %d", calls, size, ours/calls, binding/calls)
		if ours > calls*size/4 { // what else moves in a process, the race detector's own included
			t.Errorf("%d bytes leaked", ours)
		}
		if binding < calls*size/2 {
			t.Errorf("the binding leaks %d bytes, and is not to be worked around any more", binding)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// grown gives by how many bytes the process grows while fail is called n times, after
// enough others for the buffers that are kept.
func grown(t *testing.T, n int, fail func() error) int {
	t.Helper()
	const first = 300
	var before int
	for i := range n + first {
		if i == first {
			before = resident(t)
		}
		if fail() == nil {
			t.Fatal("it opened")
		}
	}
	return resident(t) - before
}

// resident is the process's memory in bytes (proc(5), statm), without what Go has free.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
