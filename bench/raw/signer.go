package raw

/*
#include "raw.h"
*/
import "C"

import (
	"crypto/sha256"
	"fmt"
)

// A Signer makes RSASSA-PKCS1-v1_5 signatures with one key, by two calls of PKCS#11 in one
// call of C: the least that Go can do. As many as it has sessions are made at once.
type Signer struct {
	token    *Token
	key      C.CK_ULONG
	sessions chan C.CK_ULONG
}

// Signer gives the signer of the RSA key with a CKA_ID, with sessions of its own.
func (t *Token) Signer(id []byte, sessions int) (*Signer, error) {
	s := &Signer{token: t, sessions: make(chan C.CK_ULONG, sessions)}
	if err := t.find(C.CKO_PRIVATE_KEY, id, &s.key); err != nil {
		return nil, fmt.Errorf("RSA key: %w", err)
	}
	for range sessions {
		var session C.CK_ULONG
		if err := failure(C.raw_session(&t.c, &session)); err != nil {
			return nil, err
		}
		s.sessions <- session
	}
	return s, nil
}

// Sign signs a SHA-256 digest.
func (s *Signer) Sign(digest [sha256.Size]byte) ([]byte, error) {
	session := <-s.sessions
	defer func() { s.sessions <- session }()
	out := make([]byte, 512)
	n := C.CK_ULONG(len(out))
	err := failure(C.raw_sign_rsa(&s.token.c, session, s.key, bytes(digest[:]), bytes(out), &n))
	return out[:n], err
}
