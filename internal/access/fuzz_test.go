package access_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/access"
)

// FuzzAuthenticate holds that no token is accepted that a client did not sign.
// Base64url is held to its one form and RS256 signatures are unique, so a token
// accepted under RS256 is one of the seeds, byte by byte. An ECDSA signature can be
// turned into another that holds, so under ES256 it is the signed part that must be a
// seed's.
func FuzzAuthenticate(f *testing.F) {
	onCurve := curveBank()
	onCurve.Issuer = "https://curve.example"
	iss := `"` + onCurve.Issuer + `"`
	accepted := []string{
		signed(with()),
		signed(with("aud", `["mint.example"]`, "jti", "", "spCfg", `{"a":[1]}`)),
		headed(`{"alg":"RS256"}`),
	}
	curveSeeds := []string{
		curveSigned(with("iss", iss)),
		seal(`{"alg":"ES256"}`, with("iss", iss, "usr", `"u"`), es256(curveVector().key, nil)),
	}
	inputs := make(map[string]bool)
	for _, token := range curveSeeds {
		f.Add(token)
		inputs[token[:strings.LastIndexByte(token, '.')]] = true
	}
	for _, token := range accepted {
		f.Add(token)
	}
	for _, h := range slices.Concat(malformed(), duplicates(), badHeaders(), badSignatures(), badClaims(), badTimes(), badCurve(), badBindings()) {
		if len(h.token) <= access.MaxTokenSize+1 {
			f.Add(h.token)
			f.Add(strings.Replace(h.token, b64([]byte(with()))[:20], b64([]byte(with("iss", iss)))[:20], 1))
		}
	}
	v := verifierOf(f, bank(), onCurve)
	f.Fuzz(func(t *testing.T, token string) {
		caller, err := authenticate(v, token)
		if err != nil {
			if !slices.Contains(access.Reasons(), access.ReasonOf(err)) {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		token = strings.TrimLeft(token, " ") // more than one space may follow the scheme
		input := token[:strings.LastIndexByte(token, '.')]
		switch caller.Issuer {
		case issuer:
			if !slices.Contains(accepted, token) {
				t.Fatalf("accepted a token that nobody signed: %q", token)
			}
		case onCurve.Issuer:
			if !inputs[input] {
				t.Fatalf("accepted a token that nobody signed: %q", token)
			}
		default:
			t.Fatalf("accepted for %q", caller.Issuer)
		}
		if caller.Subject == "" {
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
		caller, err := authenticate(v, seal(header, payload, sign))
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
