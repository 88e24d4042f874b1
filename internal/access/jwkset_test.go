package access_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

// What is refused leaves what there was.
func TestRefusedSetsDoNotReplaceGoodOnes(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = entry("kid", fmt.Sprintf(`"k%d"`, i))
	}
	private := func(member string) []byte { return set(curveEntry(), entry(member, `"AQAB"`)) }
	for name, tc := range map[string]struct {
		body []byte
		says string
	}{
		"nothing":                        {nil, "no JWK Set"},
		"a web page":                     {[]byte("<html>"), "no JWK Set"},
		"an array":                       {[]byte("[" + entry() + "]"), "no JWK Set"},
		"a key":                          {[]byte(entry()), "no keys member"},
		"keys is null":                   {[]byte(`{"keys":null}`), "no keys member"},
		"keys is an object":              {[]byte(`{"keys":{}}`), "no JWK Set"},
		"keys under another case":        {[]byte(`{"Keys":[]}`), "no keys member"},
		"keys twice":                     {[]byte(`{"keys":[],"keys":[` + entry() + `]}`), "duplicate-member"},
		"more behind it":                 {append(set(entry()), '}'), "no JWK Set"},
		"cut short":                      {set(entry())[:200], "no JWK Set"},
		"nested too deep":                {[]byte(`{"keys":[],"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`), "no JWK Set"},
		"a member twice in a key":        {set(strings.Replace(entry(), "{", `{"n":"AQAB",`, 1)), "duplicate-member"},
		"a key that is null":             {set("null"), "no JSON object"},
		"a key that is a text":           {set(`"key"`), "no JSON object"},
		"65 keys":                        {set(many...), "more than 64 keys"},
		"65 keys that are passed over":   {set(strings.Split(strings.Repeat(`{"kty":"x"} `, 65), " ")[:65]...), "more than 64 keys"},
		"one kid twice":                  {set(entry(), curveEntry("kid", `"2026-07"`)), "one kid"},
		"two without kid":                {set(entry("kid", ""), curveEntry("kid", "")), "or without"},
		"one of two without kid":         {set(entry("kid", ""), curveEntry()), "without kid"},
		"private exponent":               {private("d"), "private or symmetric"},
		"prime":                          {private("p"), "private or symmetric"},
		"other primes":                   {set(entry("oth", "[]")), "private or symmetric"},
		"private key of a curve":         {set(curveEntry("d", `"AQAB"`)), "private or symmetric"},
		"private key that is null":       {set(entry("d", "null")), "private or symmetric"},
		"symmetric key":                  {set(entry(), `{"kty":"oct","k":"AAAA"}`), "private or symmetric"},
		"private key of an unknown kind": {set(entry(), `{"kty":"AKP","pub":"AA","priv":"AA"}`), "private or symmetric"},
		"private key for encryption":     {set(entry("use", `"enc"`, "d", `"AQAB"`)), "private or symmetric"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{answer: access.Fetched{Body: set(entry("kid", `"good"`)), ETag: `"1"`}}
				s := opened(t, o)
				has(t, s, "good")
				o.set(func(o *origin) { o.answer = access.Fetched{Body: tc.body, ETag: `"2"`} })
				time.Sleep(time.Minute)
				has(t, s, "good")
				synctest.Wait()
				has(t, s, "good")
				st := s.Status()
				if st.Err == nil || !strings.Contains(st.Err.Error(), tc.says) || st.Keys != 1 {
					t.Fatalf("status %+v, want %q", st, tc.says)
				}
				if strings.Contains(st.Err.Error(), "2026-07") || strings.Contains(st.Err.Error(), "AQAB") {
					t.Errorf("the error holds what was sent: %v", st.Err)
				}
				time.Sleep(time.Minute)
				has(t, s, "good")
				synctest.Wait()
				if last := o.asked[len(o.asked)-1]; last != `"1"` {
					t.Errorf("asked with the tag %s of what was refused", last)
				}
			})
		})
	}
	t.Run("not modified, without a condition", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := opened(t, &origin{answer: access.Fetched{NotModified: true}})
			unavailable(t, s)
			if s.Status().Err == nil {
				t.Error("taken as good")
			}
		})
	})
}

// One key that is of no use does not keep the others out.
func TestKeysThatArePassedOver(t *testing.T) {
	n := vector().key.N.Bytes()
	long := strings.Repeat("a", 256)
	point := append(readPublished("testdata/rfc7515-a3.json").octets("x"), readPublished("testdata/rfc7515-a3.json").octets("y")...)
	for name, key := range map[string]string{
		"for encryption":            entry("use", `"enc"`),
		"use is no text":            entry("use", `["sig"]`),
		"use in capitals":           entry("use", `"SIG"`),
		"null use":                  entry("use", `null`),
		"operations without verify": entry("key_ops", `["encrypt","wrapKey"]`),
		"only for signing":          entry("key_ops", `["sign"]`),
		"no operations":             entry("key_ops", `[]`),
		"operations are a text":     entry("key_ops", `"verify"`),
		"PS256":                     entry("alg", `"PS256"`),
		"RS512":                     entry("alg", `"RS512"`),
		"RSA-OAEP":                  entry("alg", `"RSA-OAEP"`),
		"alg is no text":            entry("alg", `7`),
		"RSA key for ES256":         entry("alg", `"ES256"`),
		"curve key for RS256":       curveEntry("alg", `"RS256"`),
		"no kty":                    entry("kty", ""),
		"kty in small letters":      entry("kty", `"rsa"`),
		"a kind we do not know":     `{"kty":"OKP","crv":"Ed25519","x":"AAAA","kid":"2026-07"}`,
		"kid is a number":           entry("kid", "7"),
		"empty kid":                 entry("kid", `""`),
		"kid too long":              entry("kid", `"`+long+`"`),
		"kid that does not print":   entry("kid", `"a\u0000"`),
		"no n":                      entry("n", ""),
		"n is padded":               entry("n", `"`+b64(n)+`=="`),
		"n in another alphabet":     entry("n", `"+`+b64(n)[1:]+`"`),
		"n with a line end":         entry("n", `"`+b64(n)[:8]+`\n`+b64(n)[8:]+`"`),
		"n is a number":             entry("n", "65537"),
		"1024 bits":                 entry("n", `"`+b64(n[:128])+`"`),
		"huge n":                    entry("n", `"`+b64(slices.Concat(n, n, n, n, n))+`"`),
		"even n":                    entry("n", `"`+b64(append(slices.Clone(n[:255]), 0))+`"`),
		"no e":                      entry("e", ""),
		"e is 1":                    entry("e", `"AQ"`),
		"e is 3":                    entry("e", `"Aw"`),
		"e is even":                 entry("e", `"AQAA"`),
		"e of 8 bytes":              entry("e", `"__________8"`),
		"e is 2^64 more":            entry("e", `"AQAAAAAAAQAB"`),
		"e is 0":                    entry("e", `"AA"`),
		"P-384":                     curveEntry("crv", `"P-384"`),
		"secp256k1":                 curveEntry("crv", `"secp256k1"`),
		"no crv":                    curveEntry("crv", ""),
		"no y":                      curveEntry("y", ""),
		"x too short":               curveEntry("x", `"AQAB"`),
		"x with a zero in front":    curveEntry("x", `"`+b64(append([]byte{0}, readPublished("testdata/rfc7515-a3.json").octets("x")...))+`"`),
		"x and y cut elsewhere":     curveEntry("x", `"`+b64(point[:33])+`"`, "y", `"`+b64(point[33:])+`"`),
		"beside the curve":          curveEntry("y", `"`+b64(make([]byte, 32))+`"`),
		"at infinity":               curveEntry("x", `"`+b64(make([]byte, 32))+`"`, "y", `"`+b64(make([]byte, 32))+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := opened(t, &origin{answer: access.Fetched{Body: set(key, entry("kid", `"good"`))}})
				has(t, s, "good")
				has(t, s, "") // the only one
				lacks(t, s, kid)
				lacks(t, s, "curve")
				if st := s.Status(); st.Keys != 1 || st.PassedOver != 1 || st.Err != nil {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

func TestKeysThatAreTaken(t *testing.T) {
	n := vector().key.N.Bytes()
	for name, key := range map[string]string{
		"bare":                                 entry(),
		"with all that may be":                 entry("use", `"sig"`, "alg", `"RS256"`, "key_ops", `["verify"]`, "x5c", `["AAAA"]`, "x5t", `"AA"`, "x5u", `"https://evil.example/"`, "other", `{"a":[1]}`),
		"one operation of several":             entry("key_ops", `["sign","verify"]`),
		"a zero in front of n, as seen":        entry("n", `"`+b64(append([]byte{0}, n...))+`"`),
		"curve, bare":                          curveEntry("kid", `"2026-07"`),
		"curve, with all that may be":          curveEntry("kid", `"2026-07"`, "use", `"sig"`, "alg", `"ES256"`, "key_ops", `["verify"]`),
		"beside one with the kid, passed over": entry() + "," + entry("use", `"enc"`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := opened(t, &origin{answer: access.Fetched{Body: set(key)}})
				has(t, s, kid)
				has(t, s, "")
			})
		})
	}
	t.Run("no keys at all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := opened(t, &origin{answer: access.Fetched{Body: set()}})
			lacks(t, s, kid)
			lacks(t, s, "")
		})
	})
	t.Run("the only one, without kid", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := opened(t, &origin{answer: access.Fetched{Body: set(entry("kid", ""))}})
			has(t, s, "")
			lacks(t, s, kid)
		})
	})
}

// FuzzKeySet holds that no set, whatever it says, gives a key that a configuration
// would not be allowed, or panics.
func FuzzKeySet(f *testing.F) {
	f.Add(set(entry(), curveEntry()))
	f.Add(set(entry("kid", ""), `{"kty":"OKP"}`))
	f.Add(set(entry("d", `""`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := access.NewJWKS(jwksURL, &origin{answer: access.Fetched{Body: body}}, time.Now)
		defer s.Close()
		k, err := s.Key(t.Context(), "")
		if err != nil {
			return
		}
		c := bank()
		c.Keys = []access.Key{k}
		if _, err := access.NewVerifier([]access.Client{c}, time.Now); err != nil {
			t.Fatalf("gave a key that is not fit: %v", err)
		}
		var parsed map[string]any
		if err := json.Unmarshal(body, &parsed); err != nil {
			t.Fatalf("read keys out of what is no JSON: %v", err)
		}
	})
}
