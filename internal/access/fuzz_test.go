package access_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/access"
)

// FuzzAuthenticate holds that no token is accepted that the client did not sign, and
// no signed one in any other writing: RS256 signatures are unique and Base64url is
// held to its one form, so whatever is accepted is one of the seeds, byte by byte.
func FuzzAuthenticate(f *testing.F) {
	accepted := []string{
		signed(with()),
		signed(with("aud", `["mint.example"]`, "jti", "", "spCfg", `{"a":[1]}`)),
		headed(`{"alg":"RS256"}`),
	}
	for _, token := range accepted {
		f.Add(token)
	}
	for _, h := range slices.Concat(malformed(), duplicates(), badHeaders(), badSignatures(), badClaims(), badTimes()) {
		if len(h.token) <= access.MaxTokenSize+1 {
			f.Add(h.token)
		}
	}
	c := bank()
	v := verifierOf(f, c)
	f.Fuzz(func(t *testing.T, token string) {
		caller, err := v.Authenticate(token)
		if err == nil && !slices.Contains(accepted, token) {
			t.Fatalf("accepted a token that nobody signed: %q", token)
		}
		if err != nil && !slices.Contains(access.Reasons(), access.ReasonOf(err)) {
			t.Fatalf("refused without a reason: %v", err)
		}
		if err == nil && caller.Subject == "" {
			t.Fatal("accepted without a subject")
		}
	})
}

// FuzzSigned gives the client's signature to any header and payload: what is accepted
// then must say, to a decoder that shares nothing with ours, what it must say.
func FuzzSigned(f *testing.F) {
	f.Add(honestHeader, with())
	f.Add(`{"alg":"RS256"}`, with("aud", `["mint.example"]`))
	f.Add(`{"alg":"RS256","crit":[]}`, with("sub", `"ü"`))
	f.Add(`{"alg":"RS256","typ":"jwt","kid":"2026-07"}`, with("nbf", seconds(-5), "exp", "1.7850673e9"))
	v := verifierOf(f, bank())
	sign := rs256(vector().key)
	f.Fuzz(func(t *testing.T, header, payload string) {
		caller, err := v.Authenticate(seal(header, payload, sign))
		if err != nil {
			return
		}
		var h, p map[string]any
		if json.Unmarshal([]byte(header), &h) != nil || json.Unmarshal([]byte(payload), &p) != nil {
			t.Fatalf("accepted what is not JSON: %q %q", header, payload)
		}
		if _, ok := h["crit"]; ok || h["alg"] != "RS256" {
			t.Fatalf("accepted the header %q", header)
		}
		if typ, ok := h["typ"]; ok && !strings.EqualFold(typ.(string), "jwt") {
			t.Fatalf("accepted the typ %v", typ)
		}
		if p["iss"] != issuer || p["sub"] != caller.Subject || caller.Subject == "" {
			t.Fatalf("accepted the claims %q", payload)
		}
		life := p["exp"].(float64) - p["iat"].(float64)
		if now := float64(noon.Unix()); life <= 0 || life > 900 || p["exp"].(float64)+10 <= now || p["iat"].(float64)-10 > now {
			t.Fatalf("accepted the times %q", payload)
		}
	})
}
