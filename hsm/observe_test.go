package hsm

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// What is made for a purpose shows no deviation; what somebody prepared otherwise, or put
// there without an entry, is shown as it is.
func TestInventoryShowsTheTokenAsItIs(t *testing.T) {
	on := softhsm.New(t)
	maker := open(t, on, ringOf())
	var keys []Key
	for _, p := range []Purpose{CardVault, CardIndex, ProximityToken, CardTransport, VisaZone} {
		k, _, err := maker.Generate(context.Background(), NewKey{Name: string(p), Purpose: p}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	loose := entry("loose", CardVault)
	loose.Provenance, loose.State = Generated, Next
	operate(t, maker, func(u *unit) {
		create(t, u, append(readableKey("other-label", loose.ckaID()), pkcs11.NewAttribute(pkcs11.CKA_WRAP, true))...)
		create(t, u, readableKey("stranger", []byte("stranger"))...)
		create(t, u, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, "a note"), pkcs11.NewAttribute(pkcs11.CKA_VALUE, []byte("x")))
	})
	shut(t, maker)

	tok := open(t, on, ringOf(append(keys, loose)...))
	requireSeals(t, tok, "card-vault")
	inv, err := tok.Inventory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if inv.Member != member || inv.At.IsZero() || inv.Token.Serial != on.Serial || len(inv.Keys) != len(keys)+1 {
		t.Fatalf("inventory is %+v", inv)
	}
	for i, want := range keys {
		k := inv.Keys[i]
		objects := 1
		if want.Algorithm.Public() {
			objects = 2
			if last := k.Objects[1]; last.Class != ClassPublicKey || Pin("spki-sha256:"+last.SPKISHA256) != want.Pins[member] {
				t.Errorf("%s: its public half is %+v", k.Name, last)
			}
		}
		if k.Name != want.Name || k.Problem != "" || len(k.Deviations) != 0 || len(k.Objects) != objects {
			t.Errorf("%s: %+v", want.Name, k)
			continue
		}
		o := k.Objects[0]
		if o.Flags["EXTRACTABLE"] || !o.Flags["NEVER_EXTRACTABLE"] || o.Readable || len(o.Allowed) != 1 || o.GenMechanism == "" || o.Bits < 192 {
			t.Errorf("%s: %+v", k.Name, o)
		}
	}
	if inv.Keys[0].Uses != 2 || inv.Keys[1].Uses != 0 {
		t.Errorf("used %d and %d times", inv.Keys[0].Uses, inv.Keys[1].Uses)
	}
	got := strings.Join(inv.Keys[len(keys)].Deviations, "; ")
	for _, part := range []string{"EXTRACTABLE is true", "SENSITIVE is false", "WRAP is true", "MODIFIABLE is true", "LOCAL is false", "its value can be read", "its label is not its name"} {
		if !strings.Contains(got, part) {
			t.Errorf("the loose key's deviations are %s; %s is not among them", got, part)
		}
	}
	var unlisted []string
	for _, o := range inv.Unlisted {
		unlisted = append(unlisted, o.Class+" "+o.Label)
	}
	slices.Sort(unlisted)
	if strings.Join(unlisted, ", ") != "CKO_DATA a note, CKO_SECRET_KEY stranger" {
		t.Errorf("unlisted: %v", unlisted)
	}
}

// readableKey is the template of an AES key as nobody should make one.
func readableKey(label string, id []byte) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, make([]byte, 32)),
	}
}
