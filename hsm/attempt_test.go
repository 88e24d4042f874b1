package hsm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// Whatever a key of ours must not allow is refused by SoftHSM, for each purpose, and nothing of
// the trying stays on the token.
func TestWhatNoKeyAllowsIsTriedAndRefused(t *testing.T) {
	on := softhsm.New(t)
	tok := open(t, on, ringOf())
	before := flagCount(t, tok)
	for _, p := range Purposes() {
		tried, err := tok.Attempts(context.Background(), p, p.DefaultAlgorithm())
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		refused := 0
		for _, at := range tried {
			t.Log(p, at)
			if at.Outcome == AttemptRefused {
				refused++
			}
			if at.Outcome == AttemptAllowed || at.Outcome == AttemptUnknown {
				t.Errorf("%s: %s: %s, %s", p, at.What, at.Outcome, at.Answer)
			}
		}
		if refused < 5 {
			t.Errorf("%s: only %d of %d attempts were made and refused", p, refused, len(tried))
		}
	}
	st := tok.Stats()
	if left, err := tok.SessionObjects(context.Background()); err != nil || left != 0 || st.EphemeralCreated != st.EphemeralDestroyed || st.EphemeralCreated == 0 {
		t.Errorf("%d session objects are left (%v), %d made, %d destroyed", left, err, st.EphemeralCreated, st.EphemeralDestroyed)
	}
	if after := flagCount(t, tok); after != before {
		t.Errorf("the token had %d objects and has %d", before, after)
	}
}

// A key that does allow it is told from one that does not.
func TestAttemptsThatAKeyAllowsAreSeen(t *testing.T) {
	on := softhsm.New(t)
	tok := open(t, on, ringOf())
	operate(t, tok, func(u *unit) {
		h, err := u.sessionSecret(pkcs11.CKM_AES_KEY_GEN, pkcs11.CKK_AES,
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true))
		if err != nil {
			t.Fatal(err)
		}
		defer u.destroy(h)
		tried := append([]Attempt{u.tryRead(h, AES256), u.tryExtractable(h), u.tryWrap(h, false)}, u.tryCopies(h, true)...)
		tried = append(tried, u.tryMechanisms(h, templateFor("x", []byte{1}, CardVault, AES256))...)
		for _, at := range tried {
			if at.Outcome != AttemptAllowed {
				t.Errorf("%s: %s, %s", at.What, at.Outcome, at.Answer)
			}
		}
	})
}

func flagCount(t *testing.T, tok *Token) int {
	t.Helper()
	n, err := work(context.Background(), tok, "count", func(u *unit) (int, error) {
		found, err := u.find()
		return len(found), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A token that takes a flag and does not show it then has not refused it.
func TestFlagThatCannotBeReadWasNotRefused(t *testing.T) {
	for want, c := range map[AttemptOutcome]struct {
		set bool
		err error
	}{
		AttemptRefused: {false, nil},
		AttemptAllowed: {true, nil},
		AttemptUnknown: {false, ckr("C_GetAttributeValue", pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID))},
	} {
		if got := extractable("set CKA_EXTRACTABLE", c.set, c.err); got.Outcome != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
}

// A refused SO PIN shows in the token's own flags.
func TestLoginStateIsTheTokens(t *testing.T) {
	on := softhsm.New(t)
	tok := open(t, on, ringOf())
	requireLogin(t, tok, "")
	shut(t, tok)
	refuseSOPIN(t, on)
	tok = open(t, on, ringOf())
	requireLogin(t, tok, "CKF_SO_PIN_COUNT_LOW")
}

func requireLogin(t *testing.T, tok *Token, trouble string) {
	t.Helper()
	l, err := tok.Login(context.Background())
	if err != nil || l.State != "CKS_RO_USER_FUNCTIONS" || !l.Required || strings.Join(l.PINTrouble, " ") != trouble {
		t.Errorf("%+v, %v", l, err)
	}
}

// refuseSOPIN logs in as security officer with a PIN that is wrong, as an intruder would.
func refuseSOPIN(t *testing.T, on *softhsm.Token) {
	t.Helper()
	ctx := pkcs11.New(on.Module)
	defer ctx.Destroy()
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ctx.Finalize() }()
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := ctx.Login(s, pkcs11.CKU_SO, "not the PIN"); !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		t.Fatal(err)
	}
}

// What a purpose's key must be is its template's.
func TestExpectedIsTheTemplates(t *testing.T) {
	for p, want := range map[Purpose]string{
		CardVault:      "DECRYPT ENCRYPT / CKM_AES_GCM / 256",
		CardIndex:      "SIGN / CKM_SHA256_HMAC / 256",
		CardTransport:  "DERIVE / CKM_ECDH1_DERIVE / 256",
		VisaZone:       "ENCRYPT / CKM_DES3_CBC / 192",
		ProximityToken: "SIGN / CKM_ECDSA / 256",
		TAVSigning:     "SIGN / CKM_RSA_PKCS / 2048",
	} {
		k := entry("k", p)
		k.Algorithm = p.DefaultAlgorithm()
		x := k.Expected()
		got := fmt.Sprintf("%s / %s / %d", strings.Join(x.Uses, " "), strings.Join(x.Mechanisms, " "), x.Bits)
		if got != want {
			t.Errorf("%s: %s, and not %s", p, got, want)
		}
	}
}
