package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// checks is an API over the real domain's checks, which touch neither record nor key.
func checks(t *testing.T, changes ...func(*setup)) *api {
	t.Helper()
	return newAPI(t, mustNotBeAsked(t), append([]func(*setup){func(s *setup) { s.Merchant = domain(t) }}, changes...)...)
}

func TestTokenThatHoldsIsAnsweredWithItsClaims(t *testing.T) {
	now := time.Now().Unix()
	times := jwt.MapClaims{"iat": now, "exp": now + 300}
	const base = `"iss":"merchants.example","sub":"user-1","usr":"cashier","aud":"mint.example"`
	stamps := `,"iat":` + strconv.FormatInt(now, 10) + `,"exp":` + strconv.FormatInt(now+300, 10)
	for name, tc := range map[string]struct {
		claims jwt.MapClaims
		want   string
	}{
		"iOS": {appClaims(nil), base + stamps + `,"mbn":"Corner Shop","mcc":"5411","x-tid":"00000001"`},
		"iOS, all of it": {
			appClaims(jwt.MapClaims{"tpid": "t", "spCfg": "p", "refresh_token": true}),
			base + stamps + `,"mbn":"Corner Shop","mcc":"5411","x-tid":"00000001","tpid":"t","spCfg":"p","refresh_token":true`,
		},
		"Android, comma-separated": {
			appClaims(jwt.MapClaims{"mbn": nil, "mcc": nil, "x-tid": nil, "aud_fingerprints": oneFingerprint + "," + anotherFingerprint}),
			base + stamps + `,"aud_fingerprints":["` + oneFingerprint + `","` + anotherFingerprint + `"]`,
		},
		"Android, an array": {
			appClaims(jwt.MapClaims{"mbn": nil, "mcc": nil, "x-tid": nil, "aud_fingerprints": []string{oneFingerprint}}),
			base + stamps + `,"aud_fingerprints":["` + oneFingerprint + `"]`,
		},
		"claims that nobody documented are not repeated": {
			appClaims(jwt.MapClaims{"x-custom-claims": canary, "jti": canary, canary: 1, "nbf": now}),
			base + stamps + `,"mbn":"Corner Shop","mcc":"5411","x-tid":"00000001"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for claim, v := range times {
				tc.claims[claim] = v
			}
			for _, path := range []string{checkjwt, "/4.0/tokens/checkjwt", "/v1/tokens/checkjwt", "/tokens/tokens/checkjwt"} {
				a := checks(t)
				got := a.do(a.postTo(path, "", token(t, app, tc.claims)))
				if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
					t.Fatalf("%s answered %d: %s\n%s", path, got.status, got.body, a.log)
				}
				if diff := cmp.Diff(jsonValue(t, "{"+tc.want+"}"), jsonValue(t, got.body)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
				if len(a.refusals.seen) != 0 {
					t.Errorf("recorded %+v", a.refusals.seen)
				}
				a.holdsNothingOf(got, canary)
			}
		})
	}
}

// The body is not read, whatever it is, and neither is its type.
func TestBodyOfCheckjwtIsNotRead(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"none":         func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 },
		"no type":      func(r *http.Request) { r.Header.Del("Content-Type") },
		"another type": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain; x="+canary) },
		"malformed":    func(r *http.Request) { r.Body = chunks("{"+canary, 3) },
		"a megabyte":   func(r *http.Request) { r.Body = chunks(strings.Repeat(canary, 100_000), 4096) },
		"broken":       func(r *http.Request) { r.Body = chunks("", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			a := checks(t)
			req := a.postTo(checkjwt, "{}", token(t, app, appClaims(nil)))
			change(req)
			got := a.do(req)
			if got.status != http.StatusOK {
				t.Errorf("answered %d: %s", got.status, got.body)
			}
			a.holdsNothingOf(got, canary)
		})
	}
}

// No right is needed: who is known may ask about its own token.
func TestCheckjwtNeedsNoRight(t *testing.T) {
	a := checks(t)
	if got := a.do(a.postTo(checkjwt, "", token(t, bystander, appClaims(nil)))); got.status != http.StatusOK {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

// codes is what each reason is answered with. Every reason has its line, and is in it on
// purpose: a new one must be thought about.
var codes = map[access.Reason]int{
	access.ReasonMissing:       codeUnauthorized,
	access.ReasonScheme:        codeUnauthorized,
	access.ReasonNoCertificate: codeUnauthorized,

	access.ReasonTooLarge:        codeParsing,
	access.ReasonMalformed:       codeParsing,
	access.ReasonDuplicateMember: codeParsing,

	access.ReasonAlgorithm: codeAlgorithm,
	access.ReasonExpired:   codeExpired,

	access.ReasonCriticalHeader:       codeInvalid,
	access.ReasonType:                 codeInvalid,
	access.ReasonUnknownIssuer:        codeInvalid,
	access.ReasonUnknownKey:           codeInvalid,
	access.ReasonSignature:            codeInvalid,
	access.ReasonTime:                 codeInvalid,
	access.ReasonTooLongLived:         codeInvalid,
	access.ReasonIssuedInFuture:       codeInvalid,
	access.ReasonNotYetValid:          codeInvalid,
	access.ReasonAudience:             codeInvalid,
	access.ReasonSubject:              codeInvalid,
	access.ReasonTokenID:              codeInvalid,
	access.ReasonConfirmation:         codeInvalid,
	access.ReasonBinding:              codeInvalid,
	access.ReasonUnknownCertificate:   codeInvalid,
	access.ReasonCertificateTime:      codeInvalid,
	access.ReasonCertificateUsage:     codeInvalid,
	access.ReasonAmbiguousCertificate: codeInvalid,
	access.ReasonRevoked:              codeInvalid, access.ReasonRevocationUnknown: codeInvalid,
}

// refuser is a Callers that refuses everybody, or admits nobody, with an error.
type refuser struct {
	Callers
	authenticate, admit error
}

func (r refuser) Authenticate(ctx context.Context, p access.Proof) (access.Caller, error) {
	if r.authenticate != nil {
		return access.Caller{}, r.authenticate
	}
	return r.Callers.Authenticate(ctx, p)
}

func (r refuser) Admit(c access.Caller) error {
	if r.admit != nil {
		return r.admit
	}
	return r.Callers.Admit(c)
}

// callers has the API's callers refused.
func callers(r refuser) func(*setup) {
	return func(s *setup) {
		s.wrap = func(c Callers) Callers {
			r.Callers = c
			return r
		}
	}
}

func TestEachReasonHasTheDocumentedCode(t *testing.T) {
	for _, reason := range access.Reasons() {
		code, decided := codes[reason]
		if !decided {
			t.Errorf("nobody has decided on a code for %s", reason)
			continue
		}
		t.Run(string(reason), func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t), callers(refuser{authenticate: access.AuthenticationError{Reason: reason}}))
			got := a.do(a.postTo(checkjwt, "", "x"))
			got.expect(t, http.StatusUnauthorized, "token-refused")
			p := got.problem(t)
			if p.Reason != string(reason) || p.Code != code || p.Detail != checkDetails[code] || p.Detail == "" {
				t.Errorf("problem %+v, want code %d", p, code)
			}
			if got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
			}
			if diff := cmp.Diff([]record.Intent{unknownRefusal(record.CheckMerchantToken, string(reason))}, a.recorded()); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
		})
	}
	if len(codes) != len(access.Reasons()) {
		t.Errorf("%d codes for %d reasons", len(codes), len(access.Reasons()))
	}
	used := map[int]bool{}
	for _, code := range codes {
		used[code] = true
	}
	if want := []int{100, 117, 118, 126, 304}; len(used) != len(want) || slices.ContainsFunc(want, func(c int) bool { return !used[c] }) {
		t.Errorf("codes in use are %v", used)
	}
}

// The same, with tokens as they come.
func TestTokensThatDoNotHoldAreToldWhy(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	good := token(t, app, appClaims(nil))
	parts := strings.Split(good, ".")
	for name, tc := range map[string]struct {
		authorization string
		code          int
		reason        string
	}{
		"none":               {"", 100, "missing"},
		"another scheme":     {"Basic " + canary, 100, "scheme"},
		"no JWT":             {"Bearer " + canary, 304, "malformed"},
		"too large":          {"Bearer " + strings.Repeat("x", 9000), 304, "too-large"},
		"altered":            {"Bearer " + parts[0] + "." + parts[1] + ".c2ln", 117, "signature"},
		"alg none":           {"Bearer eyJhbGciOiJub25lIn0." + parts[1] + ".", 126, "algorithm"},
		"expired":            {"Bearer " + token(t, app, jwt.MapClaims{"iat": past.Unix(), "exp": past.Add(time.Minute).Unix()}), 118, "expired"},
		"lives too long":     {"Bearer " + token(t, app, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()}), 117, "too-long-lived"},
		"of nobody":          {"Bearer " + token(t, canary, nil), 117, "unknown-issuer"},
		"for somebody else":  {"Bearer " + token(t, app, jwt.MapClaims{"aud": canary}), 117, "audience"},
		"for nobody at all":  {"Bearer " + token(t, app, jwt.MapClaims{"sub": ""}), 117, "subject"},
		"without an end":     {"Bearer " + token(t, app, jwt.MapClaims{"exp": nil}), 117, "time"},
		"with a critical":    {"Bearer eyJhbGciOiJSUzI1NiIsImNyaXQiOlsieCJdLCJ4IjoxfQ." + parts[1] + "." + parts[2], 117, "critical-header"},
		"claims stand twice": {"Bearer " + parts[0] + ".eyJpc3MiOiJhIiwiaXNzIjoiYiJ9." + parts[2], 304, "duplicate-member"},
	} {
		t.Run(name, func(t *testing.T) {
			a := checks(t)
			req := a.postTo("/5.1/tokens/checkjwt", "", "")
			req.Header.Del("Authorization")
			if tc.authorization != "" {
				req.Header.Set("Authorization", tc.authorization)
			}
			got := a.do(req)
			got.expect(t, http.StatusUnauthorized, "token-refused")
			if p := got.problem(t); p.Code != tc.code || p.Reason != tc.reason {
				t.Errorf("problem %+v", p)
			}
			a.holdsNothingOf(got, canary, parts[1][:40], parts[2][:40])
		})
	}
}

// Then the documented claims, of which the first that does not hold is told, and recorded
// with who had it signed.
func TestClaimsThatDoNotHoldAreToldByName(t *testing.T) {
	android := jwt.MapClaims{"mbn": nil, "mcc": nil, "x-tid": nil, "aud_fingerprints": oneFingerprint}
	for name, tc := range map[string]struct {
		changes jwt.MapClaims
		reason  string
	}{
		"no usr":                        {jwt.MapClaims{"usr": nil}, "claim-usr"},
		"usr is a number":               {jwt.MapClaims{"usr": 1}, "claim-usr"},
		"usr is empty":                  {jwt.MapClaims{"usr": ""}, "claim-usr"},
		"no fingerprints, no iOS":       {jwt.MapClaims{"mbn": nil}, "claim-aud_fingerprints"},
		"another server's fingerprints": {jwt.MapClaims{"aud_fingerprints": anotherFingerprint}, "claim-aud_fingerprints"},
		"fingerprints of another form":  {jwt.MapClaims{"aud_fingerprints": canary}, "claim-aud_fingerprints"},
		"fingerprints are an object":    {jwt.MapClaims{"aud_fingerprints": map[string]any{canary: 1}}, "claim-aud_fingerprints"},
		"mcc is a number":               {jwt.MapClaims{"mcc": 5411}, "claim-mcc"},
		"mcc is no code":                {jwt.MapClaims{"mcc": canary}, "claim-mcc"},
		"mbn does not print":            {jwt.MapClaims{"mbn": canary + "\n"}, "claim-mbn"},
		"x-tid is a list":               {jwt.MapClaims{"x-tid": []string{canary}}, "claim-x-tid"},
		"refresh_token is a text":       {jwt.MapClaims{"refresh_token": "true"}, "claim-refresh_token"},
		"tpid is an object":             {jwt.MapClaims{"tpid": map[string]any{}}, "claim-tpid"},
		"spCfg is too long":             {jwt.MapClaims{"spCfg": strings.Repeat("a", 256)}, "claim-spCfg"},
	} {
		t.Run(name, func(t *testing.T) {
			a := checks(t, func(s *setup) { s.Merchant = domain(t, merchant.Fingerprint(oneFingerprint)) })
			if got := a.do(a.postTo(checkjwt, "", token(t, app, appClaims(android)))); got.status != http.StatusOK {
				t.Fatalf("a good token is answered %d: %s", got.status, got.body)
			}
			got := a.do(a.postTo(checkjwt, "", token(t, app, appClaims(tc.changes))))
			got.expect(t, http.StatusUnauthorized, "token-refused")
			if p := got.problem(t); p.Code != 117 || p.Reason != tc.reason || got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("problem %+v", p)
			}
			if diff := cmp.Diff([]record.Intent{refusalOf(record.CheckMerchantToken, app, tc.reason)}, a.recorded()); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
			a.holdsNothingOf(got, canary)
		})
	}
}

// A client that its certificate proves has sent no token to check.
func TestCertificateAloneIsNoTokenToCheck(t *testing.T) {
	a := checks(t, withClient(desk()), func(s *setup) { s.Certificates = map[Group]CertificateMode{MerchantGroup: CertificatesOptional} })
	req := on(a.postTo(checkjwt, "", ""), withCert())
	req.Header.Del("Authorization")
	got := a.do(req)
	got.expect(t, http.StatusUnauthorized, "token-refused")
	if p := got.problem(t); p.Code != 100 || p.Reason != "missing" {
		t.Errorf("problem %+v", p)
	}
}

func TestTroubleOfCheckjwtIsNoFaultOfTheToken(t *testing.T) {
	good := func(t *testing.T) string { return token(t, app, appClaims(nil)) }
	for name, tc := range map[string]struct {
		change func(*setup)
		status int
		typ    string
		retry  string
	}{
		"keys cannot be had": {callers(refuser{authenticate: later{7 * time.Second}}), 503, "unavailable", "7"},
		"no time for them":   {callers(refuser{authenticate: context.DeadlineExceeded}), 503, "unavailable", "1"},
		"a fault of ours":    {asks(merchants{check: func(merchant.Claims) error { return errors.New(canary) }}), 500, "internal", ""},
		"a panic":            {asks(merchants{check: func(merchant.Claims) error { panic(canary) }}), 500, "internal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t), tc.change)
			got := a.do(a.postTo(checkjwt, "", good(t)))
			got.expect(t, tc.status, tc.typ)
			if h := got.header.Get("Retry-After"); h != tc.retry {
				t.Errorf("Retry-After is %q, want %q", h, tc.retry)
			}
			if tc.status == http.StatusServiceUnavailable && len(a.refusals.seen) != 0 {
				t.Errorf("recorded as a refusal: %+v", a.refusals.seen)
			}
			if strings.Contains(got.body, canary) {
				t.Error("the error's own text left")
			}
		})
	}
}

// Only what has the form of a version is one. Nothing is looked at before that.
func TestVersionsHaveTheirForm(t *testing.T) {
	for version, good := range map[string]bool{
		"4.0": true, "v1": true, "2026-11-22": true, "a_b": true, "X": true, strings.Repeat("a", 32): true,
		strings.Repeat("a", 33): false, "-4": false, ".4": false, "4~0": false, "": false, "..": false, "4+0": false, "\u0664": false, "a b": false, "4.0\n": false,
	} {
		a := checks(t)
		req := a.postTo(checkjwt, "", "not a token: "+canary)
		req.URL.Path = "/" + version + "/tokens/checkjwt"
		got := a.do(req)
		if good {
			got.expect(t, http.StatusUnauthorized, "token-refused")
			continue
		}
		got.expect(t, http.StatusNotFound, "no-such-resource")
		if len(a.refusals.seen) != 0 {
			t.Errorf("%q: recorded %+v", version, a.refusals.seen)
		}
	}
}
