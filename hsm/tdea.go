package hsm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/miekg/pkcs11"
)

const (
	tdeaBlock = 8 // bytes
	kcvSize   = 3 // bytes of a key check value
)

// EncryptTDEA encrypts whole blocks with the triple DES key called name: CBC with an IV of
// zeroes, as payment networks have it for short messages that begin with something
// different each time. There is no integrity in it. A key that is retired or next is
// refused.
func (t *Token) EncryptTDEA(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 || len(plaintext)%tdeaBlock != 0 {
		return nil, fmt.Errorf("encrypt: %d bytes are no whole blocks of %d", len(plaintext), tdeaBlock)
	}
	plaintext = bytes.Clone(plaintext) // see AgreeAndSeal
	return work(ctx, t, "encrypt", func(u *unit) ([]byte, error) {
		k, err := u.e.using(name, false)
		if err != nil {
			return nil, err
		}
		if k.Algorithm != TDEA {
			return nil, fmt.Errorf("key %s is a %s key", name, k.Algorithm)
		}
		return u.encryptTDEA(k.handle, plaintext)
	}, plaintext)
}

// EncryptTDEA encrypts with the key called name; see Token.EncryptTDEA.
func (h *HSM) EncryptTDEA(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	return ask(ctx, h, encryptingTDEA, func(ctx context.Context, t Member) ([]byte, error) { return t.EncryptTDEA(ctx, name, plaintext) })
}

func (u *unit) encryptTDEA(h handle, plaintext []byte) ([]byte, error) {
	mech := pkcs11.NewMechanism(pkcs11.CKM_DES3_CBC, make([]byte, tdeaBlock))
	if err := u.e.ctx.EncryptInit(u.s, []*pkcs11.Mechanism{mech}, h); err != nil {
		return nil, ckr("C_EncryptInit", err)
	}
	return u.e.sized.encryptBlocks(u.s, plaintext)
}

// tdeaAnswer is what a triple DES key answers to its pin: the key check value, which is for
// people to compare with the network's letter, and a digest, since three bytes prove little.
func (u *unit) tdeaAnswer(k Key, h handle) ([]byte, error) {
	check, err := u.encryptTDEA(h, make([]byte, tdeaBlock))
	if err != nil {
		return nil, err
	}
	text := sha256.Sum256(pinInput(k)) // whole blocks
	fixed, err := u.encryptTDEA(h, text[:])
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fixed)
	return append(check[:kcvSize:kcvSize], sum[:]...), nil
}
