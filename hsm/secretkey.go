package hsm

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/miekg/pkcs11"
)

const (
	gcmIV  = 12 // bytes; the length every module knows (NIST SP 800-38D, 8.2.1)
	gcmTag = 16 // bytes
)

// EncryptGCM seals plaintext with the AES key called name: AES-256-GCM with the given
// 12-byte IV, which must never be used twice with one key. The result is ciphertext
// and 16-byte tag. A retired key is refused (PCI DSS 4.0.1, 3.7.5).
func (t *Token) EncryptGCM(ctx context.Context, name string, iv, aad, plaintext []byte) ([]byte, error) {
	var out []byte
	err := t.work(ctx, "encrypt", func(u *unit) error {
		k, err := u.e.usable(name, false)
		if err != nil {
			return err
		}
		out, err = u.encryptGCM(k.handle, iv, aad, plaintext)
		return err
	})
	return out, err
}

// DecryptGCM opens what EncryptGCM made. A retired key still opens. It should only see
// ciphertext of our own making: a bad tag has no error code of its own, so that a
// stranger's would look like trouble with the token.
func (t *Token) DecryptGCM(ctx context.Context, name string, iv, aad, ciphertext []byte) ([]byte, error) {
	var out []byte
	err := t.work(ctx, "decrypt", func(u *unit) error {
		k, err := u.e.usable(name, true)
		if err != nil {
			return err
		}
		out, err = u.decryptGCM(k.handle, iv, aad, ciphertext)
		return err
	})
	return out, err
}

// HMAC computes HMAC-SHA-256 over data with the key called name. A retired key still
// serves, to find what was stored under it.
func (t *Token) HMAC(ctx context.Context, name string, data []byte) ([]byte, error) {
	var out []byte
	err := t.work(ctx, "hmac", func(u *unit) error {
		k, err := u.e.usable(name, true)
		if err != nil {
			return err
		}
		out, err = u.hmac(k.handle, data)
		return err
	})
	return out, err
}

// checkIV refuses what a module might make its own sense of: SoftHSM takes an IV of
// any length, also an empty one.
func checkIV(iv []byte) error {
	if len(iv) != gcmIV {
		return fmt.Errorf("IV has %d bytes instead of %d", len(iv), gcmIV)
	}
	return nil
}

func (u *unit) encryptGCM(h handle, iv, aad, plaintext []byte) ([]byte, error) {
	if err := checkIV(iv); err != nil {
		return nil, err
	}
	params := pkcs11.NewGCMParams(iv, aad, gcmTag*8)
	defer params.Free()
	if err := u.e.ctx.EncryptInit(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, h); err != nil {
		return nil, ckr("C_EncryptInit", err)
	}
	return u.e.sized.encrypt(u.s, plaintext)
}

func (u *unit) decryptGCM(h handle, iv, aad, ciphertext []byte) ([]byte, error) {
	if err := checkIV(iv); err != nil {
		return nil, err
	}
	params := pkcs11.NewGCMParams(iv, aad, gcmTag*8)
	defer params.Free()
	if err := u.e.ctx.DecryptInit(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, h); err != nil {
		return nil, ckr("C_DecryptInit", err)
	}
	return u.e.sized.decrypt(u.s, ciphertext)
}

func (u *unit) hmac(h handle, data []byte) ([]byte, error) {
	if err := u.e.ctx.SignInit(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_SHA256_HMAC, nil)}, h); err != nil {
		return nil, ckr("C_SignInit", err)
	}
	return u.e.sized.sign(u.s, data, sha256.Size)
}
