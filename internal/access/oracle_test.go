package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"

	"github.com/mintmark/mintmark/internal/access"
)

// oracleTokens is how many tokens of each algorithm go-jose makes for us.
const oracleTokens = 1000

// Tokens that another library makes verify here, and say here what they say there.
func TestTokensOfGoJoseAreAccepted(t *testing.T) {
	onCurve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		alg    access.Algorithm
		key    any
		public any
	}{
		{access.RS256, strangersKey(), strangersKey().Public()},
		{access.ES256, onCurve, onCurve.Public()},
	} {
		t.Run(string(tc.alg), func(t *testing.T) {
			options := new(jose.SignerOptions).WithType("JWT").WithHeader("kid", kid)
			made, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(tc.alg), Key: tc.key}, options)
			if err != nil {
				t.Fatal(err)
			}
			c := bank()
			c.Keys = []access.Key{{ID: kid, Algorithm: tc.alg, Public: tc.public}}
			v := verifierOf(t, c)
			random := mathrand.New(mathrand.NewPCG(1, 2))
			for range oracleTokens {
				claims := randomClaims(random)
				token, err := josejwt.Signed(made).Claims(claims).Serialize()
				if err != nil {
					t.Fatal(err)
				}
				who, err := authenticate(v, token)
				if err != nil {
					t.Fatalf("%v: claims %v", err, claims)
				}
				var said map[string]any
				if err := json.Unmarshal(who.Payload(), &said); err != nil {
					t.Fatal(err)
				}
				if want := asJSON(t, claims); !reflect.DeepEqual(said, want) || who.Subject != claims["sub"] {
					t.Fatalf("said %v, want %v", said, want)
				}
			}
		})
	}
}

// randomClaims are claims of a good token with others beside them.
func randomClaims(r *mathrand.Rand) map[string]any {
	issued := noon.Unix() - r.Int64N(600)
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": randomText(r), "iat": issued, "exp": noon.Unix() + 1 + r.Int64N(900-(noon.Unix()-issued)),
	}
	if r.IntN(2) == 0 {
		claims["aud"] = []string{audience}
	}
	if r.IntN(2) == 0 {
		claims["jti"] = randomText(r)
	}
	for i := range r.IntN(5) {
		claims[fmt.Sprint("x-", i)] = randomValue(r, 3)
	}
	return claims
}

// randomText is a text that may be an identifier.
func randomText(r *mathrand.Rand) string {
	const alphabet = `abcXYZ019-_.:/@"\<>&' ßжσ語😀`
	var b strings.Builder
	for range 1 + r.IntN(20) {
		b.WriteRune([]rune(alphabet)[r.IntN(len([]rune(alphabet)))])
	}
	return b.String()
}

func randomValue(r *mathrand.Rand, depth int) any {
	switch kind := r.IntN(6); {
	case kind == 0:
		return nil
	case kind == 1:
		return r.IntN(2) == 0
	case kind == 2:
		return r.NormFloat64()
	case kind == 3 || depth == 0:
		return randomText(r)
	case kind == 4:
		return []any{randomValue(r, depth-1), randomValue(r, depth-1)}
	}
	return map[string]any{randomText(r): randomValue(r, depth-1)}
}

// asJSON is what v is after it has been JSON.
func asJSON(t *testing.T, v any) (out map[string]any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Key sets that another library publishes are read here.
func TestKeySetsOfGoJoseAreRead(t *testing.T) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{KeyID: "rsa", Use: "sig", Algorithm: "RS256", Key: strangersKey().Public()},
		{KeyID: "curve", Use: "sig", Algorithm: "ES256", Key: strangersCurveKey().Public()},
		{KeyID: "encryption", Use: "enc", Algorithm: "RSA-OAEP-256", Key: strangersKey().Public()},
	}}
	body, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	s := access.NewJWKS(jwksURL, &origin{answer: access.Fetched{Body: body}}, time.Now)
	defer s.Close()
	k, err := s.Key(t.Context(), "rsa")
	if err != nil || k.Algorithm != access.RS256 || !strangersKey().PublicKey.Equal(k.Public) {
		t.Errorf("%+v, %v", k, err)
	}
	k, err = s.Key(t.Context(), "curve")
	if err != nil || k.Algorithm != access.ES256 || !strangersCurveKey().PublicKey.Equal(k.Public) {
		t.Errorf("%+v, %v", k, err)
	}
	if st := s.Status(); st.Keys != 2 || st.PassedOver != 1 {
		t.Errorf("status %+v", st)
	}
}
