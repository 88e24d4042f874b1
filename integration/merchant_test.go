package integration

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/integration/faultmodule"
)

// The merchant API as a merchant's app meets it, with tokens that the merchant's own key
// signs, on one development server.
func TestMerchantAPI(t *testing.T) {
	t.Parallel()
	fault := faultmodule.New(t, module(t))
	s := start(t, t.TempDir(), []string{"--module", fault.Path}, nil)
	t.Run("checkjwt says whether a token holds, and why not", s.testCheck)
	t.Run("checkjwt gives the documented claims", s.testCheckedClaims)
	t.Run("proximity token", s.testProximityToken)
	t.Run("proximity token refused", s.testProximityRefused)
	t.Run("token device fails", func(t *testing.T) { s.testDeviceFails(t, fault) })
}

// bearing is one Authorization header, or none.
type bearing struct {
	name   string
	header string
	status int
	reason string
	code   int
}

// bearings are tokens of the merchant client and what checkjwt says of them.
func (s *server) bearings(t *testing.T) []bearing {
	m := s.merchant()
	good := m.token(nil)
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	with := func(change claims) string { return "Bearer " + m.token(change) }
	header := func(name string, value any) string {
		unsigned := m.unsigned(nil)
		unsigned.Header[name] = value
		if value == nil {
			delete(unsigned.Header, name)
		}
		return "Bearer " + m.signed(unsigned)
	}
	method := func(method jwt.SigningMethod, key any) string {
		unsigned := m.unsigned(nil)
		unsigned.Method, unsigned.Header["alg"] = method, method.Alg()
		token, err := unsigned.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	android := claims{"mbn": nil, "mcc": nil, "x-tid": nil, "tpid": nil, "refresh_token": nil}
	own := s.mintedToken(t, request{"sub": "u", "usr": "u", "aud": m.aud, "aud_fingerprints": fingerprint})
	return []bearing{
		{"good", "Bearer " + good, 200, "", 0},
		{"scheme in other letters", "bearer " + good, 200, "", 0},
		{"Android", with(android), 200, "", 0},
		{"fingerprints as an array", with(claims{"aud_fingerprints": []string{fingerprint, fingerprint}}), 200, "", 0},
		{"no fingerprints, but what iOS has", with(claims{"aud_fingerprints": nil}), 200, "", 0},
		{"without jti", with(claims{"jti": nil}), 200, "", 0},
		{"without kid", header("kid", nil), 200, "", 0},
		{"without typ", header("typ", nil), 200, "", 0},
		{"further claims", with(claims{"x-custom-claims": claims{"a": []int{1}}, "x-am-endpoint": "https://am.example"}), 200, "", 0},
		{"signed here", "Bearer " + own, 200, "", 0},

		{"none", "", 401, "missing", 100},
		{"another scheme", "Basic dTpw", 401, "scheme", 100},
		{"garbage", "Bearer garbage", 401, "malformed", 304},
		{"three segments of garbage", "Bearer a.b.c", 401, "malformed", 304},
		{"cut short", "Bearer " + good[:strings.LastIndexByte(good, '.')], 401, "malformed", 304},
		{"padded", "Bearer " + good + "=", 401, "malformed", 304},
		{"too large", "Bearer " + strings.Repeat("a", 9000), 401, "too-large", 304},
		{"claim twice", "Bearer " + s.claimTwice(m), 401, "duplicate-member", 304},
		{"expired", with(claims{"iat": ago(20 * time.Minute), "exp": ago(10 * time.Minute)}), 401, "expired", 118},
		{"algorithm none", method(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), 401, "algorithm", 126},
		{"HMAC with the public key", method(jwt.SigningMethodHS256, []byte(m.publicPEM())), 401, "algorithm", 126},
		{"RS384", method(jwt.SigningMethodRS384, m.key), 401, "algorithm", 126},
		{"PS256", method(jwt.SigningMethodPS256, m.key), 401, "algorithm", 126},
		{"another key", method(jwt.SigningMethodRS256, stranger), 401, "signature", 117},
		{"altered signature", "Bearer " + altered(good), 401, "signature", 117},
		{"altered token signed here", "Bearer " + altered(own), 401, "signature", 117},
		{"unknown kid", header("kid", "dev-merchant-2"), 401, "unknown-key", 117},
		{"kid of the other client", header("kid", "dev-issuer-1"), 401, "unknown-key", 117},
		{"crit", header("crit", []string{"exp"}), 401, "critical-header", 117},
		{"another typ", header("typ", "at+jwt"), 401, "type", 117},
		{"unknown iss", with(claims{"iss": "somebody"}), 401, "unknown-issuer", 117},
		{"iss of the server", with(claims{"iss": "dev-mint"}), 401, "unknown-key", 117},
		{"without iat", with(claims{"iat": nil}), 401, "time", 117},
		{"without exp", with(claims{"exp": nil}), 401, "time", 117},
		{"exp as text", with(claims{"exp": "2099-01-01"}), 401, "time", 117},
		{"lives for a day", with(claims{"exp": ago(-24 * time.Hour)}), 401, "too-long-lived", 117},
		{"from the future", with(claims{"iat": ago(-5 * time.Minute), "exp": ago(-10 * time.Minute)}), 401, "issued-in-future", 117},
		{"nbf to come", with(claims{"nbf": ago(-5 * time.Minute)}), 401, "not-yet-valid", 117},
		{"another aud", with(claims{"aud": "kernel.example"}), 401, "audience", 117},
		{"aud for us and others", with(claims{"aud": []string{m.aud, "kernel.example"}}), 401, "audience", 117},
		{"without aud", with(claims{"aud": nil}), 401, "audience", 117},
		{"without sub", with(claims{"sub": nil}), 401, "subject", 117},
		{"empty sub", with(claims{"sub": ""}), 401, "subject", 117},
		{"bound to a certificate", with(claims{"cnf": claims{"x5t#S256": strings.Repeat("A", 43)}}), 401, "no-certificate", 100},
		{"without usr", with(claims{"usr": nil}), 401, "claim-usr", 117},
		{"usr that is no text", with(claims{"usr": 7}), 401, "claim-usr", 117},
		{"mcc that is none", with(claims{"mcc": "54110"}), 401, "claim-mcc", 117},
		{"fingerprints that are none", with(claims{"aud_fingerprints": "sha256/xyz"}), 401, "claim-aud_fingerprints", 117},
		{"no fingerprints on Android", with(changed(android, claims{"aud_fingerprints": nil})), 401, "claim-aud_fingerprints", 117},
		{"no fingerprints and no x-tid", with(claims{"aud_fingerprints": nil, "x-tid": nil}), 401, "claim-aud_fingerprints", 117},
	}
}

// changed is a copy with more in it.
func changed(base, more claims) claims {
	all := claims{}
	for _, from := range []claims{base, more} {
		for name, value := range from {
			all[name] = value
		}
	}
	return all
}

// mintedToken has the server sign a merchant JWT.
func (s *server) mintedToken(t *testing.T, body request) string {
	t.Helper()
	var out struct{ Token string }
	s.send("/v1/merchant-tokens", s.issuer().token(nil), body).into(t, &out)
	return out.Token
}

// claimTwice is a token with usr twice in its claims, rightly signed.
func (s *server) claimTwice(m *party) string {
	unsigned := m.unsigned(nil)
	input, err := unsigned.SigningString()
	if err != nil {
		s.t.Fatal(err)
	}
	head, body, _ := strings.Cut(input, ".")
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		s.t.Fatal(err)
	}
	twice := head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"usr":"admin",`+string(raw[1:])))
	sig, err := unsigned.Method.Sign(twice, m.key)
	if err != nil {
		s.t.Fatal(err)
	}
	return twice + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (s *server) testCheck(t *testing.T) {
	for _, b := range s.bearings(t) {
		for _, path := range []string{"/tokens/checkjwt", "/4.0.1-beta/tokens/checkjwt"} {
			c := call{method: http.MethodPost, url: s.info.BaseURL + path}
			if b.header != "" {
				c.header = http.Header{"Authorization": {b.header}}
			}
			a, err := c.by(client)
			if err != nil {
				t.Fatal(err)
			}
			reason, code := a.refusal()
			if a.status != b.status || reason != b.reason || code != b.code {
				t.Errorf("%s, %s: answered %d, reason %q, code %d; want %d, %q, %d: %s", b.name, path, a.status, reason, code, b.status, b.reason, b.code, a.body)
			}
			if a.status == 401 && (a.header.Get("WWW-Authenticate") != "Bearer" || a.problem() != "token-refused" || a.header.Get("Content-Type") != "application/problem+json") {
				t.Errorf("%s: 401 is %q with %v", b.name, a.problem(), a.header)
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: may be cached", b.name)
			}
		}
	}
	for _, version := range []string{"-", "4%200", strings.Repeat("4", 33)} {
		if a := s.send("/"+version+"/tokens/checkjwt", s.merchant().token(nil), nil); a.status != 404 || a.problem() != "no-such-resource" {
			t.Errorf("version %s: answered %d: %s", version, a.status, a.body)
		}
	}
}

func (s *server) testCheckedClaims(t *testing.T) {
	m := s.merchant()
	iat := time.Now().Unix()
	token := m.token(claims{"iat": iat, "exp": iat + 60, "spCfg": "profile", "x-custom-claims": "not told"})
	var got claims
	s.send("/tokens/checkjwt", token, nil).into(t, &got)
	want := claims{
		"iss": m.iss, "sub": m.sub, "usr": "dev-cashier", "aud": m.aud, "iat": float64(iat), "exp": float64(iat + 60),
		"aud_fingerprints": []any{fingerprint}, "spCfg": "profile",
		"mbn": "Demo Corner Shop", "mcc": "5411", "x-tid": "00000001", "tpid": "dev-provider", "refresh_token": false,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("answered\n%v\nwant\n%v", got, want)
	}
	// A body is of no interest, nor whether it is JSON.
	if a := s.send("/tokens/checkjwt", token, "anything"); a.status != 200 {
		t.Errorf("with a body: answered %d: %s", a.status, a.body)
	}
}

// proximityAnswer is the documented 200.
type proximityAnswer struct{ Token, ExpiresAt, IssuedAt, JwtID string }

var (
	isoMillis = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	uuidForm  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
)

// es256Head is what the Base64url of {"alg":"ES256","kid":" begins with, as the published
// sample does.
const es256Head = "eyJhbGciOiJFUzI1NiIsImtpZCI6I"

func (s *server) testProximityToken(t *testing.T) {
	a := s.send("/apple/proximity-token", s.merchant().token(nil), nil)
	var members map[string]string
	a.into(t, &members)
	if len(members) != 4 || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %s with %v", a.body, a.header)
	}
	var out proximityAnswer
	a.into(t, &out)
	if !isoMillis.MatchString(out.IssuedAt) || !isoMillis.MatchString(out.ExpiresAt) || !uuidForm.MatchString(out.JwtID) || !strings.HasPrefix(out.Token, es256Head) {
		t.Fatalf("a member has another form: %s", a.body)
	}
	issued, err1 := time.Parse(time.RFC3339, out.IssuedAt)
	expires, err2 := time.Parse(time.RFC3339, out.ExpiresAt)
	if err1 != nil || err2 != nil || expires.Sub(issued) != 48*time.Hour || time.Since(issued) > time.Minute || time.Since(issued) < 0 {
		t.Errorf("issued at %v, expires at %v", issued, expires)
	}
	_, body, _ := strings.Cut(out.Token, ".")
	body, _, _ = strings.Cut(body, ".")
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"exp":%d,"iat":%d,"iss":"dev-mint","jti":%q,"mbn":"Demo Corner Shop","mcc":"5411","terminalProfileId":"00000001"}`,
		expires.Unix(), issued.Unix(), out.JwtID)
	if string(raw) != want {
		t.Errorf("claims are %s, want %s", raw, want)
	}
	// One merchant JWT may open more than one session.
	var again proximityAnswer
	s.send("/apple/proximity-token", s.merchant().token(nil), nil).into(t, &again)
	if again.JwtID == out.JwtID || again.Token == out.Token {
		t.Error("the same token is given twice")
	}
}

func (s *server) testProximityRefused(t *testing.T) {
	m := s.merchant()
	strong := s.issuer() // of every right but this one
	strong.claims = m.claims
	for name, tt := range map[string]struct {
		token  string
		status int
		text   string
	}{
		"none":             {"", 401, `^Unauthorized$`},
		"garbage":          {"garbage", 401, `^Unauthorized$`},
		"expired":          {m.token(claims{"iat": time.Now().Unix() - 1200, "exp": time.Now().Unix() - 600}), 401, `^Unauthorized$`},
		"another key":      {altered(m.token(nil)), 401, `^Unauthorized$`},
		"another aud":      {m.token(claims{"aud": "kernel.example"}), 401, `^Unauthorized$`},
		"without usr":      {m.token(claims{"usr": nil}), 401, `^Unauthorized$`},
		"without sub":      {m.token(claims{"sub": nil}), 401, `^Unauthorized$`},
		"right missing":    {strong.token(nil), 403, `\(createAppleProximityToken\)$`},
		"without mbn":      {m.token(claims{"mbn": nil}), 500, `claim mbn is missing`},
		"mbn null":         {m.token(claims{"mbn": json.RawMessage("null")}), 500, `claim mbn is missing`},
		"without mcc":      {m.token(claims{"mcc": nil}), 500, `claim mcc is missing`},
		"mcc that is none": {m.token(claims{"mcc": "12"}), 500, `claim mcc is not four digits`},
		"without x-tid":    {m.token(claims{"x-tid": nil}), 500, `claim x-tid is missing`},
		"unknown terminal": {m.token(claims{"x-tid": "00000002"}), 500, `claim x-tid is no terminal profile id \(appleTerminalProfileId\)`},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.send("/apple/proximity-token", tt.token, nil)
			var members map[string]string
			if err := json.Unmarshal(a.body, &members); err != nil || len(members) != 1 || !regexp.MustCompile(tt.text).MatchString(members["error"]) || a.status != tt.status {
				t.Errorf("answered %d %s (%v); want %d with %s", a.status, a.body, err, tt.status, tt.text)
			}
			if (a.header.Get("WWW-Authenticate") == "Bearer") != (tt.status == 401) || a.header.Get("Content-Type") != "application/json" || a.header.Get("Retry-After") != "" {
				t.Errorf("header is %v", a.header)
			}
		})
	}
}

// While the token device fails each endpoint says so in its own form, when to come again
// with it; what needs no device is served; with the device service comes back.
func (s *server) testDeviceFails(t *testing.T, fault *faultmodule.Module) {
	m, order := s.merchant(), request{"sub": "u", "usr": "u", "aud": "a"}
	fault.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_DEVICE_ERROR, Times: faultmodule.Forever})
	for range 3 { // the one that meets it, and those that find it known
		a := s.send("/apple/proximity-token", m.token(nil), nil)
		if a.status != 500 || string(a.body) != `{"error":"Internal server error during token generation"}` || a.header.Get("Retry-After") == "" {
			t.Errorf("answered %d %s with %v", a.status, a.body, a.header)
		}
		a = s.send("/v1/merchant-tokens", s.issuer().token(nil), order)
		if a.status != 503 || a.problem() != "unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("answered %d %s with %v", a.status, a.body, a.header)
		}
	}
	if a := s.send("/tokens/checkjwt", m.token(nil), nil); a.status != 200 {
		t.Errorf("checkjwt answers %d: %s", a.status, a.body)
	}
	if a := s.send("/apple/proximity-token", m.token(claims{"mbn": nil}), nil); a.status != 500 || !strings.Contains(string(a.body), "claim mbn") || a.header.Get("Retry-After") != "" {
		t.Errorf("what the caller did wrong is answered with %d %s", a.status, a.body)
	}
	if a := s.get(s.info.BaseURL + "/.well-known/jwks.json"); a.status != 200 {
		t.Errorf("JWKS answers %d: %s", a.status, a.body)
	}
	fault.Clear()
	eventually(t, patience, func() error { return s.send("/apple/proximity-token", m.token(nil), nil).want(200) })
	eventually(t, patience, func() error { return s.send("/v1/merchant-tokens", s.issuer().token(nil), order).want(200) })
}
