package report_test

import (
	"encoding/hex"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
)

// An intruder does to the token what nobody should, beside the service and with its PIN.
type intruder struct {
	t   *testing.T
	ctx *pkcs11.Ctx
	s   pkcs11.SessionHandle
}

// intrude opens a session of the intruder's until the test ends. A process has one login to a
// token: the service's, if that is open.
func intrude(t *testing.T, tok *hsmtest.Token, login bool) *intruder {
	t.Helper()
	on := tok.SoftHSM()
	i := &intruder{t: t, ctx: pkcs11.New(on.Module)}
	if err := i.ctx.Initialize(); err != nil && err != pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		t.Fatal(err)
	}
	slots, err := i.ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	if i.s, err = i.ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		t.Fatal(err)
	}
	if login {
		if err := i.ctx.Login(i.s, pkcs11.CKU_USER, on.PIN()); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// leave ends an intruder whose process has no service in it.
func (i *intruder) leave() {
	if err := i.ctx.Finalize(); err != nil {
		i.t.Fatal(err)
	}
	i.ctx.Destroy()
}

func (i *intruder) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// put creates an AES key with other attributes than any of ours has.
func (i *intruder) put(label string, id []byte, other ...*pkcs11.Attribute) {
	i.t.Helper()
	_, err := i.ctx.CreateObject(i.s, aesKey(label, id, other...))
	i.must(err)
}

// aesKey is the template of a key that has all that ours have, but that it was imported.
func aesKey(label string, id []byte, other ...*pkcs11.Attribute) []*pkcs11.Attribute {
	own := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_VALUE, make([]byte, 32)),
	}
	flags := map[uint]bool{
		pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false,
		pkcs11.CKA_MODIFIABLE: false, pkcs11.CKA_COPYABLE: false, pkcs11.CKA_ENCRYPT: true, pkcs11.CKA_DECRYPT: true,
		pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false, pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_DERIVE: false,
	}
	for _, a := range other {
		delete(flags, a.Type)
	}
	for typ, is := range flags {
		own = append(own, pkcs11.NewAttribute(typ, is))
	}
	return append(own, other...)
}

// looseEntry lists what an intruder put there as if it were ours.
func looseEntry(name string, id []byte, change func(*hsm.Key)) hsm.Key {
	k := hsm.Key{
		Name: name, Purpose: hsm.CardVault, Algorithm: hsm.AES256, ID: hex.EncodeToString(id), Pins: map[string]hsm.Pin{},
		Provenance: hsm.Imported, State: hsm.Next, Created: "2026-11-22",
	}
	if change != nil {
		change(&k)
	}
	return k
}
