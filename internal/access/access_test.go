package access_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/access"
)

func TestHonestTokensAreAccepted(t *testing.T) {
	for _, tc := range []struct{ name, token string }{
		{"as most libraries make it", signed(with())},
		{"aud is an array of one", signed(with("aud", `["mint.example"]`))},
		{"no typ", headed(`{"alg":"RS256","kid":"2026-07"}`)},
		{"typ in small letters", headed(`{"alg":"RS256","kid":"2026-07","typ":"jwt"}`)},
		{"no kid, and one key", headed(`{"alg":"RS256","typ":"JWT"}`)},
		{"a member that we read past", headed(`{"alg":"RS256","kid":"2026-07","x5t":"AAAA","cty":"JWT"}`)},
		{"keys that we do not fetch", headed(`{"alg":"RS256","kid":"2026-07","jku":"https://evil.example/","jwk":{"kty":"oct"},"x5c":[],"x5u":1}`)},
		{"merchant claims", signed(with("usr", `"u"`, "mcc", `"5411"`, "spCfg", `{"a":[1,null]}`, "refresh_token", `true`))},
		{"a fraction in iat", signed(with("iat", seconds(-1)+".25"))},
		{"an exponent in exp", signed(with("exp", "1.7850673e9"))},
		{"spaces in the JSON", signed(strings.ReplaceAll(with(), ",", " ,\r\n\t"))},
		{"escapes in the JSON", signed(strings.Replace(with(), `"iss"`, `"i\u0073s"`, 1))},
		{"nbf of now", signed(with("nbf", seconds(0)))},
		{"nbf within the leeway", signed(with("nbf", seconds(10)))},
		{"iat within the leeway", signed(with("iat", seconds(10)))},
		{"exp within the leeway", signed(with("iat", seconds(-300), "exp", seconds(-9)))},
		{"the longest life", signed(with("exp", seconds(900)))},
		{"rights are no claim of ours", signed(with("rights", `["all"]`))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			caller, err := authenticate(verifierOf(t, bank()), tc.token)
			if err != nil {
				t.Fatal(err)
			}
			if caller.Tenant != "bank-a" || caller.Issuer != issuer || caller.Subject != "user-1" || caller.TokenID != "3f1c" {
				t.Fatalf("caller is %+v", caller)
			}
		})
	}
}

// Of the two values of s that hold, both are taken: JWS does not prefer one, and no
// claim hangs on a token's bytes.
func TestES256TokensAreAccepted(t *testing.T) {
	v := verifierOf(t, curveBank())
	order := elliptic.P256().Params().N
	other := func(r, s *big.Int) []byte { return rs(r, new(big.Int).Sub(order, s)) }
	for _, change := range []func(r, s *big.Int) []byte{rs, other} {
		caller, err := authenticate(v, seal(curveHeader, with(), es256(curveVector().key, change)))
		if err != nil || caller.Subject != "user-1" || caller.KeyID != kid {
			t.Errorf("%+v, %v", caller, err)
		}
	}
}

func TestTokenWithoutIDAndLongSubject(t *testing.T) {
	sub := strings.Repeat("ü", 127) + "x" // 255 bytes
	caller, err := authenticate(verifierOf(t, bank()), signed(with("jti", "", "sub", `"`+sub+`"`)))
	if err != nil || caller.TokenID != "" || caller.Subject != sub {
		t.Fatalf("caller %+v, error %v", caller, err)
	}
}

// A token lives from iat - leeway up to, and without, exp + leeway.
func TestClockEdges(t *testing.T) {
	token := signed(with()) // noon to noon + 300 s, leeway 10 s
	for _, tc := range []struct {
		at   time.Duration
		want access.Reason
	}{
		{-10*time.Second - 1, access.ReasonIssuedInFuture},
		{-10 * time.Second, ""},
		{0, ""},
		{310*time.Second - 1, ""},
		{310 * time.Second, access.ReasonExpired},
		{24 * time.Hour, access.ReasonExpired},
	} {
		v, err := access.NewVerifier([]access.Client{bank()}, clockAt(noon.Add(tc.at)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := authenticate(v, token); access.ReasonOf(err) != tc.want {
			t.Errorf("at noon%+v: %v, want reason %q", tc.at, err, tc.want)
		}
	}
}

func TestTokensOfGolangJWTAreAccepted(t *testing.T) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer: issuer, Subject: "user-1", Audience: jwt.ClaimStrings{audience},
		IssuedAt: jwt.NewNumericDate(noon), ExpiresAt: jwt.NewNumericDate(noon.Add(5 * time.Minute)),
	})
	token.Header["kid"] = kid
	compact, err := token.SignedString(vector().key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authenticate(verifierOf(t, bank()), compact); err != nil {
		t.Fatal(err)
	}
}

func TestKeyRollover(t *testing.T) {
	c := bank()
	c.Keys = append(c.Keys, access.Key{ID: "next", Algorithm: access.RS256, Public: &strangersKey().PublicKey})
	v := verifierOf(t, c)
	for _, token := range []string{
		signed(with()),
		seal(`{"alg":"RS256","kid":"next"}`, with(), rs256(strangersKey())),
	} {
		if _, err := authenticate(v, token); err != nil {
			t.Error(err)
		}
	}
}

func TestRightsComeFromTheConfigurationOnly(t *testing.T) {
	none := bank()
	none.Grants = nil
	token := signed(with("rights", `["signCards"]`, "scope", `"signCards"`))

	caller, err := authenticate(verifierOf(t, none), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := caller.May(access.SignCards); !errors.Is(err, access.ErrForbidden) || access.ReasonOf(err) != "" {
		t.Fatalf("May without the right: %v", err)
	}

	caller, err = authenticate(verifierOf(t, bank()), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := caller.May(access.SignCards); err != nil {
		t.Fatal(err)
	}
	for _, r := range []access.Right{"everything", "", access.SignMerchantTokens, access.CreateAppleProximityToken} {
		if err := caller.May(r); !errors.Is(err, access.ErrForbidden) {
			t.Fatalf("May(%q): %v", r, err)
		}
	}
	if err := (access.Caller{}).May(access.SignCards); !errors.Is(err, access.ErrForbidden) {
		t.Fatalf("May of nobody: %v", err)
	}
}

func TestTheConfigurationIsCopied(t *testing.T) {
	c := bank()
	public := &rsa.PublicKey{N: new(big.Int).Set(vector().key.N), E: vector().key.E}
	c.Keys = []access.Key{{ID: kid, Algorithm: access.RS256, Public: public}}
	c.Grants = []access.Grant{{Right: access.SignCards, Subjects: []string{"user-*"}, KeyIDs: []string{kid}}}
	v := verifierOf(t, c)
	public.N.SetInt64(15)
	public.E = 1
	c.Grants[0].Subjects[0], c.Grants[0].KeyIDs[0] = "nobody", "other"
	c.Grants[0].Right = "nothing"
	c.Keys[0].ID = "other"
	caller, err := authenticate(v, signed(with()))
	if err != nil || caller.May(access.SignCards) != nil {
		t.Fatalf("the verifier changed after it was made: %v", err)
	}
}

func TestWhatTheCallerIs(t *testing.T) {
	payload := with("usr", `"till-3"`, "mcc", `"5411"`, "exp", seconds(300)+".5")
	caller, err := authenticate(verifierOf(t, bank()), signed(payload))
	if err != nil {
		t.Fatal(err)
	}
	if caller.User != "till-3" || caller.KeyID != kid || !caller.IssuedAt.Equal(noon) || !caller.Expires.Equal(noon.Add(300500*time.Millisecond)) {
		t.Fatalf("caller is %+v", caller)
	}
	if string(caller.Payload()) != payload {
		t.Fatalf("payload is %s", caller.Payload())
	}
	caller.Payload()[0] = 'x'
	if string(caller.Payload()) != payload {
		t.Fatal("the payload can be changed")
	}
	if p := (access.Caller{}).Payload(); p != nil {
		t.Fatalf("payload of nobody is %q", p)
	}
}

// A usr that cannot stand in a log is none; whoever needs one looks for it.
func TestUsersThatAreNone(t *testing.T) {
	for _, usr := range []string{"", `""`, `null`, `7`, `["till-3"]`, `"a\nb"`, `"` + strings.Repeat("a", 256) + `"`} {
		caller, err := authenticate(verifierOf(t, bank()), signed(with("usr", usr)))
		if err != nil || caller.User != "" {
			t.Errorf("usr %s: user %q, %v", usr, caller.User, err)
		}
	}
}

// The key's own name is the caller's KeyID, whether the token says it or not.
func TestTokenWithoutKidHasItsKeysID(t *testing.T) {
	caller, err := authenticate(verifierOf(t, bank()), headed(`{"alg":"RS256"}`))
	if err != nil || caller.KeyID != kid {
		t.Fatalf("kid %q, %v", caller.KeyID, err)
	}
	c := bank()
	c.Keys[0].ID = ""
	caller, err = authenticate(verifierOf(t, c), headed(`{"alg":"RS256"}`))
	if err != nil || caller.KeyID != "" {
		t.Fatalf("kid %q, %v", caller.KeyID, err)
	}
}

func TestAuthorizationHeaders(t *testing.T) {
	good := signed(with())
	v := verifierOf(t, bank())
	for _, tc := range []struct {
		name    string
		headers []string
		want    access.Reason
	}{
		{"none", nil, access.ReasonMissing},
		{"an empty list", []string{}, access.ReasonMissing},
		{"one", []string{"Bearer " + good}, ""},
		{"scheme in small letters", []string{"bearer " + good}, ""},
		{"two spaces", []string{"Bearer  " + good}, ""},
		{"two headers", []string{"Bearer " + good, "Bearer " + good}, access.ReasonScheme},
		{"empty", []string{""}, access.ReasonScheme},
		{"no scheme", []string{good}, access.ReasonScheme},
		{"scheme alone", []string{"Bearer"}, access.ReasonScheme},
		{"Basic", []string{"Basic dXNlcjpwYXNz"}, access.ReasonScheme},
		{"another scheme that begins so", []string{"BearerX " + good}, access.ReasonScheme},
		{"space in front", []string{" Bearer " + good}, access.ReasonScheme},
		{"tab between", []string{"Bearer\t" + good}, access.ReasonScheme},
		{"two tokens", []string{"Bearer " + good + ", Bearer " + good}, access.ReasonMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := v.Authenticate(t.Context(), access.Proof{Authorization: tc.headers})
			if access.ReasonOf(err) != tc.want || (err != nil) != (tc.want != "") {
				t.Fatal(err)
			}
		})
	}
}

func TestMisconfigurationIsRefused(t *testing.T) {
	rsaKey := func(n *big.Int, e int) []access.Key {
		return []access.Key{{ID: kid, Algorithm: access.RS256, Public: &rsa.PublicKey{N: n, E: e}}}
	}
	ecKey := func(k *ecdsa.PublicKey) func(*access.Client) {
		return func(c *access.Client) { c.Keys = []access.Key{{ID: kid, Algorithm: access.ES256, Public: k}} }
	}
	grant := func(g access.Grant) func(*access.Client) {
		return func(c *access.Client) { c.Grants = []access.Grant{g} }
	}
	rated := func(perSecond float64, burst int) func(*access.Client) {
		return func(c *access.Client) { c.Rate = access.Rate{PerSecond: perSecond, Burst: burst} }
	}
	n := vector().key.N
	one := big.NewInt(1)
	for _, tc := range []struct {
		name   string
		change func(*access.Client)
		says   string
	}{
		{"no iss", func(c *access.Client) { c.Issuer = "" }, "iss is empty"},
		{"iss with a line end", func(c *access.Client) { c.Issuer += "\n" }, "does not print"},
		{"no tenant", func(c *access.Client) { c.Tenant = "" }, "tenant is empty"},
		{"no aud", func(c *access.Client) { c.Audience = "" }, "aud is empty"},
		{"aud too long", func(c *access.Client) { c.Audience = strings.Repeat("a", 256) }, "longer than 255"},
		{"no key", func(c *access.Client) { c.Keys = nil }, "has no key, no key set and no certificate"},
		{"keys and a key set", func(c *access.Client) { c.KeySet = fixed{} }, "both keys and a key set"},
		{"no algorithm", func(c *access.Client) { c.Keys[0].Algorithm = "" }, "known are: [ES256 RS256]"},
		{"alg none", func(c *access.Client) { c.Keys[0].Algorithm = "none" }, `alg is "none"`},
		{"private key", func(c *access.Client) { c.Keys[0].Public = vector().key }, "is not an RSA public key"},
		{"key of another kind", func(c *access.Client) { c.Keys[0].Public = &strangersCurveKey().PublicKey }, "is not an RSA public key"},
		{"nil key", func(c *access.Client) { c.Keys[0].Public = nil }, "is not an RSA public key"},
		{"typed nil key", func(c *access.Client) { c.Keys[0].Public = (*rsa.PublicKey)(nil) }, "is not an RSA public key"},
		{"key without modulus", func(c *access.Client) { c.Keys = rsaKey(nil, 65537) }, "is not an RSA public key"},
		{"1024 bits", func(c *access.Client) { c.Keys = rsaKey(new(big.Int).Rsh(n, 1024), 65537) }, "has 1024 bits; at least 2048"},
		{"2047 bits", func(c *access.Client) { c.Keys = rsaKey(new(big.Int).Rsh(n, 1), 65537) }, "has 2047 bits"},
		{"16384 bits", func(c *access.Client) { c.Keys = rsaKey(new(big.Int).Lsh(one, 16383), 65537) }, "at most 8192"},
		{"negative modulus", func(c *access.Client) { c.Keys = rsaKey(new(big.Int).Neg(n), 65537) }, "not positive"},
		{"even modulus", func(c *access.Client) { c.Keys = rsaKey(new(big.Int).Sub(n, one), 65537) }, "modulus is even"},
		{"exponent 1", func(c *access.Client) { c.Keys = rsaKey(n, 1) }, "public exponent is 1"},
		{"exponent 3", func(c *access.Client) { c.Keys = rsaKey(n, 3) }, "public exponent is 3"},
		{"even exponent", func(c *access.Client) { c.Keys = rsaKey(n, 65538) }, "public exponent is 65538"},
		{"huge exponent", func(c *access.Client) { c.Keys = rsaKey(n, 1<<31+1) }, "below 2^31"},
		{"kid twice", func(c *access.Client) { c.Keys = append(c.Keys, c.Keys[0]) }, "more than one key"},
		{"a key without kid beside another", func(c *access.Client) {
			c.Keys = append(c.Keys, access.Key{Algorithm: access.RS256, Public: c.Keys[0].Public})
		}, "a key has no kid"},
		{"kid required, key without", func(c *access.Client) { c.RequireKeyID, c.Keys[0].ID = true, "" }, "a key has no kid"},
		{"kid with a control character", func(c *access.Client) { c.Keys[0].ID = "a\x00" }, "does not print"},
		{"P-384 key", ecKey(mustCurveKey(elliptic.P384())), "is on the curve P-384; ES256 needs P-256"},
		{"RSA key for ES256", func(c *access.Client) { c.Keys[0].Algorithm = access.ES256 }, "is not an ECDSA public key"},
		{"nil key for ES256", ecKey(nil), "is not an ECDSA public key"},
		{"key without a curve", ecKey(&ecdsa.PublicKey{}), "is not an ECDSA public key"},
		{"key without a point", ecKey(&ecdsa.PublicKey{Curve: elliptic.P256()}), "is not an ECDSA public key"},
		//lint:ignore SA1019 it must be made by hand to be wrong
		{"point beside the curve", ecKey(&ecdsa.PublicKey{Curve: elliptic.P256(), X: one, Y: one}), "is not a point on P-256"},
		//lint:ignore SA1019 it must be made by hand to be wrong
		{"point at infinity", ecKey(&ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)}), "is not a point on P-256"},
		{"unknown right", grant(access.Grant{Right: "SignCards"}), `unknown right "SignCards"; known are: signCards, signMerchantTokens, createAppleProximityToken`},
		{"empty subject pattern", grant(access.Grant{Right: access.SignCards, Subjects: []string{""}}), "subjects: pattern is empty"},
		{"user pattern that does not print", grant(access.Grant{Right: access.SignCards, Users: []string{"a\n"}}), "users: pattern"},
		{"grant for a kid that there is not", grant(access.Grant{Right: access.SignCards, KeyIDs: []string{"2020"}}), `kid "2020", which is none of the client's keys`},
		{"rate below 0", rated(-1, 1), "rate is -1 calls a second"},
		{"rate that is none", rated(math.NaN(), 1), "rate is NaN"},
		{"rate without end", rated(math.Inf(1), 1), "rate is +Inf"},
		{"rate without burst", rated(5, 0), "burst below 1"},
		{"burst without rate", rated(0, 5), "rate is 0 calls a second"},
		{"no lifetime", func(c *access.Client) { c.MaxLifetime = 0 }, "maximum token lifetime is 0s"},
		{"lifetime of a year", func(c *access.Client) { c.MaxLifetime = 8760 * time.Hour }, "at most 24h"},
		{"negative lifetime", func(c *access.Client) { c.MaxLifetime = -1 }, "maximum token lifetime"},
		{"too much leeway", func(c *access.Client) { c.Leeway = 31 * time.Second }, "leeway is 31s"},
		{"negative leeway", func(c *access.Client) { c.Leeway = -1 }, "leeway is -1ns"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := bank()
			tc.change(&c)
			v, err := access.NewVerifier([]access.Client{c}, time.Now)
			if err == nil || v != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "client with iss ") {
				t.Fatalf("says %q, want the client and %q", err, tc.says)
			}
		})
	}
}

func mustCurveKey(c elliptic.Curve) *ecdsa.PublicKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return &k.PublicKey
}

// fixed is a key set that gives what it holds.
type fixed struct {
	key access.Key
	err error
}

func (f fixed) Key(context.Context, string) (access.Key, error) { return f.key, f.err }

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	first, second := bank(), bank() // the same iss
	second.Leeway, second.MaxLifetime, second.Keys = time.Minute, 0, nil
	_, err := access.NewVerifier([]access.Client{first, second}, time.Now)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, says := range []string{"another client has the same iss", "leeway is 1m0s", "lifetime is 0s", "has no key"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q is missing in:\n%v", says, err)
		}
	}
	if _, err := access.NewVerifier([]access.Client{bank()}, nil); err == nil {
		t.Error("no clock was accepted")
	}
}

func TestNoClientsMeansNobody(t *testing.T) {
	mustRefuse(t, verifierOf(t), signed(with()), access.ReasonUnknownIssuer)
}

func TestRightsAndReasonsHaveDistinctTexts(t *testing.T) {
	for _, r := range access.Rights() {
		if got, err := access.ParseRight(string(r)); err != nil || got != r {
			t.Errorf("ParseRight(%q) = %q, %v", r, got, err)
		}
	}
	rs := access.Reasons()
	slices.Sort(rs)
	if !reflect.DeepEqual(rs, slices.Compact(slices.Clone(rs))) {
		t.Error("two reasons have the same text")
	}
}

func TestManyAtOnce(t *testing.T) {
	v := verifierOf(t, bank())
	good, bad := signed(with()), spoil(2, func(s string) string { return "AAAA" + s[4:] })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := authenticate(v, good); err != nil {
					t.Error(err)
				}
				if _, err := authenticate(v, bad); access.ReasonOf(err) != access.ReasonSignature {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAuthenticate(b *testing.B) {
	v, token := verifierOf(b, bank()), signed(with())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := authenticate(v, token); err != nil {
			b.Fatal(err)
		}
	}
}
