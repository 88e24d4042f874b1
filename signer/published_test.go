package signer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/signer"
)

// today is when keys are asked for.
var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// jwkMembers are a public key's members as RFC 7518, 6.2.1 and 6.3.1, has them.
func jwkMembers(t testing.TB, pub crypto.PublicKey) map[string]string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x, y
		if err != nil || len(point) != 65 {
			t.Fatalf("point of %d bytes, %v", len(point), err)
		}
		return map[string]string{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	default:
		t.Fatalf("key type %T", pub)
		return nil
	}
}

// withoutCards leaves out the keys for cards, of which no JWT and no certificate needs any.
func withoutCards(t testing.TB, options ...hsmtest.Option) *hsmtest.Token {
	t.Helper()
	for _, p := range []hsm.Purpose{hsm.TAVSigning, hsm.CardVault, hsm.CardIndex} {
		options = append(options, hsmtest.Without(p))
	}
	return hsmtest.New(t, options...)
}

func TestKeySetHoldsWhatOthersNeedAndNothingElse(t *testing.T) {
	token := hsmtest.New(t)
	set, err := signer.New(token.Token).JWKS(today)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Keys []map[string]string }
	if err := json.Unmarshal(set, &got); err != nil {
		t.Fatal(err)
	}
	var want []map[string]string
	for _, k := range []struct {
		purpose hsm.Purpose
		alg     string
	}{{hsm.MerchantJWT, "RS256"}, {hsm.ProximityToken, "ES256"}} {
		pub, err := token.Public(string(k.purpose))
		if err != nil {
			t.Fatal(err)
		}
		members := jwkMembers(t, pub)
		members["alg"], members["use"], members["kid"] = k.alg, "sig", thumbprint(t, pub)
		want = append(want, members)
	}
	if diff := cmp.Diff(want, got.Keys); diff != "" {
		t.Errorf("the set (-want +got):\n%s", diff)
	}
	again, err := signer.New(token.Token).JWKS(today.Add(time.Hour))
	if err != nil || string(again) != string(set) {
		t.Errorf("the same keys give another set: %v", err)
	}
	if token.Calls() != 0 {
		t.Errorf("the token was asked %d times", token.Calls())
	}
}

// The example of RFC 7638, 3.1, which others made.
func TestKeyIDIsTheThumbprintOfRFC7638(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	modulus, err := base64.RawURLEncoding.DecodeString(n)
	if err != nil {
		t.Fatal(err)
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	kid, err := signer.KeyID(pub)
	if err != nil || kid != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" || kid != thumbprint(t, pub) {
		t.Errorf("kid %q, %v", kid, err)
	}
	for _, other := range []crypto.PublicKey{nil, "a text", []byte{1}, ed25519.PublicKey(make([]byte, 32)), *pub} {
		if kid, err := signer.KeyID(other); kid != "" || err == nil {
			t.Errorf("%T has the kid %q", other, kid)
		}
	}
}

// Keys are published for as long as something that they signed may be alive: those to come
// before they sign, those that are retired until their last tokens are dead.
func TestPublishedKeysFollowTheirState(t *testing.T) {
	key := func(name string, p hsm.Purpose, s hsm.State) hsmtest.Option {
		return hsmtest.With(hsm.NewKey{Name: name, Purpose: p, State: s})
	}
	token := withoutCards(t,
		key("jwt-next", hsm.MerchantJWT, hsm.Next), key("jwt-undated", hsm.MerchantJWT, hsm.Retired), key("jwt-dated", hsm.MerchantJWT, hsm.Retired),
		key("pt-dated", hsm.ProximityToken, hsm.Retired))
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i, k := range ring.Keys {
			if strings.HasSuffix(k.Name, "-dated") {
				ring.Keys[i].Created, ring.Keys[i].Retired = "2026-01-01", "2026-11-22"
			}
		}
	})
	gate := signer.New(token.Token)
	lasting := []string{"merchant-jwt", "jwt-next", "jwt-undated", "proximity-token"}
	all := []string{"merchant-jwt", "jwt-next", "jwt-undated", "jwt-dated", "proximity-token", "pt-dated"}
	endOfDay := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		at   time.Time
		want []string
	}{
		{today, all},
		{today.AddDate(-1, 0, 0), all},
		{endOfDay.Add(48 * time.Hour), all}, // a proximity token of the last second of its day
		{endOfDay.Add(72 * time.Hour), all},
		{endOfDay.Add(72*time.Hour + 1), lasting},
		{today.AddDate(10, 0, 0), lasting},
	} {
		keys, err := gate.Published(tc.at)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range keys {
			for _, name := range all {
				if k.ID == kidOf(t, token, name) {
					got = append(got, name)
				}
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || len(got) != len(keys) {
			t.Errorf("at %v %d keys (-want +got):\n%s", tc.at, len(keys), diff)
		}
	}
}

// What the token lacks cannot be published; the others are.
func TestKeyThatTheTokenLacksIsLeftOut(t *testing.T) {
	missing := func(p hsm.Purpose) func(*testing.T) *hsmtest.Token {
		return func(t *testing.T) *hsmtest.Token {
			token := withoutCards(t)
			token.Reopen(t, func(ring *hsm.Keyring) {
				for i, k := range ring.Keys {
					if k.Purpose == p {
						ring.Keys[i].ID = "ffff"
					}
				}
			})
			return token
		}
	}
	unlisted := func(purposes ...hsm.Purpose) func(*testing.T) *hsmtest.Token {
		return func(t *testing.T) *hsmtest.Token {
			var options []hsmtest.Option
			for _, p := range purposes {
				options = append(options, hsmtest.Without(p))
			}
			return withoutCards(t, options...)
		}
	}
	for name, tc := range map[string]struct {
		open func(*testing.T) *hsmtest.Token
		left []hsm.Purpose
	}{
		"merchant-jwt missing":      {missing(hsm.MerchantJWT), []hsm.Purpose{hsm.ProximityToken}},
		"proximity-token missing":   {missing(hsm.ProximityToken), []hsm.Purpose{hsm.MerchantJWT}},
		"merchant-jwt not listed":   {unlisted(hsm.MerchantJWT), []hsm.Purpose{hsm.ProximityToken}},
		"another purpose's missing": {missing(hsm.APITLS), []hsm.Purpose{hsm.MerchantJWT, hsm.ProximityToken}},
		"none":                      {unlisted(hsm.MerchantJWT, hsm.ProximityToken), nil},
	} {
		t.Run(name, func(t *testing.T) {
			gate := signer.New(tc.open(t).Token)
			keys, err := gate.Published(today)
			if err != nil {
				t.Fatal(err)
			}
			var got []hsm.Purpose
			for _, k := range keys {
				got = append(got, k.Purpose)
			}
			if diff := cmp.Diff(tc.left, got); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
			if set, err := gate.JWKS(today); err != nil || len(got) == 0 && string(set) != `{"keys":[]}` {
				t.Errorf("the set is %s, %v", set, err)
			}
		})
	}
}

// A set in which keys are missing that are only not known yet would have verifiers refuse
// what is good.
func TestKeysThatAreNotKnownYetArePublishedLater(t *testing.T) {
	token := withoutCards(t)
	gate := signer.New(unknown{token.Token, string(hsm.ProximityToken)})
	for name, ask := range map[string]func() (bool, error){
		"keys":        func() (bool, error) { keys, err := gate.Published(today); return keys == nil, err },
		"set":         func() (bool, error) { set, err := gate.JWKS(today); return set == nil, err },
		"certificate": func() (bool, error) { pem, err := gate.Certificate("kid", today); return pem == nil, err },
	} {
		none, err := ask()
		var later interface{ RetryAfter() time.Duration }
		if !none || !errors.As(err, &later) || errors.Is(err, signer.ErrUnknownKey) {
			t.Errorf("%s: none %v, %v", name, none, err)
		}
	}
}

// unknown is a token of which one key's public half is not known yet.
type unknown struct {
	signer.Keys
	name string
}

func (u unknown) Public(name string) (crypto.PublicKey, error) {
	if name == u.name {
		return nil, away{}
	}
	return u.Keys.Public(name)
}

type away struct{}

func (away) Error() string             { return "token is away" }
func (away) RetryAfter() time.Duration { return 3 * time.Second }

// A kid says which key, and a retired key's certificate is there for as long as the key.
func TestCertificateOfEachPublishedKey(t *testing.T) {
	token := withoutCards(t,
		hsmtest.With(hsm.NewKey{Name: "bare", Purpose: hsm.MerchantJWT, State: hsm.Next}))
	certify(t, token, hsm.MerchantJWT, hsm.ProximityToken, hsm.APITLS)
	gate := signer.New(token.Token)
	for _, p := range []hsm.Purpose{hsm.MerchantJWT, hsm.ProximityToken} {
		kid := kidOf(t, token, string(p))
		pem, err := gate.Certificate(kid, today)
		if err != nil {
			t.Fatal(err)
		}
		certs := parsePEM(t, pem)
		pub, err := token.Public(string(p))
		if err != nil {
			t.Fatal(err)
		}
		if len(certs) != 1 || !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(certs[0].PublicKey) {
			t.Errorf("%s: %d certificates, of another key", p, len(certs))
		}
	}
	for name, kid := range map[string]string{
		"no certificate":       kidOf(t, token, "bare"),
		"not a published key":  kidOf(t, token, string(hsm.APITLS)),
		"nobody's":             strings.Repeat("A", 43),
		"none":                 "",
		"a name":               string(hsm.MerchantJWT),
		"cut short":            kidOf(t, token, string(hsm.MerchantJWT))[:42],
		"with another at last": kidOf(t, token, string(hsm.MerchantJWT)) + "A",
	} {
		if pem, err := gate.Certificate(kid, today); pem != nil || !errors.Is(err, signer.ErrUnknownKey) {
			t.Errorf("%s: %q, %v", name, pem, err)
		}
	}
	keys, err := gate.Published(today)
	if err != nil {
		t.Fatal(err)
	}
	var certified []string
	for _, k := range keys {
		if len(k.Certificate) > 0 {
			certified = append(certified, string(k.Purpose)+" "+k.Algorithm)
		}
	}
	if !slices.Equal(certified, []string{"merchant-jwt RS256", "proximity-token ES256"}) {
		t.Errorf("certificates of %q", certified)
	}
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i, k := range ring.Keys {
			if k.Purpose == hsm.MerchantJWT && k.State == hsm.Active {
				ring.Keys[i].State, ring.Keys[i].Created, ring.Keys[i].Retired = hsm.Retired, "2026-01-01", "2026-11-01"
			}
		}
	})
	kid := kidOf(t, token, string(hsm.MerchantJWT))
	for at, there := range map[string]bool{"2026-11-04": true, "2026-11-06": false} {
		when, err := time.Parse(time.DateOnly, at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signer.New(token.Token).Certificate(kid, when); (err == nil) != there {
			t.Errorf("on %s: %v", at, err)
		}
	}
}
