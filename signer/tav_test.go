package signer_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// until is a time in another zone and with parts of a second, neither of which a TAV has.
var until = time.Date(2026, 11, 22, 13, 30, 7, 999_999_999, time.FixedZone("elsewhere", 3600))

// tav is a TAV in order.
func tav(t testing.TB) signer.TAV {
	return signer.TAV{Version: signer.TAVv3, PAN: pan(t, "5204245250001488"), Expiry: secret.NewText("1249"), ValidUntil: until}
}

func TestTAVIsTheSampleByteForByteAndItsSignatureVerifies(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	pub, err := token.Public(string(hsm.TAVSigning))
	if err != nil {
		t.Fatal(err)
	}
	const when = "2026-11-22T12:30:07Z"
	for name, tc := range map[string]struct {
		change func(*signer.TAV)
		signed string
		before string // the signature
	}{
		"version 3": {
			func(*signer.TAV) {},
			"5204245250001488|1249|" + when,
			`{"version":"3","signatureAlgorithm":"RSA-SHA256","dataValidUntilTimestamp":"` + when +
				`","includedFieldsInOrder":"accountNumber|accountExpiry|dataValidUntilTimestamp","signature":"`,
		},
		"version 3 has no alias": {
			func(v *signer.TAV) { v.KeyAlias = "mc-1" },
			"5204245250001488|1249|" + when,
			`{"version":"3","signatureAlgorithm":"RSA-SHA256","dataValidUntilTimestamp":"` + when +
				`","includedFieldsInOrder":"accountNumber|accountExpiry|dataValidUntilTimestamp","signature":"`,
		},
		"version 4": {
			func(v *signer.TAV) { v.Version, v.KeyAlias = signer.TAVv4, "mc-1" },
			when + "|5204245250001488|1249",
			`{"version":"4","keyAlias":"mc-1","signatureAlgorithm":"RSA-SHA256","dataValidUntilTimestamp":"` + when +
				`","includedFieldsInOrder":"dataValidUntilTimestamp|accountNumber|accountExpiry","signature":"`,
		},
		"version 4 with an alias that needs escaping": {
			func(v *signer.TAV) { v.Version, v.KeyAlias = signer.TAVv4, `m"c` },
			when + "|5204245250001488|1249",
			`{"version":"4","keyAlias":"m\"c","signatureAlgorithm":"RSA-SHA256","dataValidUntilTimestamp":"` + when +
				`","includedFieldsInOrder":"dataValidUntilTimestamp|accountNumber|accountExpiry","signature":"`,
		},
		"another card": {
			func(v *signer.TAV) { v.PAN, v.Expiry = pan(t, "6759649826438453"), secret.NewText("0147") },
			"6759649826438453|0147|" + when,
			`{"version":"3","signatureAlgorithm":"RSA-SHA256","dataValidUntilTimestamp":"` + when +
				`","includedFieldsInOrder":"accountNumber|accountExpiry|dataValidUntilTimestamp","signature":"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := tav(t)
			tc.change(&v)
			tk := ticket(record.SignCard)
			held, err := gate.SignTAV(context.Background(), tk, v)
			if err != nil {
				t.Fatal(err)
			}
			out := string(release(t, tk, held))
			signature, found := strings.CutPrefix(out, tc.before)
			if !found {
				t.Fatalf("got  %s\nwant %s…", out, tc.before)
			}
			sig, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(signature, `"}`))
			if err != nil || len(sig) != 256 || !strings.HasSuffix(out, `"}`) {
				t.Fatalf("signature of %d bytes in %q, %v", len(sig), signature, err)
			}
			digest := sha256.Sum256([]byte(tc.signed))
			if err := rsa.VerifyPKCS1v15(pub.(*rsa.PublicKey), crypto.SHA256, digest[:], sig); err != nil {
				t.Errorf("signature is not over %q: %v", tc.signed, err)
			}
			if !json.Valid([]byte(out)) {
				t.Error("not JSON")
			}
			v.PAN.Reveal(func(digits []byte) { // it vouches for the card without showing it
				if strings.Contains(out, string(digits)) {
					t.Error("the account number is in it")
				}
			})
		})
	}
}

func TestTAVThatCannotBeMadeIsRefusedBeforeTheToken(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	for name, tc := range map[string]struct {
		change func(*signer.TAV)
		says   string
	}{
		"no account number":        {func(v *signer.TAV) { v.PAN = secret.PAN{} }, "make TAV: account number or expiry is missing"},
		"account number wiped":     {func(v *signer.TAV) { v.PAN.Wipe() }, "make TAV: account number or expiry is missing"},
		"no expiry":                {func(v *signer.TAV) { v.Expiry = secret.Text{} }, "make TAV: account number or expiry is missing"},
		"expiry MM/YY":             {func(v *signer.TAV) { v.Expiry = secret.NewText("12/49") }, "make TAV: account number or expiry is missing"},
		"expiry cut short":         {func(v *signer.TAV) { v.Expiry = secret.NewText("129") }, "make TAV: account number or expiry is missing"},
		"version 4 without alias":  {func(v *signer.TAV) { v.Version = signer.TAVv4 }, "make TAV: version 4 needs a keyAlias"},
		"version 2, not supported": {func(v *signer.TAV) { v.Version = "2" }, `make TAV: version "2" is not supported`},
		"no version":               {func(v *signer.TAV) { v.Version = "" }, `make TAV: version "" is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			v := tav(t)
			tc.change(&v)
			tk := ticket(record.SignCard)
			held, err := gate.SignTAV(context.Background(), tk, v)
			if err == nil || err.Error() != tc.says {
				t.Errorf("error is %v, want %q", err, tc.says)
			}
			if diff := cmp.Diff(record.Digest{}, held.Digest()); diff != "" {
				t.Error(diff)
			}
			if out, err := held.Release(receipt(tk, held.Digest())); out != nil || err == nil {
				t.Errorf("released %q, %v", out, err)
			}
		})
	}
	if token.Calls() != 0 {
		t.Errorf("the token was asked %d times", token.Calls())
	}
}
