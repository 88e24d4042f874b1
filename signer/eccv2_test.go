package signer_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

func TestAppleOpensWhatIsSealed(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	apple := aKey(t)
	points := map[string]bool{}
	for _, payload := range []string{
		`{"version":"1"}`, "x", strings.Repeat("long ", 1000), `{"name":"Zoë \"Quote\""}`, "0123456789abcdef",
	} {
		tk := ticket(record.SignCard)
		sealed, err := gate.SealECCv2(context.Background(), tk, apple.PublicKey(), []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		r := receipt(tk, sealed.EphemeralPublicKey.Digest(), sealed.EncryptedData.Digest())
		point, err1 := sealed.EphemeralPublicKey.Release(r)
		encrypted, err2 := sealed.EncryptedData.Release(r)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if len(point) != 65 || point[0] != 4 || len(encrypted) != len(payload)+16 {
			t.Fatalf("point of %d bytes, ciphertext of %d for %d", len(point), len(encrypted), len(payload))
		}
		if points[string(point)] {
			t.Fatal("an ephemeral key sealed twice")
		}
		points[string(point)] = true
		got, err := appletest.OpenECDH(apple, point, encrypted)
		if err != nil || string(got) != payload {
			t.Errorf("opened %q, %v", got, err)
		}
		// Nobody else opens it, and nothing that was changed on the way opens.
		if _, err := appletest.OpenECDH(aKey(t), point, encrypted); err == nil {
			t.Error("somebody else opened it")
		}
		encrypted[0] ^= 1
		if _, err := appletest.OpenECDH(apple, point, encrypted); err == nil {
			t.Error("opened although changed")
		}
	}
}

func TestDigestsOnRecordAreThoseOfTheBytesThatLeave(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	tk := ticket(record.SignCard)
	sealed, err := gate.SealECCv2(context.Background(), tk, aKey(t).PublicKey(), []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	vouched, err := gate.SignTAV(context.Background(), tk, tav(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		held record.Held[[]byte]
	}{{"ephemeralPublicKey", sealed.EphemeralPublicKey}, {"encryptedData", sealed.EncryptedData}, {"activationData", vouched}} {
		if out, err := tc.held.Release(receipt(tk)); out != nil || !errors.Is(err, record.ErrNoReceipt) {
			t.Errorf("%s released %x without its digest on record, %v", tc.name, out, err)
		}
		sum := sha256.Sum256(release(t, tk, tc.held))
		if diff := cmp.Diff(record.Digest{Name: tc.name, SHA256: hex.EncodeToString(sum[:])}, tc.held.Digest()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSealedPayloadIsOverwrittenByNobodyButTheCaller(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	payload := []byte("the caller's own")
	if _, err := gate.SealECCv2(context.Background(), ticket(record.SignCard), aKey(t).PublicKey(), payload); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(payload, []byte("the caller's own")) {
		t.Errorf("payload is now %q", payload)
	}
}

func TestRecipientThatIsNoneIsRefusedBeforeTheToken(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	p384, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]*ecdh.PublicKey{"none": nil, "on P-384": p384.PublicKey(), "on X25519": x25519.PublicKey()} {
		sealed, err := gate.SealECCv2(context.Background(), ticket(record.SignCard), to, []byte("payload"))
		if err == nil || sealed.EncryptedData.Digest() != (record.Digest{}) {
			t.Errorf("%s: %+v, %v", name, sealed, err)
		}
	}
	if token.Calls() != 0 {
		t.Errorf("the token was asked %d times", token.Calls())
	}
}
