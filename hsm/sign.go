package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// Sign signs a digest with the key called name: RSASSA-PKCS1-v1_5 for opts of a plain
// hash. The digest must have the hash's length. The signature has been verified against
// the pinned public key; one that does not verify does not leave, and its key is lost
// (KeyLost) for the epoch.
//
// Errors: *KeyError, or one with RetryAfter when the token did not answer.
func (t *Token) Sign(ctx context.Context, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	digest = bytes.Clone(digest) // the caller may be gone before the token is done
	return run(ctx, t, t.rsa, "sign", func(e *epoch) ([]byte, error) {
		k, err := e.usable(name, false)
		if err != nil {
			return nil, err
		}
		return e.signVerified(k, digest, opts)
	})
}

// signVerified signs, verifies against the pinned public key, and lets nothing else out.
// A private key that signs otherwise is lost, for this epoch.
func (e *epoch) signVerified(k *tokenKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := e.sign(k, digest, opts)
	if err != nil {
		return nil, err
	}
	if verify(k.pub, opts.HashFunc(), digest, sig) != nil {
		e.disprove(k)
		return nil, &KeyError{Name: k.Name, Problem: KeyLost}
	}
	e.token.signed.Store(time.Now().UnixMilli())
	return sig, nil
}

// disprove marks a key whose private half is not the pinned public one's: lost, for the
// epoch.
func (e *epoch) disprove(k *tokenKey) {
	if !k.lost.Swap(true) {
		e.token.log.Error("key unusable", "key", k.Name, "purpose", string(k.Purpose), "problem", "what it signs does not verify against the pinned public key")
	}
}

// sign signs with k inside the caller's admission.
func (e *epoch) sign(k *tokenKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	// crypto11 signs a digest of the wrong length without complaint.
	if opts.HashFunc() == 0 || len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("digest has %d bytes, which is not the length of %v", len(digest), opts.HashFunc())
	}
	s, err := e.signer(k)
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(rand.Reader, digest, opts)
	var known pkcs11.Error
	if err != nil && !errors.As(err, &known) { // crypto11's own: its pool ran dry
		return nil, &unavailable{err: fmt.Errorf("sign: %w", err), after: time.Second}
	}
	return sig, ckr("C_Sign", err)
}

// signer gives crypto11's signer for k, found through its CKA_ID at first use in the
// epoch and compared with the pinned public key.
func (e *epoch) signer(k *tokenKey) (crypto11.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.signer != nil {
		return k.signer, nil
	}
	all, err := e.c11.FindKeyPairs(k.ckaID(), nil)
	if err != nil {
		return nil, ckr("C_FindObjects", err)
	}
	switch {
	case len(all) == 0:
		return nil, &KeyError{Name: k.Name, Problem: KeyMissing}
	case len(all) > 1:
		return nil, &KeyError{Name: k.Name, Problem: KeyAmbiguous}
	}
	pinned, ok := k.pub.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pinned.Equal(all[0].Public()) {
		return nil, &KeyError{Name: k.Name, Problem: KeyLost}
	}
	k.signer = all[0]
	return k.signer, nil
}

// warmSigners makes crypto11 open its sessions before the first request needs them:
// it opens a new one for each of its first operations.
func (e *epoch) warmSigners() error {
	r, err := e.c11.NewRandomReader()
	if err != nil {
		return ckr("C_GenerateRandom", err)
	}
	var b [1]byte
	for range e.token.cfg.RSAConcurrency {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return ckr("C_GenerateRandom", err)
		}
	}
	return nil
}

// selfTestHash is the hash of self-test signatures.
const selfTestHash = crypto.SHA256

func selfTestDigest() []byte {
	d := sha256.Sum256([]byte("mintmark self-test"))
	return d[:]
}

var errBadSignature = errors.New("signature does not verify")

// verify checks a signature over a digest.
func verify(pub crypto.PublicKey, hash crypto.Hash, digest, sig []byte) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil {
			return nil
		}
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(pub, digest, sig) {
			return nil
		}
	}
	return errBadSignature
}
