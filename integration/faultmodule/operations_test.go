package faultmodule_test

import (
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/integration/faultmodule"
)

// operations are the ways to work with an operation in steps: the functions that an
// error may hit, in the order in which run calls them. The first is its Init.
var operations = []struct {
	name  string
	steps []string
	run   func(h *hsm, k keys) error
}{
	{"sign", []string{"C_SignInit", "C_Sign"}, func(h *hsm, k keys) error {
		_, err := h.sign(h.session, k.private)
		return err
	}},
	{"verify", []string{"C_VerifyInit", "C_Verify"}, func(h *hsm, k keys) error {
		if err := h.VerifyInit(h.session, mechanism(pkcs11.CKM_ECDSA), k.public); err != nil {
			return err
		}
		return h.Verify(h.session, digest[:], k.signature)
	}},
	{"sign in parts", []string{"C_SignInit", "C_SignUpdate", "C_SignFinal"}, func(h *hsm, k keys) error {
		if err := h.SignInit(h.session, mechanism(pkcs11.CKM_SHA256_HMAC), k.hmac); err != nil {
			return err
		}
		if err := h.SignUpdate(h.session, digest[:]); err != nil {
			return err
		}
		_, err := h.SignFinal(h.session)
		return err
	}},
	{"digest", []string{"C_DigestInit", "C_Digest"}, func(h *hsm, k keys) error {
		if err := h.DigestInit(h.session, mechanism(pkcs11.CKM_SHA256)); err != nil {
			return err
		}
		_, err := h.Digest(h.session, digest[:])
		return err
	}},
	{"digest in parts", []string{"C_DigestInit", "C_DigestUpdate", "C_DigestKey", "C_DigestFinal"}, func(h *hsm, k keys) error {
		if err := h.DigestInit(h.session, mechanism(pkcs11.CKM_SHA256)); err != nil {
			return err
		}
		if err := h.DigestUpdate(h.session, digest[:]); err != nil {
			return err
		}
		if err := h.DigestKey(h.session, k.hmac); err != nil {
			return err
		}
		_, err := h.DigestFinal(h.session)
		return err
	}},
	{"encrypt", []string{"C_EncryptInit", "C_Encrypt"}, func(h *hsm, k keys) error {
		if err := h.EncryptInit(h.session, cbc(), k.aes); err != nil {
			return err
		}
		_, err := h.Encrypt(h.session, digest[:])
		return err
	}},
	{"encrypt in parts", []string{"C_EncryptInit", "C_EncryptUpdate", "C_EncryptFinal"}, func(h *hsm, k keys) error {
		if err := h.EncryptInit(h.session, cbc(), k.aes); err != nil {
			return err
		}
		if _, err := h.EncryptUpdate(h.session, digest[:]); err != nil {
			return err
		}
		_, err := h.EncryptFinal(h.session)
		return err
	}},
	{"decrypt", []string{"C_DecryptInit", "C_Decrypt"}, func(h *hsm, k keys) error {
		if err := h.DecryptInit(h.session, cbc(), k.aes); err != nil {
			return err
		}
		_, err := h.Decrypt(h.session, k.ciphertext)
		return err
	}},
	{"decrypt in parts", []string{"C_DecryptInit", "C_DecryptUpdate", "C_DecryptFinal"}, func(h *hsm, k keys) error {
		if err := h.DecryptInit(h.session, cbc(), k.aes); err != nil {
			return err
		}
		if _, err := h.DecryptUpdate(h.session, k.ciphertext); err != nil {
			return err
		}
		_, err := h.DecryptFinal(h.session)
		return err
	}},
	{"find", []string{"C_FindObjectsInit", "C_FindObjectsFinal"}, func(h *hsm, k keys) error {
		if err := h.FindObjectsInit(h.session, nil); err != nil {
			return err
		}
		return h.FindObjectsFinal(h.session)
	}},
}

type keys struct {
	public, private, hmac, aes pkcs11.ObjectHandle
	signature, ciphertext      []byte
}

func mechanism(m uint) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, nil)}
}

func cbc() []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_CBC_PAD, make([]byte, 16))}
}

func makeKeys(h *hsm) keys {
	var k keys
	k.public, k.private = h.mustPair()
	k.hmac = h.secret(pkcs11.CKM_GENERIC_SECRET_KEY_GEN)
	k.aes = h.secret(pkcs11.CKM_AES_KEY_GEN)
	var err error
	k.signature, err = h.sign(h.session, k.private)
	h.must(err)
	h.must(h.EncryptInit(h.session, cbc(), k.aes))
	k.ciphertext, err = h.Encrypt(h.session, digest[:])
	h.must(err)
	return k
}

func TestErrorEndsTheOperation(t *testing.T) {
	fault, h := setup(t)
	k := makeKeys(h)
	for _, op := range operations {
		for _, step := range op.steps {
			t.Run(op.name+" "+step, func(t *testing.T) {
				fault.Inject(faultmodule.Rule{Function: step, RV: pkcs11.CKR_DEVICE_ERROR, Times: 1})
				wants(t, op.run(h, k), pkcs11.CKR_DEVICE_ERROR)
				if err := op.run(h, k); err != nil {
					t.Errorf("the session is poisoned: %v", err)
				}
			})
		}
	}
}

func TestErrorInTheSecondCallEndsTheOperation(t *testing.T) {
	fault, h := setup(t)
	_, private := h.mustPair()
	// After the query for the length, the call that has a buffer.
	fault.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_DEVICE_ERROR, After: 1})
	_, err := h.sign(h.session, private)
	wants(t, err, pkcs11.CKR_DEVICE_ERROR)
	_, err = h.sign(h.session, private)
	h.must(err)
}

func TestLeaveActiveLeavesTheOperation(t *testing.T) {
	fault, h := setup(t)
	_, private := h.mustPair()
	fault.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_FUNCTION_FAILED, LeaveActive: true})
	_, err := h.sign(h.session, private)
	wants(t, err, pkcs11.CKR_FUNCTION_FAILED)
	_, err = h.sign(h.session, private)
	wants(t, err, pkcs11.CKR_OPERATION_ACTIVE)
}
