package hsm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

const (
	gcmIV  = 12 // bytes; the length every module knows (NIST SP 800-38D, 8.2.1)
	gcmTag = 16 // bytes
)

// EncryptGCM seals plaintext with the AES key called name: AES-256-GCM with the given
// 12-byte IV, which must never be used twice with one key. The result is ciphertext
// and 16-byte tag. A retired key is refused (PCI DSS 4.0.1, 3.7.5), and one that is next.
func (t *Token) EncryptGCM(ctx context.Context, name string, iv, aad, plaintext []byte) ([]byte, error) {
	iv, aad, plaintext = bytes.Clone(iv), bytes.Clone(aad), bytes.Clone(plaintext) // see AgreeAndSeal
	return work(ctx, t, "encrypt", func(u *unit) ([]byte, error) {
		k, err := u.e.using(name, false)
		if err != nil {
			return nil, err
		}
		return u.encryptGCM(k.handle, iv, aad, plaintext)
	}, plaintext)
}

// ErrNotAuthentic is returned for ciphertext that does not open: altered, moved to
// another place, or made with another key. It says nothing of the token.
var ErrNotAuthentic = errors.New("ciphertext is not authentic")

// notAuthentic reports whether a decryption failed for its input. A bad tag has no code
// of its own: CKR_ENCRYPTED_DATA_INVALID where the standard is kept, CKR_GENERAL_ERROR
// on SoftHSM 2.6.1. Such an error does not count against a token that still opens the
// key's sample, or whoever supplies ciphertext could have it taken for dead.
func notAuthentic(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Class() == ClassSuspect || e.Code == pkcs11.CKR_ENCRYPTED_DATA_INVALID || e.Code == pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE)
}

// DecryptGCM opens what EncryptGCM made; ErrNotAuthentic if it does not open. A retired
// key still opens, and one that is next already does: another process may have taken it
// into use.
func (t *Token) DecryptGCM(ctx context.Context, name string, iv, aad, ciphertext []byte) ([]byte, error) {
	iv, aad, ciphertext = bytes.Clone(iv), bytes.Clone(aad), bytes.Clone(ciphertext) // see AgreeAndSeal
	return work(ctx, t, "decrypt", func(u *unit) ([]byte, error) {
		k, err := u.e.using(name, true)
		if err != nil {
			return nil, err
		}
		out, err := u.decryptGCM(k.handle, iv, aad, ciphertext)
		if err != nil && classify(err) == ClassSuspect {
			if !u.e.opensSample(k) {
				return nil, err
			}
			// The key is well. If it was the token, it has passed; if not, it was the
			// ciphertext.
			err = u.e.withSession(func(again *unit) (err error) {
				out, err = again.decryptGCM(k.handle, iv, aad, ciphertext)
				return err
			})
		}
		if notAuthentic(err) {
			return nil, fmt.Errorf("key %s: %w", name, ErrNotAuthentic)
		}
		return out, err
	})
}

// opensSample reports whether the key still opens the sample that it is pinned by, in
// another session: then it was the ciphertext that a code which proves nothing was
// about, and not the token.
func (e *epoch) opensSample(k *tokenKey) bool {
	opens := false
	err := e.withSession(func(u *unit) (err error) {
		opens, err = u.provePin(k.Key, k.handle, k.Pins[e.token.cfg.Name])
		return err
	})
	return err == nil && opens
}

// HMAC computes HMAC-SHA-256 over data with the key called name. A retired key still
// serves, to find what was stored under it, and so does one that is next.
func (t *Token) HMAC(ctx context.Context, name string, data []byte) ([]byte, error) {
	data = bytes.Clone(data) // see AgreeAndSeal
	return work(ctx, t, "hmac", func(u *unit) ([]byte, error) {
		k, err := u.e.using(name, true)
		if err != nil {
			return nil, err
		}
		return u.hmac(k.handle, data)
	}, data)
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
