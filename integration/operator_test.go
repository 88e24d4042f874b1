package integration

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/softhsm"
)

// operator is a person with the token's PIN and a tool of their own: nothing here goes
// through mintmark.
type operator struct {
	t   testing.TB
	ctx *pkcs11.Ctx
	s   pkcs11.SessionHandle
}

// operate opens the token beside whoever else uses it, and closes it again.
func operate(t testing.TB, on *softhsm.Token, work func(o *operator)) {
	t.Helper()
	if err := on.Setenv(); err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, ctx: pkcs11.New(on.Module)}
	defer o.ctx.Destroy()
	o.must(o.ctx.Initialize())
	defer func() { o.must(o.ctx.Finalize()) }()
	slots, err := o.ctx.GetSlotList(true)
	o.must(err)
	for _, slot := range slots {
		if info, err := o.ctx.GetTokenInfo(slot); err == nil && info.SerialNumber == on.Serial {
			o.s, err = o.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
			o.must(err)
		}
	}
	o.must(o.ctx.Login(o.s, pkcs11.CKU_USER, on.PIN()))
	work(o)
}

func (o *operator) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// material is a key outside a token, as a ceremony imports it into several.
type material struct {
	entry  hsm.Key // without pins
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	secret []byte
}

// newMaterial makes the material of a key of purpose p.
func newMaterial(name string, p hsm.Purpose) material {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	m := material{entry: hsm.Key{
		Name: name, Purpose: p, Algorithm: p.DefaultAlgorithm(), ID: hex.EncodeToString(id),
		Provenance: hsm.Imported, State: hsm.Active, Created: "2026-11-22",
	}}
	switch m.entry.Algorithm {
	case hsm.RSA2048:
		m.rsa = freshRSA()
	case hsm.P256:
		m.ec = freshEC()
	default:
		m.secret = make([]byte, 32)
		_, _ = rand.Read(m.secret)
	}
	return m
}

// freshRSA makes an RSA key on the host.
func freshRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// freshEC makes a P-256 key on the host.
func freshEC() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// public is the public half; nil of a secret key.
func (m material) public() crypto.PublicKey {
	switch {
	case m.rsa != nil:
		return m.rsa.Public()
	case m.ec != nil:
		return m.ec.Public()
	default:
		return nil
	}
}

// fillerRSA is one RSA key for keys that only fill a token.
var fillerRSA = sync.OnceValue(freshRSA)

// pin is computed here, in software, from the description of the pins in the keyring's
// documentation.
func (m material) pin() hsm.Pin {
	const text = "mintmark-pin-v1"
	switch {
	case m.public() != nil:
		der, err := x509.MarshalPKIXPublicKey(m.public())
		if err != nil {
			panic(err)
		}
		return hsm.Pin(fmt.Sprintf("spki-sha256:%x", sha256.Sum256(der)))
	case m.entry.Algorithm == hsm.AES256:
		block, err := aes.NewCipher(m.secret)
		if err != nil {
			panic(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			panic(err)
		}
		iv := make([]byte, 12)
		_, _ = rand.Read(iv)
		return hsm.Pin("aes-gcm:" + base64.StdEncoding.EncodeToString(gcm.Seal(iv, iv, []byte(text), []byte(m.entry.Name+"|"+m.entry.ID))))
	default:
		mac := hmac.New(sha256.New, m.secret)
		mac.Write([]byte(text + "|" + m.entry.Name))
		return hsm.Pin(fmt.Sprintf("hmac-sha256:%x", mac.Sum(nil)))
	}
}

// pinned is the keyring entry, with the same pin for each of the members.
func (m material) pinned(members ...string) hsm.Key {
	k := m.entry
	k.Pins = map[string]hsm.Pin{}
	for _, member := range members {
		k.Pins[member] = m.pin()
	}
	return k
}

// importKey puts the key on the token (C_CreateObject).
func (o *operator) importKey(m material) {
	o.t.Helper()
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, m.entry.Name),
		pkcs11.NewAttribute(pkcs11.CKA_ID, o.id(m.entry)),
	}
	guarded := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	}, common...)
	create := func(base []*pkcs11.Attribute, more ...*pkcs11.Attribute) {
		o.t.Helper()
		_, err := o.ctx.CreateObject(o.s, append(more, base...))
		o.must(err)
	}
	switch {
	case m.ec != nil:
		point, err := m.ec.PublicKey.Bytes()
		o.must(err)
		value, err := m.ec.Bytes()
		o.must(err)
		kind := pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC)
		curve := pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}) // P-256 (RFC 5480, 2.1.1.1)
		create(common, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), kind, curve,
			pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, append([]byte{0x04, byte(len(point))}, point...))) // an OCTET STRING
		create(guarded, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), kind, curve,
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, value))
	case m.rsa != nil:
		modulus := pkcs11.NewAttribute(pkcs11.CKA_MODULUS, m.rsa.N.Bytes())
		exponent := pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})
		kind := pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA)
		create(common, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), kind, modulus, exponent)
		create(guarded, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), kind, modulus, exponent,
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE_EXPONENT, m.rsa.D.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PRIME_1, m.rsa.Primes[0].Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PRIME_2, m.rsa.Primes[1].Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_1, m.rsa.Precomputed.Dp.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_2, m.rsa.Precomputed.Dq.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_COEFFICIENT, m.rsa.Precomputed.Qinv.Bytes()))
	case m.entry.Algorithm == hsm.AES256:
		create(guarded, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, m.secret))
	default:
		create(guarded, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, m.secret))
	}
}

func (o *operator) id(k hsm.Key) []byte {
	id, err := hex.DecodeString(k.ID)
	o.must(err)
	return id
}

// deleteKey removes every object under the key's CKA_ID.
func (o *operator) deleteKey(k hsm.Key) {
	o.t.Helper()
	o.must(o.ctx.FindObjectsInit(o.s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, o.id(k))}))
	found, _, err := o.ctx.FindObjects(o.s, 16)
	o.must(err)
	o.must(o.ctx.FindObjectsFinal(o.s))
	if len(found) == 0 {
		o.t.Fatalf("nothing on the token under the CKA_ID of %s", k.Name)
	}
	for _, object := range found {
		o.must(o.ctx.DestroyObject(o.s, object))
	}
}

// fill puts n keys on the token that no keyring lists.
func (o *operator) fill(n int) {
	o.t.Helper()
	for i := range n {
		m := newMaterialFor(fmt.Sprintf("filler-%d", i), i)
		o.importKey(m)
	}
}

// newMaterialFor is material that fills a token: each third key is an RSA key, and all
// of these are the same.
func newMaterialFor(name string, i int) material {
	switch i % 3 {
	case 0:
		m := newMaterial(name, hsm.CardVault)
		m.rsa, m.secret, m.entry.Algorithm = fillerRSA(), nil, hsm.RSA2048
		return m
	case 1:
		return newMaterial(name, hsm.CardVault)
	default:
		return newMaterial(name, hsm.CardIndex)
	}
}
