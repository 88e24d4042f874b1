package access_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

type hostile struct {
	name  string
	token string
	want  access.Reason
}

func malformed() []hostile {
	honest := signed(with())
	pad := func(s string) string { return s + strings.Repeat("=", (4-len(s)%4)%4) }
	// Signed by the honest client in the altered form: only form speaks against it.
	alteredInput := func(head, payload string) string {
		input := head + "." + payload
		return input + "." + b64(rs256(vector().key)(input))
	}
	// One space makes the header 44 bytes, the payload is padded to leave unused bits.
	head := b64([]byte(strings.Replace(honestHeader, ",", ", ", 1)))
	payload := with("pad", `""`)
	for len(payload)%3 == 0 {
		payload = strings.Replace(payload, "{", "{ ", 1)
	}
	body := b64([]byte(payload))
	return []hostile{
		{"nothing", "", access.ReasonMalformed},
		{"a word", "token", access.ReasonMalformed},
		{"only dots", "..", access.ReasonMalformed},
		{"two segments", honest[:strings.LastIndexByte(honest, '.')], access.ReasonMalformed},
		{"four segments", honest + ".", access.ReasonMalformed},
		{"five segments, as JWE has", "e30.e30.e30.e30.e30", access.ReasonMalformed},
		{"a dot in front", "." + honest, access.ReasonMalformed},
		{"empty header", spoil(0, func(string) string { return "" }), access.ReasonMalformed},
		{"empty payload", spoil(1, func(string) string { return "" }), access.ReasonMalformed},
		{"empty signature", spoil(2, func(string) string { return "" }), access.ReasonSignature},
		{"padded signature", spoil(2, pad), access.ReasonMalformed},
		{"padded payload, signed so", alteredInput(head, pad(body)), access.ReasonMalformed},
		{"unused bits of the signature set", spoil(2, leftover), access.ReasonMalformed},
		{"unused bits of the payload set, signed so", alteredInput(head, leftover(body)), access.ReasonMalformed},
		{"unused bits of the header set, signed so", alteredInput(leftover(head), body), access.ReasonMalformed},
		{"line end in the signature", spoil(2, func(s string) string { return s[:8] + "\n" + s[8:] }), access.ReasonMalformed},
		{"line end in the payload, signed so", alteredInput(head, body[:8]+"\r\n"+body[8:]), access.ReasonMalformed},
		{"line end behind", honest + "\n", access.ReasonMalformed},
		{"space behind", honest + " ", access.ReasonMalformed},
		{"standard alphabet", spoil(2, func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s[:4] + "-_" + s[6:]) }), access.ReasonMalformed},
		{"JSON, not Base64url", `{"alg":"RS256"}.{}.sig`, access.ReasonMalformed},
		{"larger than the cap", honest + strings.Repeat("A", access.MaxTokenSize), access.ReasonTooLarge},
		{"a signed token larger than the cap", signed(with("x", `"`+strings.Repeat("A", access.MaxTokenSize)+`"`)), access.ReasonTooLarge},
		{"five megabytes", strings.Repeat("A", 5<<20), access.ReasonTooLarge},
		{"header is an array", headed(`["RS256"]`), access.ReasonMalformed},
		{"header is null", headed(`null`), access.ReasonMalformed},
		{"header is a string", headed(`"RS256"`), access.ReasonMalformed},
		{"header cut short", headed(`{"alg":"RS256"`), access.ReasonMalformed},
		{"header and more", headed(honestHeader + `{}`), access.ReasonMalformed},
		{"header behind a byte order mark", headed("\ufeff" + honestHeader), access.ReasonMalformed},
		{"payload is null", signed(`null`), access.ReasonMalformed},
		{"payload is an array", signed(`[` + with() + `]`), access.ReasonMalformed},
		{"payload is a nested token", signed(honest), access.ReasonMalformed},
		{"payload and more", signed(with() + " x"), access.ReasonMalformed},
		{"payload with a comment", signed(strings.Replace(with(), "{", "{/**/", 1)), access.ReasonMalformed},
		{"payload with a last comma", signed(strings.Replace(with(), "}", ",}", 1)), access.ReasonMalformed},
		{"invalid UTF-8 in a claim", signed(with("sub", "\"user\xff\"")), access.ReasonMalformed},
		{"half a surrogate pair", signed(with("sub", `"user\ud800"`)), access.ReasonMalformed},
		{"NaN", signed(with("exp", "NaN")), access.ReasonMalformed},
		{"Infinity", signed(with("exp", "Infinity")), access.ReasonMalformed},
		{"objects nested too deep", signed(with("x", strings.Repeat(`{"a":`, access.MaxDepth)+"1"+strings.Repeat("}", access.MaxDepth))), access.ReasonMalformed},
		{"header nested too deep", headed(`{"alg":"RS256","kid":"2026-07","x":` + strings.Repeat("[", access.MaxDepth) + strings.Repeat("]", access.MaxDepth) + `}`), access.ReasonMalformed},
		{"nested too deep behind a bracket in a text", signed(with("x", `"]]]\"]]]"`, "y", strings.Repeat("[", access.MaxDepth)+strings.Repeat("]", access.MaxDepth))), access.ReasonMalformed},
		{"arrays in arrays", signed(with("x", strings.Repeat("[", 2500))), access.ReasonMalformed},
	}
}

func duplicates() []hostile {
	twice := func(first string) string { return signed(strings.Replace(with(), "{", "{"+first+",", 1)) }
	dup := access.ReasonDuplicateMember
	return []hostile{
		{"alg twice", headed(`{"alg":"none","alg":"RS256","kid":"2026-07"}`), dup},
		{"kid twice", headed(`{"alg":"RS256","kid":"x","kid":"2026-07"}`), dup},
		{"unknown header member twice", headed(`{"alg":"RS256","kid":"2026-07","x":1,"x":2}`), dup},
		{"sub twice", twice(`"sub":"user-2"`), dup},
		{"iss twice", twice(`"iss":"https://other.example"`), dup},
		{"exp twice, once escaped", twice(`"\u0065xp":1`), dup},
		{"unknown claim twice", twice(`"mcc":"1","mcc":"2"`), dup},
		{"twice inside a claim", twice(`"spCfg":{"a":1,"a":2}`), dup},
		{"twice inside an object in an array", twice(`"x":[0,{"a":{"b":1,"b":1}}]`), dup},
	}
}

func badHeaders() []hostile {
	key := rs256(vector().key)
	jwk := fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, b64(strangersKey().N.Bytes()))
	alg := func(name string, sign signer) string {
		return seal(fmt.Sprintf(`{"alg":%q,"kid":"2026-07"}`, name), with(), sign)
	}
	return []hostile{
		{"empty crit", headed(`{"alg":"RS256","kid":"2026-07","crit":[]}`), access.ReasonCriticalHeader},
		{"null crit", headed(`{"alg":"RS256","kid":"2026-07","crit":null}`), access.ReasonCriticalHeader},
		{"unknown crit", headed(`{"alg":"RS256","kid":"2026-07","crit":["x"],"x":1}`), access.ReasonCriticalHeader},
		{"crit of a known member", headed(`{"alg":"RS256","kid":"2026-07","crit":["alg"]}`), access.ReasonCriticalHeader},
		{"b64 false with crit", headed(`{"alg":"RS256","kid":"2026-07","b64":false,"crit":["b64"]}`), access.ReasonCriticalHeader},
		{"b64 without crit", headed(`{"alg":"RS256","kid":"2026-07","b64":true}`), access.ReasonCriticalHeader},
		{"typ of an access token", headed(`{"alg":"RS256","kid":"2026-07","typ":"at+jwt"}`), access.ReasonType},
		{"typ JOSE", headed(`{"alg":"RS256","kid":"2026-07","typ":"JOSE"}`), access.ReasonType},
		{"empty typ", headed(`{"alg":"RS256","kid":"2026-07","typ":""}`), access.ReasonType},
		{"null typ", headed(`{"alg":"RS256","kid":"2026-07","typ":null}`), access.ReasonType},
		{"typ is an array", headed(`{"alg":"RS256","kid":"2026-07","typ":["JWT"]}`), access.ReasonType},
		{"alg none, unsigned", alg("none", nobody), access.ReasonAlgorithm},
		{"alg None, unsigned", alg("None", nobody), access.ReasonAlgorithm},
		{"alg none, signed", alg("none", key), access.ReasonAlgorithm},
		{"alg empty", alg("", key), access.ReasonAlgorithm},
		{"alg in small letters", alg("rs256", key), access.ReasonAlgorithm},
		{"alg with a space", alg("RS256 ", key), access.ReasonAlgorithm},
		{"HS256 with the public key as secret", alg("HS256", hs256(&vector().key.PublicKey)), access.ReasonAlgorithm},
		{"RS512, signed RS256", alg("RS512", key), access.ReasonAlgorithm},
		{"PS256 with the right key", alg("PS256", ps256), access.ReasonAlgorithm},
		{"ES256 with a stranger's key", alg("ES256", es256(strangersCurveKey(), nil)), access.ReasonAlgorithm},
		{"no alg", headed(`{"typ":"JWT","kid":"2026-07"}`), access.ReasonAlgorithm},
		{"alg under another case", headed(`{"Alg":"RS256","kid":"2026-07"}`), access.ReasonAlgorithm},
		{"alg is a number", headed(`{"alg":256,"kid":"2026-07"}`), access.ReasonAlgorithm},
		{"alg is an array", headed(`{"alg":["RS256"],"kid":"2026-07"}`), access.ReasonAlgorithm},
		{"unknown kid", headed(`{"alg":"RS256","kid":"2026-08"}`), access.ReasonUnknownKey},
		{"empty kid", headed(`{"alg":"RS256","kid":""}`), access.ReasonUnknownKey},
		{"null kid", headed(`{"alg":"RS256","kid":null}`), access.ReasonUnknownKey},
		{"kid is a number", headed(`{"alg":"RS256","kid":2026}`), access.ReasonUnknownKey},
		{"kid is a path", headed(`{"alg":"RS256","kid":"../../dev/null"}`), access.ReasonUnknownKey},
		{"kid is a query", headed(`{"alg":"RS256","kid":"x' UNION SELECT 'key"}`), access.ReasonUnknownKey},
		{"kid with a space behind", headed(`{"alg":"RS256","kid":"2026-07 "}`), access.ReasonUnknownKey},
		{"brings its own key in jwk", seal(`{"alg":"RS256","kid":"2026-07","jwk":`+jwk+`}`, with(), rs256(strangersKey())), access.ReasonSignature},
		{"points to its own key in jku", seal(`{"alg":"RS256","kid":"2026-07","jku":"https://evil.example/jwks"}`, with(), rs256(strangersKey())), access.ReasonSignature},
		{"points to its own certificate in x5u", seal(`{"alg":"RS256","x5u":"http://127.0.0.1/"}`, with(), rs256(strangersKey())), access.ReasonSignature},
	}
}

func badSignatures() []hostile {
	sig := access.ReasonSignature
	flip := func(s string) string {
		b, _ := base64.RawURLEncoding.DecodeString(s)
		b[len(b)/2] ^= 1
		return b64(b)
	}
	resize := func(change func([]byte) []byte) string {
		return spoil(2, func(s string) string {
			b, _ := base64.RawURLEncoding.DecodeString(s)
			return b64(change(b))
		})
	}
	noPadding := func(input string) []byte { // textbook RSA over the bare digest
		h := crypto.SHA256.New()
		h.Write([]byte(input))
		k := vector().key
		return new(big.Int).Exp(new(big.Int).SetBytes(h.Sum(nil)), k.D, k.N).FillBytes(make([]byte, k.Size()))
	}
	return []hostile{
		{"a stranger's signature", seal(honestHeader, with(), rs256(strangersKey())), sig},
		{"one bit of the signature", spoil(2, flip), sig},
		{"another subject under the old signature", spoil(1, func(string) string { return b64([]byte(with("sub", `"admin"`))) }), sig},
		{"another header under the old signature", spoil(0, func(string) string { return b64([]byte(`{"alg":"RS256"}`)) }), sig},
		{"signature with a zero in front", resize(func(b []byte) []byte { return append([]byte{0}, b...) }), sig},
		{"signature one byte short", resize(func(b []byte) []byte { return b[:len(b)-1] }), sig},
		{"signature plus modulus", resize(func(b []byte) []byte {
			return new(big.Int).Add(new(big.Int).SetBytes(b), vector().key.N).Bytes()
		}), sig},
		{"signature of zeroes", resize(func(b []byte) []byte { return make([]byte, len(b)) }), sig},
		{"PSS padding under RS256", seal(honestHeader, with(), ps256), sig},
		{"no padding", seal(honestHeader, with(), noPadding), sig},
		{"expired and badly signed: signature first", seal(honestHeader, with("exp", "1"), rs256(strangersKey())), sig},
	}
}

func badClaims() []hostile {
	long := strings.Repeat("a", access.MaxIdentifier+1)
	claim := func(want access.Reason, changes ...string) hostile {
		return hostile{strings.Join(changes, " "), signed(with(changes...)), want}
	}
	return []hostile{
		claim(access.ReasonUnknownIssuer, "iss", ""),
		claim(access.ReasonUnknownIssuer, "iss", `""`),
		claim(access.ReasonUnknownIssuer, "iss", `null`),
		claim(access.ReasonUnknownIssuer, "iss", `"https://issuer.example/"`),
		claim(access.ReasonUnknownIssuer, "iss", `"HTTPS://issuer.example"`),
		claim(access.ReasonUnknownIssuer, "iss", `["https://issuer.example"]`),
		claim(access.ReasonUnknownIssuer, "iss", "", "Iss", `"https://issuer.example"`),
		claim(access.ReasonAudience, "aud", ""),
		claim(access.ReasonAudience, "aud", `null`),
		claim(access.ReasonAudience, "aud", `""`),
		claim(access.ReasonAudience, "aud", `"MINT.example"`),
		claim(access.ReasonAudience, "aud", `"other.example"`),
		claim(access.ReasonAudience, "aud", `[]`),
		claim(access.ReasonAudience, "aud", `["mint.example","other.example"]`),
		claim(access.ReasonAudience, "aud", `["mint.example","mint.example"]`),
		claim(access.ReasonAudience, "aud", `["mint.example",1]`),
		claim(access.ReasonAudience, "aud", `[["mint.example"]]`),
		claim(access.ReasonAudience, "aud", `{"mint.example":1}`),
		claim(access.ReasonAudience, "aud", `true`),
		claim(access.ReasonSubject, "sub", ""),
		claim(access.ReasonSubject, "sub", `""`),
		claim(access.ReasonSubject, "sub", `null`),
		claim(access.ReasonSubject, "sub", `7`),
		claim(access.ReasonSubject, "sub", `["user-1"]`),
		claim(access.ReasonSubject, "sub", `"user\u0000"`),
		claim(access.ReasonSubject, "sub", `"user\n2026 admin logged in"`),
		claim(access.ReasonSubject, "sub", `"user\u009b31m"`),
		claim(access.ReasonSubject, "sub", `"user\u202enimda"`),
		claim(access.ReasonSubject, "sub", `"`+long+`"`),
		claim(access.ReasonSubject, "sub", "", "SUB", `"user-1"`),
		claim(access.ReasonTokenID, "jti", `""`),
		claim(access.ReasonTokenID, "jti", `null`),
		claim(access.ReasonTokenID, "jti", `9`),
		claim(access.ReasonTokenID, "jti", `"`+long+`"`),
	}
}

func badTimes() []hostile {
	claim := func(want access.Reason, changes ...string) hostile {
		return hostile{strings.Join(changes, " "), signed(with(changes...)), want}
	}
	all := []hostile{
		claim(access.ReasonTime, "EXP", seconds(300), "exp", ""),
		claim(access.ReasonTime, "exp", seconds(0)),   // as soon as issued
		claim(access.ReasonTime, "exp", seconds(-60)), // before it was issued
		claim(access.ReasonTime, "nbf", `null`),
		claim(access.ReasonTime, "nbf", `"0"`),
		claim(access.ReasonTime, "nbf", seconds(300)), // never valid
		claim(access.ReasonTooLongLived, "exp", seconds(901)),
		claim(access.ReasonTooLongLived, "exp", seconds(900)+".5"),
		claim(access.ReasonTooLongLived, "exp", seconds(10*365*86400)),
		claim(access.ReasonTooLongLived, "iat", "1", "exp", seconds(300)),
		claim(access.ReasonTooLongLived, "iat", "1", "exp", "253402300799"),
		claim(access.ReasonExpired, "iat", seconds(-400), "exp", seconds(-100)),
		claim(access.ReasonExpired, "iat", seconds(-400), "exp", seconds(-10)),
		claim(access.ReasonExpired, "iat", "1", "exp", "2"),
		claim(access.ReasonIssuedInFuture, "iat", seconds(11)),
		claim(access.ReasonIssuedInFuture, "iat", seconds(10)+".5"),
		claim(access.ReasonIssuedInFuture, "iat", seconds(3600), "exp", seconds(3700)),
		claim(access.ReasonNotYetValid, "nbf", seconds(11)),
		claim(access.ReasonNotYetValid, "nbf", seconds(299)),
	}
	for _, name := range []string{"iat", "exp"} {
		for _, value := range []string{
			"", `null`, `"` + seconds(100) + `"`, `true`, `[]`, `{}`, `0`, `-0`, `-1`, `1e400`, `1e18`, `9223372036854775808`,
			`253402300800`, `1e-5`, "1785067200." + strings.Repeat("0", 40),
		} {
			all = append(all, claim(access.ReasonTime, name, value))
		}
	}
	return all
}

// badCurve is for the client with an ES256 key.
func badCurve() []hostile {
	sig, key := access.ReasonSignature, curveVector().key
	order := elliptic.P256().Params().N
	written := func(change func(r, s *big.Int) []byte) string { return seal(curveHeader, with(), es256(key, change)) }
	fixed := func(r, s *big.Int) string { return written(func(*big.Int, *big.Int) []byte { return rs(r, s) }) }
	zero, one := new(big.Int), big.NewInt(1)
	return []hostile{
		{"a stranger's signature", seal(curveHeader, with(), es256(strangersCurveKey(), nil)), sig},
		{"DER in place of r and s", written(func(r, s *big.Int) []byte {
			der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
			if err != nil {
				panic(err)
			}
			return der
		}), sig},
		{"r and s exchanged", written(func(r, s *big.Int) []byte { return rs(s, r) }), sig},
		{"r alone", written(func(r, _ *big.Int) []byte { return r.FillBytes(make([]byte, 32)) }), sig},
		{"one byte short", written(func(r, s *big.Int) []byte { return rs(r, s)[:63] }), sig},
		{"one byte long", written(func(r, s *big.Int) []byte { return append(rs(r, s), 0) }), sig},
		{"a zero in front of each", written(func(r, s *big.Int) []byte {
			return append(r.FillBytes(make([]byte, 33)), s.FillBytes(make([]byte, 33))...)
		}), sig},
		{"the size of P-384", written(func(r, s *big.Int) []byte {
			return append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
		}), sig},
		{"no signature", seal(curveHeader, with(), nobody), sig},
		{"64 zeroes", fixed(zero, zero), sig},
		{"r is 0", written(func(_, s *big.Int) []byte { return rs(zero, s) }), sig},
		{"s is 0", written(func(r, _ *big.Int) []byte { return rs(r, zero) }), sig},
		{"r and s are 1", fixed(one, one), sig},
		{"r is the order", written(func(_, s *big.Int) []byte { return rs(order, s) }), sig},
		{"s is the order", written(func(r, _ *big.Int) []byte { return rs(r, order) }), sig},
		{"r and s are the order", fixed(order, order), sig},
		{"s is all ones", written(func(r, _ *big.Int) []byte {
			return append(r.FillBytes(make([]byte, 32)), bytes.Repeat([]byte{0xff}, 32)...)
		}), sig},
		{"another payload under the signature", func() string {
			parts := strings.Split(curveSigned(with()), ".")
			return parts[0] + "." + b64([]byte(with("sub", `"admin"`))) + "." + parts[2]
		}(), sig},
		{"RS256 on the ES256 key", seal(honestHeader, with(), rs256(vector().key)), access.ReasonAlgorithm},
		{"an RSA signature under ES256", seal(curveHeader, with(), rs256(vector().key)), sig},
		{"HS256 with the public key as secret", seal(`{"alg":"HS256"}`, with(), hs256(&curveVector().key.PublicKey)), access.ReasonAlgorithm},
		{"ES384 with a P-256 signature", seal(`{"alg":"ES384"}`, with(), es256(key, nil)), access.ReasonAlgorithm},
		{"ES256K", seal(`{"alg":"ES256K"}`, with(), es256(key, nil)), access.ReasonAlgorithm},
		{"EdDSA", seal(`{"alg":"EdDSA"}`, with(), es256(key, nil)), access.ReasonAlgorithm},
		{"alg none, unsigned", seal(`{"alg":"none"}`, with(), nobody), access.ReasonAlgorithm},
		{"brings its own key in jwk", seal(fmt.Sprintf(`{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":%q,"y":%q}}`, "AA", "AA"), with(), es256(strangersCurveKey(), nil)), sig},
	}
}

// badBindings are tokens with a cnf that does not hold; the connection has a certificate.
func badBindings() []hostile {
	form := access.ReasonConfirmation
	is := thumbprint(deskCertificate().leaf)
	cnf := func(json string, want access.Reason) hostile {
		return hostile{"cnf " + json, signed(with("cnf", json)), want}
	}
	return []hostile{
		cnf(`null`, form),
		cnf(`""`, form),
		cnf(`"`+is+`"`, form),
		cnf(`["`+is+`"]`, form),
		cnf(`{}`, form),
		cnf(`{"x5t#S256":null}`, form),
		cnf(`{"x5t#S256":7}`, form),
		cnf(`{"x5t#S256":["`+is+`"]}`, form),
		cnf(`{"x5t#s256":"`+is+`"}`, form),
		cnf(`{"x5t":"`+is+`"}`, form),
		cnf(`{"jkt":"`+is+`"}`, form),
		cnf(`{"jwk":{"kty":"EC"}}`, form),
		cnf(`{"x5t#S256":"`+is+`","jkt":"x"}`, form),
		cnf(`{"x5t#S256":"`+is+`","kid":"2026-07"}`, form),
		cnf(`{"x5t#S256":"`+is+`","x5t#S256":"`+is+`"}`, access.ReasonDuplicateMember),
		cnf(`{"x5t#S256":""}`, access.ReasonBinding),
		cnf(`{"x5t#S256":"`+is+`="}`, access.ReasonBinding),
		cnf(`{"x5t#S256":"`+is+` "}`, access.ReasonBinding),
		cnf(`{"x5t#S256":"`+is[:42]+`"}`, access.ReasonBinding),
		cnf(`{"x5t#S256":"`+leftover(is)+`"}`, access.ReasonBinding),
		cnf(`{"x5t#S256":"`+thumbprint(newCertificate(certificate{}).leaf)+`"}`, access.ReasonBinding),
	}
}

func TestHostileTokensAreRefusedForTheRightReason(t *testing.T) {
	met := map[access.Reason]bool{
		access.ReasonMissing: true, access.ReasonScheme: true, // TestAuthorizationHeaders
		access.ReasonNoCertificate: true, access.ReasonUnknownCertificate: true, access.ReasonCertificateTime: true,
		access.ReasonCertificateUsage: true, access.ReasonAmbiguousCertificate: true, // certificate_test.go
		access.ReasonRevoked: true, access.ReasonRevocationUnknown: true, // revocation_test.go
	}
	tried := 0
	for _, group := range []struct {
		name   string
		client access.Client
		chain  []*x509.Certificate
		tokens []hostile
	}{
		{"RS256", bank(), nil, slices.Concat(malformed(), duplicates(), badHeaders(), badSignatures(), badClaims(), badTimes())},
		{"ES256", curveBank(), nil, badCurve()},
		{"bound", bank(), deskCertificate().chain(), badBindings()},
	} {
		v := verifierOf(t, group.client)
		for _, h := range group.tokens {
			met[h.want] = true
			tried++
			t.Run(group.name+"/"+h.name, func(t *testing.T) {
				mustRefuseProof(t, v, access.Proof{Authorization: []string{"Bearer " + h.token}, Certificates: group.chain}, h.want)
			})
		}
	}
	t.Logf("%d hostile tokens", tried)
	if tried < 150 {
		t.Errorf("only %d tokens", tried)
	}
	for _, r := range access.Reasons() {
		if !met[r] {
			t.Errorf("no token here is refused for %q", r)
		}
	}
}

func mustRefuse(t *testing.T, v *access.Verifier, token string, want access.Reason) {
	t.Helper()
	mustRefuseProof(t, v, bearing(token), want)
}

func mustRefuseProof(t *testing.T, v *access.Verifier, p access.Proof, want access.Reason) {
	t.Helper()
	caller, err := v.Authenticate(t.Context(), p)
	if err == nil {
		t.Fatalf("accepted, want refused for %q", want)
	}
	if !errors.Is(err, access.AuthenticationError{Reason: want}) {
		t.Fatalf("refused: %v, want %q", err, want)
	}
	if caller.Issuer != "" || caller.Subject != "" || caller.Payload() != nil || caller.May(access.SignCards) == nil {
		t.Fatal("a refused token gave a caller")
	}
	if err.Error() != "not authenticated: "+string(want) {
		t.Fatalf("the error says more than its reason: %v", err)
	}
}

func TestWhatAClientRequires(t *testing.T) {
	noKid, noTyp := `{"alg":"RS256","typ":"JWT"}`, `{"alg":"RS256","kid":"2026-07"}`
	second := access.Key{ID: "2026-08", Algorithm: access.RS256, Public: &strangersKey().PublicKey}
	for _, tc := range []struct {
		name   string
		change func(*access.Client)
		token  string
		want   access.Reason
	}{
		{"kid required", func(c *access.Client) { c.RequireKeyID = true }, headed(noKid), access.ReasonUnknownKey},
		{"no kid, two keys", func(c *access.Client) { c.Keys = append(c.Keys, second) }, headed(noKid), access.ReasonUnknownKey},
		{"kid of the other key", func(c *access.Client) { c.Keys = append(c.Keys, second) }, headed(`{"alg":"RS256","kid":"2026-08"}`), access.ReasonSignature},
		{"kid where the key has none", func(c *access.Client) { c.Keys[0].ID = "" }, headed(honestHeader), access.ReasonUnknownKey},
		{"typ required", func(c *access.Client) { c.RequireType = true }, headed(noTyp), access.ReasonType},
		{"jti required", func(c *access.Client) { c.RequireTokenID = true }, signed(with("jti", "")), access.ReasonTokenID},
		{"no leeway, just expired", func(c *access.Client) { c.Leeway = 0 }, signed(with("iat", seconds(-300), "exp", seconds(0))), access.ReasonExpired},
		{"no leeway, issued in a second", func(c *access.Client) { c.Leeway = 0 }, signed(with("iat", seconds(1))), access.ReasonIssuedInFuture},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := bank()
			tc.change(&c)
			mustRefuse(t, verifierOf(t, c), tc.token, tc.want)
		})
	}
}

func TestAClientCannotSpeakForAnother(t *testing.T) {
	other := bank()
	other.Issuer, other.Tenant = "https://other.example", "bank-b"
	other.Keys = []access.Key{{ID: kid, Algorithm: access.RS256, Public: &strangersKey().PublicKey}}
	v := verifierOf(t, bank(), other)

	mustRefuse(t, v, signed(with("iss", `"https://other.example"`)), access.ReasonSignature)
	caller, err := authenticate(v, seal(honestHeader, with("iss", `"https://other.example"`), rs256(strangersKey())))
	if err != nil || caller.Tenant != "bank-b" {
		t.Fatalf("its own token: %+v, %v", caller, err)
	}
}

func TestPublishedVector(t *testing.T) {
	joe := bank()
	joe.Issuer = "joe"
	v, err := access.NewVerifier([]access.Client{joe}, clockAt(time.Unix(1300819300, 0)))
	if err != nil {
		t.Fatal(err)
	}
	// RFC 7515, A.2: the signature holds, so it is refused for what comes next: no iat.
	mustRefuse(t, v, vector().compact, access.ReasonTime)
	other := []byte(vector().compact)
	other[len(other)-20] ^= 1
	mustRefuse(t, v, string(other), access.ReasonSignature)

	joe.Keys = []access.Key{{Algorithm: access.RS256, Public: &rsa.PublicKey{N: vector().key.N, E: 65539}}}
	mustRefuse(t, verifierOf(t, joe), vector().compact, access.ReasonSignature)

	// RFC 7515, A.3: likewise, for ES256.
	joe.Keys = []access.Key{{Algorithm: access.ES256, Public: &curveVector().key.PublicKey}}
	mustRefuse(t, verifierOf(t, joe), curveVector().compact, access.ReasonTime)
	other = []byte(curveVector().compact)
	other[len(other)-20] ^= 1
	mustRefuse(t, verifierOf(t, joe), string(other), access.ReasonSignature)
}
