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
	"slices"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// Sign signs a digest with the active key called name: RSASSA-PKCS1-v1_5 with an RSA key,
// ECDSA with a P-256 key, whose signature is an ECDSA-Sig-Value in DER (RFC 3279, 2.2.3).
// The digest must have the length of the hash that opts name. The signature has been
// verified against the pinned public key; one that does not verify does not leave, and its
// key is lost (KeyLost) for the epoch.
//
// Errors: *KeyError, or one with RetryAfter when the token did not answer.
func (t *Token) Sign(ctx context.Context, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	digest = bytes.Clone(digest) // the caller may be gone before the token is done
	return run(ctx, t, t.signing(t.keyring(), name), "sign", func(e *epoch) ([]byte, error) {
		k, err := e.using(name, false)
		if err != nil {
			return nil, err
		}
		return e.signVerified(k, digest, opts)
	})
}

// SelfTest has the key pair called name, active or next, prove itself: sign a text of this
// package's own, which is verified and goes no further, or agree with a key of our own.
// Errors as Sign's.
func (t *Token) SelfTest(ctx context.Context, name string) error {
	_, err := run(ctx, t, t.signing(t.keyring(), name), "self-test", func(e *epoch) (struct{}, error) {
		k, err := e.usable(name, true)
		if err == nil && k.problem != "" {
			err = &KeyError{Name: name, Problem: k.problem} // it is retired
		}
		switch {
		case err != nil:
		case k.Purpose.agrees():
			err = e.withSession(func(u *unit) error { return u.proveAgreement(k, []kdfWay{e.agreement}) })
		default:
			_, err = e.signVerified(k, selfTestDigest(), selfTestHash)
		}
		return struct{}{}, err
	})
	return err
}

// signVerified signs, verifies against the pinned public key, and lets nothing else out.
// A private key that signs otherwise, or may not sign at all, is lost for this epoch.
func (e *epoch) signVerified(k *tokenKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := e.sign(k, digest, opts)
	if err == nil {
		err = verify(k.pub, opts.HashFunc(), digest, sig)
	}
	var known *Error
	if errors.Is(err, errBadSignature) || (errors.As(err, &known) && known.Class() == ClassRequest) {
		e.disprove(k, err)
		return nil, fmt.Errorf("%w: %w", &KeyError{Name: k.Name, Problem: KeyLost}, err)
	}
	if err != nil {
		return nil, err
	}
	e.token.signed.Store(time.Now().UnixMilli())
	return sig, nil
}

// disprove marks a key whose private half does not sign as the pinned public one's does:
// lost, for the epoch.
func (e *epoch) disprove(k *tokenKey, why error) {
	if !k.lost.Swap(true) {
		e.token.log.Error("key unusable", "key", k.Name, "purpose", string(k.Purpose), "problem", "it does not sign for the pinned public key", "error", why)
		if e.token.keysChanged != nil {
			e.token.keysChanged()
		}
	}
}

// hashes are those whose digests are signed.
var hashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// checkSigning refuses what k does not sign, before the token works for it: crypto11 takes
// a digest of any length and any hash. What is wrong after that is the key's.
func (k *tokenKey) checkSigning(digest []byte, opts crypto.SignerOpts) error {
	if !k.signs() {
		return fmt.Errorf("key %s is a %s key for %s, which does not sign", k.Name, k.Algorithm, k.Purpose)
	}
	if opts == nil || !slices.Contains(hashes, opts.HashFunc()) {
		return fmt.Errorf("the digest must be said to be one of %v", hashes)
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return errors.New("RSASSA-PSS is asked for, and keys are made for RSASSA-PKCS1-v1_5 alone")
	}
	if want := opts.HashFunc().Size(); len(digest) != want {
		return fmt.Errorf("digest has %d bytes instead of the %d of %v", len(digest), want, opts.HashFunc())
	}
	return nil
}

// signs reports whether the key is one that signs.
func (k Key) signs() bool { return k.Algorithm.Public() && !k.Purpose.agrees() }

// p256Order is the length of P-256's order in bytes.
const p256Order = 32

// sign signs with k inside the caller's admission.
func (e *epoch) sign(k *tokenKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.checkSigning(digest, opts); err != nil {
		return nil, err
	}
	if k.Algorithm == P256 {
		// ECDSA uses as many leftmost bits as the order has (FIPS 186-5, 6.4.1). PKCS#11 has
		// the token cut the rest off (v2.40 mechanisms, 2.3.6). A token that refuses longer
		// digests instead must not lose its TLS key to a TLS 1.2 peer who prefers them.
		digest = digest[:min(len(digest), p256Order)]
	}
	s, err := e.signer(k)
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(rand.Reader, digest, opts)
	var known pkcs11.Error
	if err != nil && !errors.As(err, &known) { // crypto11's own: no session, or no signature
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
	var known pkcs11.Error
	switch {
	case errors.As(err, &known):
		return nil, ckr("C_FindObjects", err)
	case err != nil: // crypto11's own
		return nil, &KeyError{Name: k.Name, Problem: KeyUnreadable}
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
	for range e.token.pool() {
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

var errBadSignature = errors.New("signature does not verify against the pinned public key")

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
