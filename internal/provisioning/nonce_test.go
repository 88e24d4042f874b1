package provisioning

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

var (
	sampleNonce     = []byte{0xEA, 0x85, 0xA7, 0x3A}
	sampleSignature = append([]byte{0x40}, bytes.Repeat([]byte{0xC3, 0x17}, 40)...)
)

func TestNonceIsOneThingInEveryForm(t *testing.T) {
	lower, upper := hex.EncodeToString(sampleSignature), strings.ToUpper(hex.EncodeToString(sampleSignature))
	for name, tc := range map[string]struct{ nonce, signature string }{
		"hex":                    {"ea85a73a", lower},
		"upper-case hex":         {"EA85A73A", upper},
		"mixed case":             {"Ea85a73A", upper[:80] + lower[80:]},
		"Base64":                 {"6oWnOg==", b64(sampleSignature)},
		"one and the other":      {"6oWnOg==", lower},
		"Base64 in lines":        {"6oWnOg==\r\n", lines(b64(sampleSignature), 76, "\r\n")},
		"Base64 in short lines":  {"6oWn\nOg==", lines(b64(sampleSignature), 64, "\n")},
		"hex that is Base64 too": {"ea85a73a", b64(sampleSignature)}, // as Base64 it would be 79bf396bbdda, six bytes
	} {
		got, err := NonceRules{}.Canonical(tc.nonce, tc.signature)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Hex() != "ea85a73a" || got.SignatureHex() != lower {
			t.Errorf("%s: %s, %s", name, got.Hex(), got.SignatureHex())
		}
		if !bytes.Equal(got.Bytes(), sampleNonce) || !bytes.Equal(got.SignatureBytes(), sampleSignature) {
			t.Errorf("%s: bytes differ", name)
		}
	}
}

func TestOtherNoncesAreRefusedByName(t *testing.T) {
	signature := b64(sampleSignature)
	for name, tc := range map[string]struct {
		rules            NonceRules
		nonce, signature string
		member           string
		reason           NonceReason
	}{
		"no nonce":               {NonceRules{}, "", signature, "nonce", NonceMissing},
		"no signature":           {NonceRules{}, "ea85a73a", "", "nonceSignature", NonceMissing},
		"short nonce":            {NonceRules{}, "ea85a7", signature, "nonce", NonceWrongLength},
		"long nonce":             {NonceRules{}, "ea85a73aea", signature, "nonce", NonceWrongLength},
		"odd hex":                {NonceRules{}, "ea85a73", signature, "nonce", NonceMalformed},
		"not padded":             {NonceRules{}, "6oWnOg", signature, "nonce", NonceMalformed},
		"trailing bits":          {NonceRules{}, "6oWnOh==", signature, "nonce", NonceMalformed},
		"URL alphabet":           {NonceRules{}, "-_WnOg==", signature, "nonce", NonceMalformed},
		"blank":                  {NonceRules{}, " ea85a73a", signature, "nonce", NonceMalformed},
		"line end only":          {NonceRules{}, "\n", signature, "nonce", NonceWrongLength},
		"hex prefix":             {NonceRules{}, "0xea85a73a", signature, "nonce", NonceMalformed},
		"encoded twice":          {NonceRules{}, b64([]byte("6oWnOg==")), signature, "nonce", NonceWrongLength},
		"signature short by one": {NonceRules{}, "ea85a73a", b64(sampleSignature[1:]), "nonceSignature", NonceWrongLength},
		"signature not padded":   {NonceRules{}, "ea85a73a", b64(sampleSignature) + "A", "nonceSignature", NonceMalformed},
		"huge":                   {NonceRules{}, "ea85a73a", strings.Repeat("A", 1<<20), "nonceSignature", NonceWrongLength},
		"other length demanded":  {NonceRules{NonceLength: 8}, "ea85a73a", signature, "nonce", NonceWrongLength},
		// The overlap, where a configured length makes it real: read as hexadecimal.
		"Base64 that is hex too": {NonceRules{NonceLength: 6}, "ea85a73a", signature, "nonce", NonceWrongLength},
	} {
		_, err := tc.rules.Canonical(tc.nonce, tc.signature)
		var refused *NonceError
		if !errors.As(err, &refused) {
			t.Errorf("%s: got %v, want a NonceError", name, err)
			continue
		}
		if refused.Member != tc.member || refused.Reason != tc.reason {
			t.Errorf("%s: got %v, want %s %s", name, err, tc.member, tc.reason)
		}
		if tc.nonce != "" && strings.Contains(err.Error(), tc.nonce) {
			t.Errorf("%s: the error holds the input", name)
		}
	}
	if _, err := (NonceRules{NonceLength: 6, SignatureLength: 81}).Canonical("zw85a73a", signature); err != nil {
		t.Errorf("six bytes demanded and sent: %v", err)
	}
}

func TestClaimIDTellsEveryPartApart(t *testing.T) {
	spki := [32]byte{1}
	base := ClaimID("bank", spki, sampleNonce, sampleSignature)
	if base != ClaimID("bank", spki, bytes.Clone(sampleNonce), bytes.Clone(sampleSignature)) {
		t.Error("the same attempt has two names")
	}
	// Stored claims depend on the encoding: it must not change unnoticed.
	if got := hex.EncodeToString(base[:]); got != "d030eb5ba2d69c6bd6fff117a411ca6417c3f4de906e2106cdf2fc6f3b7e433b" {
		t.Errorf("claim of the sample is %s", got)
	}
	seen := map[[32]byte]string{base: "the sample"}
	for name, id := range map[string][32]byte{
		"tenant":            ClaimID("bank2", spki, sampleNonce, sampleSignature),
		"leaf":              ClaimID("bank", [32]byte{2}, sampleNonce, sampleSignature),
		"nonce":             ClaimID("bank", spki, []byte{1, 2, 3, 4}, sampleSignature),
		"signature":         ClaimID("bank", spki, sampleNonce, sampleSignature[1:]),
		"boundary moved":    ClaimID("bank", spki, append(bytes.Clone(sampleNonce), sampleSignature[0]), sampleSignature[1:]),
		"nothing for nonce": ClaimID("bank", spki, nil, append(bytes.Clone(sampleNonce), sampleSignature...)),
	} {
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have one claim", name, other)
		}
		seen[id] = name
	}
}

// What is accepted has the right lengths and stays itself in both forms.
func FuzzCanonicalNonce(f *testing.F) {
	f.Add("ea85a73a", b64(sampleSignature))
	f.Add("6oWnOg==", hex.EncodeToString(sampleSignature))
	f.Add("6oWnOg==\n", "")
	f.Fuzz(func(t *testing.T, nonce, signature string) {
		got, err := NonceRules{}.Canonical(nonce, signature)
		if err != nil {
			var refused *NonceError
			if !errors.As(err, &refused) {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		if len(got.Bytes()) != 4 || len(got.SignatureBytes()) != 81 {
			t.Fatalf("%d and %d bytes", len(got.Bytes()), len(got.SignatureBytes()))
		}
		for _, form := range [][2]string{{got.Hex(), got.SignatureHex()}, {b64(got.Bytes()), b64(got.SignatureBytes())}} {
			again, err := NonceRules{}.Canonical(form[0], form[1])
			if err != nil || again.Hex() != got.Hex() || again.SignatureHex() != got.SignatureHex() {
				t.Fatalf("its own form is read otherwise: %v", err)
			}
		}
	})
}
