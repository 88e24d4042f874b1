package signer_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
	"github.com/mintmark/mintmark/signer"
)

// passIdentity issues a certificate for a key of the token.
func passIdentity(t *testing.T, token *hsmtest.Token, authority *passtest.Authority, key string) signer.PassIdentity {
	t.Helper()
	pub, err := token.Public(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.Leaf(pub)
	if err != nil {
		t.Fatal(err)
	}
	return signer.PassIdentity{Key: key, Certificate: leaf, Intermediates: []*x509.Certificate{authority.Intermediate}}
}

func TestPassesAreSignedByPassKeysWithATicketOnly(t *testing.T) {
	now := time.Now()
	token := hsmtest.New(t, hsmtest.With(hsm.NewKey{Name: "pass-ec", Purpose: hsm.Pass, Algorithm: hsm.P256}))
	gate := signer.New(token.Token)
	authority, err := passtest.New(now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := passkit.NewTemplate(passkit.Generic)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, key := range []string{"pass", "pass-ec"} {
		id := passIdentity(t, token, authority, key)
		tk := ticket(record.SignPass)
		held, err := gate.SignPass(ctx, tk, id, b, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gate.SignPass(ctx, tk, id, b, now); !errors.Is(err, record.ErrNoTicket) {
			t.Errorf("%s: twice with one ticket: %v", key, err)
		}
		if _, err := gate.SignPersonalization(ctx, tk, id, []byte("x"), now); !errors.Is(err, record.ErrNoTicket) {
			t.Errorf("%s: a personalization token with a pass's ticket: %v", key, err)
		}
		pkpass, err := held.Release(record.IssueReceipt(tk, record.Done(held.Digest())))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := passkit.Open(pkpass)
		if err != nil {
			t.Fatal(err)
		}
		if r := passkit.Verify(signed, passkit.VerifyOptions{Roots: authority.Roots(), Now: now}); !r.OK() {
			t.Errorf("%s: %v", key, r.Results)
		}
		manifest := signed.Files[passkit.FileManifest]
		if _, err := gate.SignPersonalization(ctx, ticket(record.PersonalizePass), id, manifest, now); !errors.Is(err, passkit.ErrPersonalizationToken) {
			t.Errorf("%s: a manifest as personalization token: %v", key, err)
		}
	}
	before := token.CallsOf("sign")
	other := passIdentity(t, token, authority, string(hsm.MerchantJWT))
	if _, err := gate.SignPass(ctx, ticket(record.SignPass), other, b, now); err == nil {
		t.Error("signed with a key for merchant JWTs")
	}
	if _, err := gate.PushKey(string(hsm.MerchantJWT), other.Certificate.PublicKey).Sign(nil, make([]byte, 32), nil); err == nil {
		t.Error("a key for merchant JWTs makes handshakes with the push service")
	}
	mixed := passIdentity(t, token, authority, "pass")
	mixed.Key = "pass-ec"
	var refused *passkit.RefusedError
	if _, err := gate.SignPass(ctx, ticket(record.SignPass), mixed, b, now); !errors.As(err, &refused) {
		t.Errorf("signed with another key than the certificate's: %v", err)
	}
	if token.CallsOf("sign") != before {
		t.Error("the token was asked for what is refused")
	}
}
