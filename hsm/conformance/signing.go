package conformance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
)

// signing are the checks of signatures and of OAEP.
func (b *bench) signing() []check {
	with := func(a hsm.Algorithm) func(hsm.Key) bool {
		return func(k hsm.Key) bool { return k.Algorithm == a && k.Purpose != hsm.CardTransport }
	}
	all := []check{
		{"RSA-2048, RSASSA-PKCS1-v1_5", with(hsm.RSA2048), signs(signRSA)},
		{"P-256, ECDSA", with(hsm.P256), signs(signEC)},
	}
	for _, a := range b.longRSA() {
		all = append(all, check{string(a) + ", RSASSA-PKCS1-v1_5", with(a), signs(string(a))})
	}
	return append(all,
		check{"verified before release", func(k hsm.Key) bool { return with(hsm.P256)(k) || with(hsm.RSA2048)(k) }, refusesCrossed},
		check{"OAEP, SHA-1", nil, oaep(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, sha1.New)},
		check{"OAEP, SHA-256", nil, oaep(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, sha256.New)},
	)
}

var message = []byte("mintmark conformance")

func digest(h crypto.Hash) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// signs signs digests of each hash that mintmark uses and verifies on the host.
func signs(what string) func(context.Context, *bench) (string, error) {
	return func(ctx context.Context, b *bench) (string, error) {
		name, err := b.key(what)
		if err != nil {
			return "", err
		}
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			if err := signOnce(ctx, b.tok, name, h); err != nil {
				return "", fmt.Errorf("%v: %w", h, err)
			}
		}
		return "SHA-256, SHA-384, SHA-512", nil
	}
}

// signOnce signs and verifies.
func signOnce(ctx context.Context, tok *hsm.Token, name string, h crypto.Hash) error {
	pub, err := tok.Public(name)
	if err != nil {
		return err
	}
	sig, err := tok.Sign(ctx, name, digest(h), h)
	if err != nil {
		return err
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, h, digest(h), sig)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(pub, digest(h), sig) {
			return nil
		}
	}
	return errors.New("the signature does not verify")
}

// refusesCrossed has a private key sign that stands under another one's CKA_ID: the token
// signs well, and nothing may leave.
func refusesCrossed(ctx context.Context, b *bench) (string, error) {
	name, err := b.key(crossed)
	if err != nil {
		return "", err
	}
	err = b.raw.do(func(h hand) error { return h.crossedSigns(b.keys[crossed]) })
	if err != nil {
		return "", untried(err.Error())
	}
	sig, err := b.tok.Sign(ctx, name, digest(crypto.SHA256), crypto.SHA256)
	var lost *hsm.KeyError
	switch {
	case err == nil || len(sig) > 0:
		return "", errors.New("a signature that does not verify was released")
	case !errors.As(err, &lost) || lost.Problem != hsm.KeyLost:
		return "", err
	}
	return "the signature of another key stays inside, and its key is lost", nil
}

// crossedSigns reports nil if the private key under k's CKA_ID signs and what it signs does
// not verify with the public key under it.
func (h hand) crossedSigns(k hsm.Key) error {
	private, err := h.half(pkcs11.CKO_PRIVATE_KEY, idOf(k))
	if err != nil {
		return err
	}
	public, err := h.half(pkcs11.CKO_PUBLIC_KEY, idOf(k))
	if err != nil {
		return err
	}
	pub, err := h.public(public, k.Algorithm)
	if err != nil {
		return err
	}
	mechanism := uint(pkcs11.CKM_ECDSA)
	if k.Algorithm != hsm.P256 {
		mechanism = pkcs11.CKM_RSA_PKCS
	}
	if err := h.SignInit(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, private); err != nil {
		return err
	}
	sig, err := h.Sign(h.s, digest(crypto.SHA256))
	if err != nil {
		return err
	}
	if verifiesRaw(pub, sig) {
		return errors.New("the token does not keep the CKA_ID of a pair's halves apart")
	}
	return nil
}

// verifiesRaw reports whether sig is what PKCS#11 gives for the message's digest: r and s in
// a row, or the digest padded without saying its hash.
func verifiesRaw(pub crypto.PublicKey, sig []byte) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, 0, digest(crypto.SHA256), sig) == nil
	case *ecdsa.PublicKey:
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])})
		return err == nil && ecdsa.VerifyASN1(pub, digest(crypto.SHA256), der)
	default:
		return false
	}
}

// oaep has the host encrypt to a key pair of the token, which decrypts. No purpose of
// mintmark's needs it; networks that encrypt to their clients do.
func oaep(mechanism, mgf uint, newHash func() hash.Hash) func(context.Context, *bench) (string, error) {
	return func(_ context.Context, b *bench) (string, error) {
		return "", b.raw.do(func(h hand) error {
			pub, private, err := h.pairForOAEP()
			if err != nil {
				return untried("no key for it: " + err.Error())
			}
			ct, err := rsa.EncryptOAEP(newHash(), rand.Reader, pub, message, nil)
			if err != nil {
				return err
			}
			params := pkcs11.NewOAEPParams(mechanism, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil)
			if err := h.DecryptInit(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, params)}, private); err != nil {
				return fmt.Errorf("C_DecryptInit: %w", err)
			}
			clear, err := h.Decrypt(h.s, ct)
			if err == nil && string(clear) != string(message) {
				err = errors.New("the text is another")
			}
			if err != nil {
				return fmt.Errorf("C_Decrypt: %w", err)
			}
			return nil
		})
	}
}

// pairForOAEP makes the RSA pair that decrypts, or finds it.
func (h hand) pairForOAEP() (*rsa.PublicKey, pkcs11.ObjectHandle, error) {
	label := labelOf("oaep")
	id := []byte(label)
	private, err := h.half(pkcs11.CKO_PRIVATE_KEY, id)
	if err != nil {
		_, private, err = h.GenerateKeyPair(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
			append(rsaOf2048(),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
				pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true)),
			append(protected(label, id), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true)))
		if err != nil {
			return nil, 0, fmt.Errorf("C_GenerateKeyPair: %w", err)
		}
	}
	public, err := h.half(pkcs11.CKO_PUBLIC_KEY, id)
	if err != nil {
		return nil, 0, err
	}
	pub, err := h.public(public, hsm.RSA2048)
	if err != nil {
		return nil, 0, err
	}
	return pub.(*rsa.PublicKey), private, nil
}
