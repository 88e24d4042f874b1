package raw

/*
#include "raw.h"
*/
import "C"

import (
	"crypto/sha256"
	"unsafe"
)

// Sessions do a task whenever they are asked to, each one at a time: one call of C for all of
// the task's calls of PKCS#11, which is the least that Go can do.
type Sessions struct{ idle chan *C.raw_session }

// Sessions opens n sessions for a task. They are closed with the token.
func (t *Token) Sessions(of Task, n int) (*Sessions, error) {
	work, err := t.work(of)
	if err != nil {
		return nil, err
	}
	s := &Sessions{idle: make(chan *C.raw_session, n)}
	for range n {
		session := new(C.raw_session)
		if err := failure(C.raw_open_session(&t.c, &work, session)); err != nil {
			return nil, err
		}
		s.idle <- session
	}
	return s, nil
}

// Do does the task once, and gives the signature of a SHA-256 digest that is part of it:
// RSASSA-PKCS1-v1_5, or r and s (PKCS#11 v2.40 mechanisms, 2.3.1).
func (s *Sessions) Do(digest [sha256.Size]byte) ([]byte, error) {
	session := <-s.idle
	defer func() { s.idle <- session }()
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&session.digest)), len(session.digest)), digest[:])
	if err := failure(C.raw_do(session)); err != nil {
		return nil, err
	}
	return C.GoBytes(unsafe.Pointer(&session.signature), C.int(session.signature_len)), nil
}
