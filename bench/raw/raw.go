// Package raw is the floor that mintmark is measured against: the PKCS#11 calls of an
// operation in a loop in C, in as many threads as there are clients, each with a session
// of its own, and nothing around them.
//
//	token, err := raw.Open(module, "label", pin)
//	defer token.Close()
//	result, err := token.Run(raw.Load{Task: raw.Task{Work: raw.RSA, Keys: keys}, Threads: 8, For: time.Second})
//
// The time of a thread's first operation and of finding the keys is not counted. CPU is the
// whole process's: let nothing else run in it.
package raw

/*
#cgo CFLAGS: -std=gnu11 -O2 -Wall
#cgo linux LDFLAGS: -ldl -lpthread
#include <stdlib.h>
#include "raw.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/mintmark/mintmark/internal/secret"
)

// Work is what a loop does.
type Work string

// The works.
const (
	RSA  Work = "rsa"  // C_SignInit, C_Sign: RSASSA-PKCS1-v1_5 of a SHA-256 digest
	P256 Work = "p256" // C_SignInit, C_Sign: ECDSA of a 32-byte digest
	Card Work = "card" // the calls of a sealed card with its activation data, as docs/pkcs11.md lists them
)

var works = map[Work]C.int{RSA: C.RAW_RSA, P256: C.RAW_P256, Card: C.RAW_CARD}

// Keys are the CKA_IDs of token keys. A work needs those it uses: Card needs RSA, HMAC and AES.
type Keys struct{ RSA, P256, HMAC, AES []byte }

// A Task is a work on certain keys.
type Task struct {
	Work Work
	Keys Keys
	// Lengths has C_Sign asked for the length of a signature first, as bindings do: a call
	// more. Card has it for its RSA signature always.
	Lengths bool
}

// A Load says how much of a task is done at once.
type Load struct {
	Task
	Threads int
	For     time.Duration
}

// Result is what came of a load.
type Result struct {
	Operations uint64
	Took       time.Duration
	CPU        time.Duration // of the process, user and kernel
	P50, P99   time.Duration // of one operation
}

// Token is an open token. One of them at a time may be open in a process, which must not
// use the module otherwise.
type Token struct{ c C.raw_token }

// Open initialises a module and logs in to the token with this label.
func Open(module, label string, pin secret.PIN) (*Token, error) {
	m, l := C.CString(module), C.CString(label)
	defer C.free(unsafe.Pointer(m))
	defer C.free(unsafe.Pointer(l))
	t := &Token{}
	var err C.raw_error
	pin.Reveal(func(p []byte) {
		err = C.raw_open(m, l, (*C.char)(unsafe.Pointer(unsafe.SliceData(p))), C.CK_ULONG(len(p)), &t.c)
	})
	if err := failure(err); err != nil {
		_ = t.Close() // it may be initialised; what it says now is no news
		return nil, err
	}
	return t, nil
}

// Close finalizes the module.
func (t *Token) Close() error { return failure(C.raw_close(&t.c)) }

// failure is the error of a call, nil if there is none.
func failure(err C.raw_error) error {
	if err.call == nil {
		return nil
	}
	return fmt.Errorf("raw loop: %s: CKR 0x%x", C.GoString(err.call), uint(err.rv))
}

// Run runs a load.
func (t *Token) Run(l Load) (Result, error) {
	if l.Threads < 1 || l.For <= 0 {
		return Result{}, fmt.Errorf("raw loop: %d threads for %v make no load", l.Threads, l.For)
	}
	work, err := t.work(l.Task)
	if err != nil {
		return Result{}, err
	}
	var out C.raw_result
	if err := failure(C.raw_run(&t.c, &work, C.int(l.Threads), C.double(l.For.Seconds()), &out)); err != nil {
		return Result{}, err
	}
	return Result{Operations: uint64(out.operations), Took: seconds(out.seconds), CPU: seconds(out.cpu_seconds), P50: seconds(out.p50), P99: seconds(out.p99)}, nil
}

// work finds the keys of a task.
func (t *Token) work(of Task) (C.raw_work, error) {
	kind, known := works[of.Work]
	if !known {
		return C.raw_work{}, fmt.Errorf("raw loop: there is no work %q", of.Work)
	}
	work := C.raw_work{kind: kind}
	if of.Lengths {
		work.lengths = 1
	}
	for _, k := range []struct {
		name  string
		class C.CK_ULONG
		id    []byte
		to    *C.CK_ULONG
	}{
		{"RSA", C.CKO_PRIVATE_KEY, of.Keys.RSA, &work.rsa}, {"P-256", C.CKO_PRIVATE_KEY, of.Keys.P256, &work.p256},
		{"HMAC", C.CKO_SECRET_KEY, of.Keys.HMAC, &work.hmac}, {"AES", C.CKO_SECRET_KEY, of.Keys.AES, &work.aes},
	} {
		if len(k.id) == 0 {
			continue
		}
		if err := t.find(k.class, k.id, k.to); err != nil {
			return work, fmt.Errorf("%s key: %w", k.name, err)
		}
	}
	return work, nil
}

func (t *Token) find(class C.CK_ULONG, id []byte, to *C.CK_ULONG) error {
	var found C.CK_ULONG
	if err := failure(C.raw_find(&t.c, class, bytes(id), C.CK_ULONG(len(id)), to, &found)); err != nil {
		return err
	}
	if found != 1 {
		return errors.New("raw loop: its CKA_ID is not that of one key")
	}
	return nil
}

func seconds(s C.double) time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

func bytes(b []byte) *C.CK_BYTE { return (*C.CK_BYTE)(unsafe.Pointer(unsafe.SliceData(b))) }

// Generate makes a P-256 key pair in the token that nobody needs: to have one more there.
func (t *Token) Generate(label string, id []byte) error {
	l := C.CString(label)
	defer C.free(unsafe.Pointer(l))
	return failure(C.raw_generate(&t.c, l, bytes(id), C.CK_ULONG(len(id))))
}

// Destroy destroys the token's objects with a CKA_ID, up to eight, and says how many. If one
// of them has a label that does not begin with prefix, nothing is destroyed.
func (t *Token) Destroy(id []byte, prefix string) (int, error) {
	if len(id) == 0 || prefix == "" {
		return 0, errors.New("raw loop: without CKA_ID and prefix nothing is destroyed")
	}
	p := C.CString(prefix)
	defer C.free(unsafe.Pointer(p))
	var n C.CK_ULONG
	err := failure(C.raw_destroy(&t.c, bytes(id), C.CK_ULONG(len(id)), p, &n))
	return int(n), err
}
