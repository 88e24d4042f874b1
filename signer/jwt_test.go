package signer_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// A kind of JWT, with what makes it.
type kind struct {
	name      string
	op        record.Operation
	purpose   hsm.Purpose
	algorithm jose.SignatureAlgorithm
	header    string // with %s for the kid
	sign      func(context.Context, *record.Ticket, jwt.Claims) (signer.SignedJWT, error)
}

func kinds(gate *signer.Gate) []kind {
	return []kind{
		{"merchant JWT", record.SignMerchantToken, hsm.MerchantJWT, jose.RS256, `{"alg":"RS256","kid":"%s","typ":"JWT"}`, gate.SignMerchantJWT},
		{"proximity token", record.SignProximityToken, hsm.ProximityToken, jose.ES256, `{"alg":"ES256","kid":"%s"}`, gate.SignProximityToken},
	}
}

// sign makes a token and releases it.
func (k kind) mustSign(t testing.TB, claims jwt.MapClaims) (token, kid string) {
	t.Helper()
	tk := ticket(k.op)
	signed, err := k.sign(t.Context(), tk, claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err = signed.Token.Release(receipt(tk, signed.Token.Digest()))
	if err != nil {
		t.Fatal(err)
	}
	return token, signed.KeyID
}

// random gives claims of every JSON type, from a source that can be repeated.
func random(r *rand.Rand) jwt.MapClaims {
	text := func() string {
		letters := []rune("abcXYZ019 _-./<>&\"\\\u00e9\u2028\U0001f4b3")
		var b strings.Builder
		for range r.IntN(40) {
			b.WriteRune(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	var value func(depth int) any
	value = func(depth int) any {
		switch n := r.IntN(8); {
		case n == 0:
			return r.Int64() - r.Int64()
		case n == 1:
			return r.NormFloat64() * math.Pow(10, float64(r.IntN(30)-15))
		case n == 2:
			return r.IntN(2) == 0
		case n == 3:
			return nil
		case n == 4 && depth < 4:
			list := make([]any, r.IntN(4))
			for i := range list {
				list[i] = value(depth + 1)
			}
			return list
		case n == 5 && depth < 4:
			object := map[string]any{}
			for range r.IntN(4) {
				object[text()] = value(depth + 1)
			}
			return object
		default:
			return text()
		}
	}
	claims := jwt.MapClaims{"iat": r.Int64N(1 << 33)}
	for range r.IntN(8) {
		claims[text()] = value(0)
	}
	return claims
}

// What we sign another library verifies, with the claims as they were given.
func TestThousandTokensOfEachKindVerifyElsewhere(t *testing.T) {
	const tokens = 1000
	token := withoutCards(t)
	r := rand.New(rand.NewPCG(7515, 7519))
	for _, k := range kinds(signer.New(token.Token)) {
		t.Run(k.name, func(t *testing.T) {
			pub, err := token.Public(string(k.purpose))
			if err != nil {
				t.Fatal(err)
			}
			for i := range tokens {
				claims := random(r)
				signed, kid := k.mustSign(t, claims)
				parsed, err := jose.ParseSignedCompact(signed, []jose.SignatureAlgorithm{k.algorithm})
				if err != nil {
					t.Fatalf("token %d: %v", i, err)
				}
				payload, err := parsed.Verify(pub)
				if err != nil {
					t.Fatalf("token %d does not verify: %v\n%s", i, err, signed)
				}
				if parsed.Signatures[0].Header.KeyID != kid {
					t.Fatalf("token %d names key %q, want %q", i, parsed.Signatures[0].Header.KeyID, kid)
				}
				want, err := json.Marshal(claims)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(numbersKept(t, want), numbersKept(t, payload)); diff != "" {
					t.Fatalf("token %d has other claims (-want +got):\n%s", i, diff)
				}
			}
			if n := token.CallsOf("sign"); n < tokens {
				t.Errorf("the token signed %d times", n)
			}
		})
	}
}

// numbersKept decodes JSON with its numbers as they are written.
func numbersKept(t testing.TB, b []byte) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestHeaderIsThePublishedOneByteForByte(t *testing.T) {
	token := withoutCards(t)
	for _, k := range kinds(signer.New(token.Token)) {
		t.Run(k.name, func(t *testing.T) {
			signed, kid := k.mustSign(t, jwt.MapClaims{"sub": "user-1", "kid": "another", "alg": "none"})
			header, err := base64.RawURLEncoding.DecodeString(signed[:strings.Index(signed, ".")])
			if want := fmt.Sprintf(k.header, kid); err != nil || string(header) != want {
				t.Errorf("header is %s, want %s", header, want)
			}
			pub, err := token.Public(string(k.purpose))
			if err != nil {
				t.Fatal(err)
			}
			if kid != thumbprint(t, pub) {
				t.Errorf("kid is %q, want the thumbprint %q", kid, thumbprint(t, pub))
			}
		})
	}
}

// The record has the digest of what leaves, and the text leaves only with its receipt.
func TestTokenIsHeldUntilItsDigestIsOnRecord(t *testing.T) {
	token := withoutCards(t)
	for _, k := range kinds(signer.New(token.Token)) {
		t.Run(k.name, func(t *testing.T) {
			tk := ticket(k.op)
			signed, err := k.sign(t.Context(), tk, jwt.MapClaims{"sub": "user-1"})
			if err != nil {
				t.Fatal(err)
			}
			digest := signed.Token.Digest()
			for name, r := range map[string]*record.Receipt{
				"no receipt":         nil,
				"another ticket's":   receipt(ticket(k.op), digest),
				"of nothing":         receipt(tk),
				"of another output":  receipt(tk, record.Digest{Name: "token", SHA256: strings.Repeat("0", 64)}),
				"of another's name":  receipt(tk, record.Digest{Name: "tav", SHA256: digest.SHA256}),
				"of a failed result": record.IssueReceipt(tk, record.Result{Outcome: record.OutcomeFailed, Outputs: []record.Digest{digest}}),
			} {
				if out, err := signed.Token.Release(r); out != "" || !errors.Is(err, record.ErrNoReceipt) {
					t.Errorf("%s: %q, %v", name, out, err)
				}
			}
			out, err := signed.Token.Release(receipt(tk, digest))
			sum := sha256.Sum256([]byte(out))
			if err != nil || strings.Count(out, ".") != 2 || digest.Name != "token" || digest.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("released %q under %+v, %v", out, digest, err)
			}
		})
	}
}

// Claims that have no JSON are refused before the token is asked.
func TestClaimsThatCannotBeEncodedAreNotSigned(t *testing.T) {
	token := withoutCards(t)
	for _, k := range kinds(signer.New(token.Token)) {
		for name, value := range map[string]any{
			"a channel": make(chan int), "not a number": math.NaN(), "infinity": math.Inf(1), "broken JSON": json.RawMessage(`{"a":`),
		} {
			signed, err := k.sign(t.Context(), ticket(k.op), jwt.MapClaims{"x": value})
			if err == nil || signed.KeyID != "" {
				t.Errorf("%s, %s: key %q, %v", k.name, name, signed.KeyID, err)
			}
		}
	}
	if token.Calls() != 0 {
		t.Errorf("the token was asked %d times", token.Calls())
	}
}

// New tokens are signed with the active key, not with the one to come or the last one.
func TestTokensAreSignedWithTheActiveKey(t *testing.T) {
	token := withoutCards(t,
		hsmtest.With(hsm.NewKey{Name: "jwt-next", Purpose: hsm.MerchantJWT, State: hsm.Next}),
		hsmtest.With(hsm.NewKey{Name: "jwt-old", Purpose: hsm.MerchantJWT, State: hsm.Retired}),
		hsmtest.With(hsm.NewKey{Name: "pt-next", Purpose: hsm.ProximityToken, State: hsm.Next}))
	gate := signer.New(token.Token)
	for _, k := range kinds(gate) {
		_, kid := k.mustSign(t, jwt.MapClaims{})
		if want := kidOf(t, token, string(k.purpose)); kid != want {
			t.Errorf("%s: signed with %s, want %s", k.name, kid, want)
		}
	}
	// The one to come takes over with the keyring.
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i, k := range ring.Keys {
			switch {
			case k.Name == "jwt-next":
				ring.Keys[i].State = hsm.Active
			case k.Name == string(hsm.MerchantJWT):
				ring.Keys[i].State = hsm.Retired
			}
		}
	})
	k := kinds(signer.New(token.Token))[0]
	if _, kid := k.mustSign(t, jwt.MapClaims{}); kid != kidOf(t, token, "jwt-next") {
		t.Errorf("signed with %s", kid)
	}
}

func kidOf(t testing.TB, token *hsmtest.Token, name string) string {
	t.Helper()
	pub, err := token.Public(name)
	if err != nil {
		t.Fatal(err)
	}
	return thumbprint(t, pub)
}

// A larger key signs as the usual one does. The largest takes SoftHSM too long to make.
func TestMerchantKeyOfAnotherSize(t *testing.T) {
	token := withoutCards(t, hsmtest.Without(hsm.MerchantJWT), hsmtest.With(hsm.NewKey{Name: "jwt", Purpose: hsm.MerchantJWT, Algorithm: hsm.RSA3072}))
	k := kinds(signer.New(token.Token))[0]
	signed, _ := k.mustSign(t, jwt.MapClaims{"sub": "user-1"})
	pub, err := token.Public("jwt")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(signed, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Verify(pub); err != nil {
		t.Error(err)
	}
}

// A caller who is gone makes no work, and gets nothing.
func TestTokenForACallerWhoIsGoneIsNotSigned(t *testing.T) {
	token := withoutCards(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, k := range kinds(signer.New(token.Token)) {
		signed, err := k.sign(ctx, ticket(k.op), jwt.MapClaims{})
		var later interface{ RetryAfter() time.Duration }
		if !errors.As(err, &later) || signed.KeyID != "" {
			t.Errorf("%s: %+v, %v", k.name, signed, err)
		}
	}
}

// thumbprint is the RFC 7638 thumbprint of a key, made here from the RFC's text: the JWK's
// required members in alphabetical order, without a space, under SHA-256.
func thumbprint(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	var text string
	switch members := jwkMembers(t, pub); members["kty"] {
	case "RSA":
		text = fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`, members["e"], members["n"])
	case "EC":
		text = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, members["x"], members["y"])
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
