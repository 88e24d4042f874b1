package faultmodule_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

// hsm is an open module with a session that is logged in.
type hsm struct {
	*pkcs11.Ctx
	t       testing.TB
	token   *softhsm.Token
	slot    uint
	session pkcs11.SessionHandle
}

// start initialises the module at path and logs in to token.
func start(t testing.TB, path string, token *softhsm.Token) *hsm {
	t.Helper()
	h := &hsm{Ctx: pkcs11.New(path), t: t, token: token}
	if h.Ctx == nil {
		t.Fatalf("cannot load %s", path)
	}
	t.Cleanup(func() {
		if err := h.Finalize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
			t.Error(err)
		}
		h.Destroy()
	})
	h.must(h.Initialize())
	h.login()
	return h
}

// login opens a session and logs in.
func (h *hsm) login() {
	h.t.Helper()
	slots, err := h.GetSlotList(true)
	h.must(err)
	for _, s := range slots {
		if info, err := h.GetTokenInfo(s); err == nil && info.SerialNumber == h.token.Serial {
			h.slot = s
		}
	}
	h.session = h.open()
	h.must(h.Login(h.session, pkcs11.CKU_USER, h.token.PIN()))
}

func (h *hsm) open() pkcs11.SessionHandle {
	h.t.Helper()
	session, err := h.OpenSession(h.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	h.must(err)
	return session
}

func (h *hsm) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// wants checks that err is a return value of PKCS#11.
func wants(t *testing.T, err error, rv uint) {
	t.Helper()
	if !errors.Is(err, pkcs11.Error(rv)) {
		t.Errorf("got %v, want %v", err, pkcs11.Error(rv))
	}
}

// pair makes a P-256 key pair of session objects, for ECDSA and ECDH.
func (h *hsm) pair() (public, private pkcs11.ObjectHandle, err error) {
	p256, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	h.must(err)
	return h.GenerateKeyPair(h.session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),
		})
}

func (h *hsm) mustPair() (public, private pkcs11.ObjectHandle) {
	h.t.Helper()
	public, private, err := h.pair()
	h.must(err)
	return public, private
}

// point returns the public key's point, uncompressed.
func (h *hsm) point(public pkcs11.ObjectHandle) []byte {
	h.t.Helper()
	attributes, err := h.GetAttributeValue(h.session, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	h.must(err)
	var point []byte
	_, err = asn1.Unmarshal(attributes[0].Value, &point)
	h.must(err)
	return point
}

// secret makes a session key of the given kind.
func (h *hsm) secret(mechanism uint) pkcs11.ObjectHandle {
	h.t.Helper()
	attributes := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	}
	key, err := h.GenerateKey(h.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, attributes)
	h.must(err)
	return key
}

var digest = sha256.Sum256([]byte("message"))

func (h *hsm) sign(session pkcs11.SessionHandle, private pkcs11.ObjectHandle) ([]byte, error) {
	if err := h.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, private); err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	return h.Sign(session, digest[:])
}

// verifies checks a raw ECDSA signature with Go's own code.
func verifies(point, signature []byte) bool {
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil || len(signature) != 64 {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(public, digest[:], r, s)
}

// setup is a token with a fault module in front and an open session.
func setup(t *testing.T) (*faultmodule.Module, *hsm) {
	t.Helper()
	token := softhsm.New(t)
	fault := faultmodule.New(t, token.Module)
	return fault, start(t, fault.Path, token)
}
