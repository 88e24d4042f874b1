package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// goodToken is a well-formed request for a merchant JWT, with members changed; nil takes one
// out, and null is null.
func goodToken(changes map[string]any) string {
	b := map[string]any{"sub": "shop-17", "usr": "cashier@shop.example", "aud": "kernel.example"}
	for name, value := range changes {
		if value == nil {
			delete(b, name)
			continue
		}
		b[name] = value
	}
	return text(b)
}

// null is JSON's, in a body.
type null struct{}

func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

var (
	oneFingerprint     = "sha256/" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32)))
	anotherFingerprint = "sha256/" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("b", 32)))
)

// postToken is an authenticated request for a merchant JWT.
func (a *api) postToken(body string) *http.Request {
	a.t.Helper()
	return a.postTo(merchantTokens, body, token(a.t, backend, nil))
}

func TestMerchantTokenIsAnswered(t *testing.T) {
	var who merchant.Caller
	a := newAPI(t, mustNotBeAsked(t), asks(merchants{sign: func(w merchant.Caller, _ merchant.TokenRequest) (merchant.Token, error) {
		who = w
		return merchant.Token{Token: "a.b.c", ExpiresAt: time.Date(2026, 11, 22, 12, 15, 0, 0, time.UTC), KeyID: "the-kid"}, nil
	}}))
	got := a.do(a.postToken(goodToken(nil)))
	if want := `{"expiresAt":"2026-11-22T12:15:00Z","kid":"the-kid","token":"a.b.c"}`; got.status != http.StatusOK || got.body != want || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %d, %s: %s", got.status, got.header.Get("Content-Type"), got.body)
	}
	want := merchant.Caller{Tenant: "bank-a", Issuer: backend, Subject: "user-1", RequestID: got.header.Get("X-Request-Id")}
	if diff := cmp.Diff(want, who); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
	if len(a.refusals.seen) != 0 {
		t.Errorf("recorded %+v", a.refusals.seen)
	}
	a.holdsNothingOf(answer{header: http.Header{}}, "a.b.c") // not logged
}

// Members have two forms, may be null, and what is further than them is handed on as it is.
func TestMerchantTokenRequestsAreUnderstood(t *testing.T) {
	good := func(change func(*merchant.TokenRequest)) merchant.TokenRequest {
		r := merchant.TokenRequest{Subject: "shop-17", User: "cashier@shop.example", Audience: "kernel.example"}
		change(&r)
		return r
	}
	two := []merchant.Fingerprint{merchant.Fingerprint(oneFingerprint), merchant.Fingerprint(anotherFingerprint)}
	least := good(func(*merchant.TokenRequest) {})
	seven := 7
	for name, tc := range map[string]struct {
		body string
		want merchant.TokenRequest
	}{
		"the least": {goodToken(nil), least},
		"everything": {
			goodToken(map[string]any{
				"aud_fingerprints": oneFingerprint, "spCfg": "p", "mbn": "Zoë & Co", "mcc": "5411", "x-tid": "1", "tpid": "t", "lifetimeSeconds": 7, "claims": map[string]any{"refresh_token": false},
			}),
			good(func(r *merchant.TokenRequest) {
				r.Fingerprints, r.SPConfig, r.BusinessName, r.CategoryCode = two[:1], "p", "Zoë & Co", "5411"
				r.TerminalID, r.ProviderID, r.LifetimeSeconds = "1", "t", &seven
				r.Claims = rawClaims("refresh_token", "false")
			}),
		},
		"null members are left out": {
			goodToken(map[string]any{
				"aud_fingerprints": null{}, "spCfg": null{}, "mbn": null{}, "mcc": null{}, "x-tid": null{}, "tpid": null{}, "lifetimeSeconds": null{}, "claims": null{},
			}), least,
		},
		"null where a value is needed":  {goodToken(map[string]any{"usr": null{}}), good(func(r *merchant.TokenRequest) { r.User = "" })},
		"needed ones left out":          {"{}", merchant.TokenRequest{}},
		"empty texts":                   {goodToken(map[string]any{"mbn": "", "mcc": ""}), least},
		"fingerprints, comma-separated": {goodToken(map[string]any{"aud_fingerprints": oneFingerprint + ", " + anotherFingerprint}), good(func(r *merchant.TokenRequest) { r.Fingerprints = two })},
		"fingerprints, an array":        {goodToken(map[string]any{"aud_fingerprints": []string{oneFingerprint, anotherFingerprint}}), good(func(r *merchant.TokenRequest) { r.Fingerprints = two })},
		"claims as they are written": {
			`{"sub":"shop-17","usr":"cashier@shop.example","aud":"kernel.example","claims":{"n":9007199254740993,"f":1.10,"e":1E400,"o":{"a":[null,{}]},"z":null}}`,
			good(func(r *merchant.TokenRequest) {
				r.Claims = rawClaims("n", "9007199254740993", "f", "1.10", "e", "1E400", "o", `{"a":[null,{}]}`, "z", "null")
			}),
		},
		"no claims": {goodToken(map[string]any{"claims": map[string]any{}}), good(func(r *merchant.TokenRequest) { r.Claims = rawClaims() })},
	} {
		t.Run(name, func(t *testing.T) {
			var got merchant.TokenRequest
			a := newAPI(t, mustNotBeAsked(t), asks(merchants{sign: func(_ merchant.Caller, req merchant.TokenRequest) (merchant.Token, error) {
				got = req
				return merchant.Token{}, nil
			}}))
			if answer := a.do(a.postToken(tc.body)); answer.status != http.StatusOK {
				t.Fatalf("answered %d: %s", answer.status, answer.body)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("request to the domain (-want +got):\n%s", diff)
			}
		})
	}
}

// All of these are refused before the domain is asked.
func TestMalformedMerchantTokenBodiesAreRefused(t *testing.T) {
	good := goodToken(nil)
	insert := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	nested := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for name, tc := range map[string]struct {
		body   string
		status int
		typ    string
	}{
		"empty":                       {"", 400, "malformed-body"},
		"null":                        {"null", 400, "malformed-body"},
		"an array":                    {"[" + good + "]", 400, "malformed-body"},
		"broken off":                  {good[:len(good)-1], 400, "malformed-body"},
		"followed by another value":   {good + good, 400, "malformed-body"},
		"a member twice":              {insert(`"sub":"shop-17"`), 400, "malformed-body"},
		"a claim twice":               {insert(`"claims":{"a":1,"a":2}`), 400, "malformed-body"},
		"a claim twice, once escaped": {insert(`"claims":{"a":1,"\u0061":2}`), 400, "malformed-body"},
		"a claim twice, deep inside":  {insert(`"claims":{"a":[{"b":1,"b":2}]}`), 400, "malformed-body"},
		"an unknown member":           {insert(`"iss":"` + canary + `"`), 400, "malformed-body"},
		"a member in another case":    {insert(`"MBN":"` + canary + `"`), 400, "malformed-body"},
		"the claim's other name":      {insert(`"x_tid":"` + canary + `"`), 400, "malformed-body"},
		"sub is a number":             {goodToken(map[string]any{"sub": 5204245250001488}), 400, "malformed-body"},
		"usr is an array":             {goodToken(map[string]any{"usr": []string{canary}}), 400, "malformed-body"},
		"mcc is a number":             {goodToken(map[string]any{"mcc": 5411}), 400, "malformed-body"},
		"claims are an array":         {goodToken(map[string]any{"claims": []string{canary}}), 400, "malformed-body"},
		"claims are a text":           {goodToken(map[string]any{"claims": canary}), 400, "malformed-body"},
		"lifetime is a text":          {goodToken(map[string]any{"lifetimeSeconds": "900"}), 400, "malformed-body"},
		"lifetime is a fraction":      {goodToken(map[string]any{"lifetimeSeconds": 1.5}), 400, "malformed-body"},
		"lifetime is beyond 64 bits":  {insert(`"lifetimeSeconds":99999999999999999999`), 400, "malformed-body"},
		"invalid UTF-8":               {strings.Replace(good, "shop-17", "shop\xff", 1), 400, "malformed-body"},
		"half a surrogate":            {strings.Replace(good, "shop-17", `\ud800`, 1), 400, "malformed-body"},
		"invalid UTF-8 in a claim":    {insert("\"claims\":{\"a\":\"\xff\"}"), 400, "malformed-body"},
		"nested too deep":             {insert(`"claims":{"a":` + nested + `}`), 400, "malformed-body"},
		"larger than 64 KiB":          {good + strings.Repeat(" ", 64<<10), 413, "body-too-large"},
		"fingerprints are a number":   {goodToken(map[string]any{"aud_fingerprints": 1}), 400, "malformed-member"},
		"fingerprints are an object":  {goodToken(map[string]any{"aud_fingerprints": map[string]any{canary: 1}}), 400, "malformed-member"},
		"a fingerprint is null":       {goodToken(map[string]any{"aud_fingerprints": []any{oneFingerprint, nil}}), 400, "malformed-member"},
		"a fingerprint is a number":   {goodToken(map[string]any{"aud_fingerprints": []any{oneFingerprint, 1}}), 400, "malformed-member"},
		"no fingerprint in the array": {goodToken(map[string]any{"aud_fingerprints": []any{}}), 400, "malformed-member"},
		"an empty text":               {goodToken(map[string]any{"aud_fingerprints": ""}), 400, "malformed-member"},
		"no fingerprint":              {goodToken(map[string]any{"aud_fingerprints": canary}), 400, "malformed-member"},
		"two in one element":          {goodToken(map[string]any{"aud_fingerprints": []string{oneFingerprint + "," + anotherFingerprint}}), 400, "malformed-member"},
		"seventeen fingerprints":      {goodToken(map[string]any{"aud_fingerprints": strings.Repeat(oneFingerprint+",", 16) + oneFingerprint}), 400, "malformed-member"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			got := a.do(a.postToken(tc.body))
			got.expect(t, tc.status, tc.typ)
			if got.problem(t).Detail == "" {
				t.Error("the problem does not say what to do")
			}
			a.holdsNothingOf(got, canary, canaryNumber)
		})
	}
	a := newAPI(t, mustNotBeAsked(t))
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jwt"} {
		req := a.postToken(good)
		req.Header.Set("Content-Type", contentType)
		a.do(req).expect(t, http.StatusUnsupportedMediaType, "media-type")
	}
}

// The members that the domain refuses, with its real rules and nothing behind them.
func TestMalformedMerchantTokenMembersTouchNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		changes map[string]any
		detail  string
	}{
		"no sub":                     {map[string]any{"sub": nil}, "sub is missing"},
		"sub is null":                {map[string]any{"sub": null{}}, "sub is missing"},
		"no usr":                     {map[string]any{"usr": nil}, "usr is missing"},
		"no aud":                     {map[string]any{"aud": ""}, "aud is missing"},
		"sub too long":               {map[string]any{"sub": strings.Repeat("a", 256)}, "sub must be 1 to 255 printing characters"},
		"usr with a line end":        {map[string]any{"usr": canary + "\n"}, "usr must be 1 to 255 printing characters"},
		"mbn with a NUL":             {map[string]any{"mbn": canary + "\x00"}, "mbn must be 1 to 255 printing characters"},
		"x-tid with a tab":           {map[string]any{"x-tid": "\t"}, "x-tid must be 1 to 255 printing characters"},
		"tpid turned around":         {map[string]any{"tpid": "\u202e"}, "tpid must be 1 to 255 printing characters"},
		"spCfg too long":             {map[string]any{"spCfg": strings.Repeat("a", 300)}, "spCfg must be 1 to 255 printing characters"},
		"mcc of five digits":         {map[string]any{"mcc": "54111"}, "mcc must be four digits"},
		"a lifetime of nothing":      {map[string]any{"lifetimeSeconds": 0}, "lifetimeSeconds must be 1 to 3600"},
		"a lifetime too long":        {map[string]any{"lifetimeSeconds": 3601}, "lifetimeSeconds must be 1 to 3600"},
		"a lifetime before now":      {map[string]any{"lifetimeSeconds": -900}, "lifetimeSeconds must be 1 to 3600"},
		"a registered claim":         {map[string]any{"claims": map[string]any{"iss": canary}}, "claims holds iss, which cannot be set there; the API description lists what cannot"},
		"the proof of possession":    {map[string]any{"claims": map[string]any{"cnf": map[string]any{"jkt": canary}}}, "claims holds cnf, which cannot be set there; the API description lists what cannot"},
		"a right":                    {map[string]any{"claims": map[string]any{"CREATEAppleProximityToken": true}}, "claims holds createAppleProximityToken, which cannot be set there; the API description lists what cannot"},
		"a registered claim as null": {map[string]any{"claims": map[string]any{"exp": nil}}, "claims holds exp, which cannot be set there; the API description lists what cannot"},
		"a claim nested too deep":    {map[string]any{"claims": map[string]any{canary: nestedIn(17)}}, "claims holds a claim whose name is not 1 to 255 printing characters, or whose value is nested more than 16 deep"},
		"a claim without a name":     {map[string]any{"claims": map[string]any{"": canary}}, "claims holds a claim whose name is not 1 to 255 printing characters, or whose value is nested more than 16 deep"},
		"what would not be taken":    {map[string]any{"claims": map[string]any{"refresh_token": canary}}, "claims holds refresh_token, which is neither true nor false"},
		"claims too large":           {map[string]any{"claims": map[string]any{"x": strings.Repeat("a", 4096)}}, "claims with the other members must not exceed 4096 bytes of JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t), func(s *setup) { s.Merchant = domain(t) })
			got := a.do(a.postToken(goodToken(tc.changes)))
			got.expect(t, http.StatusBadRequest, "malformed-member")
			if p := got.problem(t); p.Detail != tc.detail {
				t.Errorf("detail is %q", p.Detail)
			}
			a.holdsNothingOf(got, canary)
		})
	}
}

// nestedIn is an array in arrays.
func nestedIn(depth int) any {
	if depth == 0 {
		return 1
	}
	return []any{nestedIn(depth - 1)}
}

// Whoever writes a client reads in the API description what cannot be set.
func TestDescriptionListsTheClaimsThatCannotBeSet(t *testing.T) {
	text := contract(t).Components.Schemas["MerchantTokenRequest"].Value.Properties["claims"].Value.Description
	_, list, found := strings.Cut(text, "in any spelling: the members above; the registered claims ")
	if !found {
		t.Fatalf("the description is %q", text)
	}
	list = strings.ReplaceAll(list, "and what others may read rights from: ", "")
	names := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(",;. \n", r) })
	if len(names) < 30 {
		t.Errorf("%d names: %q", len(names), names)
	}
	for member := range contract(t).Components.Schemas["MerchantTokenRequest"].Value.Properties {
		if member != "lifetimeSeconds" && member != "claims" {
			names = append(names, member)
		}
	}
	for _, name := range names {
		_, err := domain(t).SignToken(t.Context(), merchant.Caller{Tenant: "bank-a"}, merchant.TokenRequest{
			Subject: "s", User: "u", Audience: "a", Claims: rawClaims(name, "1"),
		})
		var field *merchant.FieldError
		if !errors.As(err, &field) || field.Member != "claims" || !strings.Contains(field.Problem, "holds "+name+", which cannot") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryErrorOfMerchantTokensHasItsAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
		typ    string
		reason string
		retry  string
	}{
		"a member":                  {&merchant.FieldError{Member: "sub", Problem: "is missing"}, 400, "malformed-member", "", ""},
		"sub not allowed":           {&merchant.NotAllowedError{Member: "sub"}, 403, "forbidden", "sub", ""},
		"mcc not allowed":           {fmt.Errorf("sign: %w", &merchant.NotAllowedError{Member: "mcc"}), 403, "forbidden", "mcc", ""},
		"the day is over":           {&merchant.QuotaError{Wait: 90 * time.Minute}, 429, "too-many-requests", "quota", "5400"},
		"the day is over, a bit":    {&merchant.QuotaError{Wait: 1500 * time.Millisecond}, 429, "too-many-requests", "quota", "2"},
		"used":                      {fmt.Errorf("record intent: %w", access.ErrReplayed), 409, "token-used", "", ""},
		"busy":                      {later{2500 * time.Millisecond}, 503, "unavailable", "", "3"},
		"out of time":               {fmt.Errorf("wait: %w", context.DeadlineExceeded), 503, "unavailable", "", "1"},
		"caller gone":               {context.Canceled, 503, "unavailable", "", "1"},
		"anything else":             {errors.New("the tenant has no iss: " + canary), 500, "internal", "", ""},
		"not allowed, not recorded": {errors.Join(&merchant.NotAllowedError{Member: "aud"}, later{time.Second}), 403, "forbidden", "aud", ""},
		"over, and not recorded":    {errors.Join(&merchant.QuotaError{Wait: time.Hour}, later{time.Second}), 429, "too-many-requests", "quota", "3600"},
		"used, and not recorded":    {errors.Join(access.ErrReplayed, later{time.Second}), 409, "token-used", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t), asks(merchants{sign: func(merchant.Caller, merchant.TokenRequest) (merchant.Token, error) {
				return merchant.Token{Token: "half.made.token"}, tc.err
			}}))
			got := a.do(a.postToken(goodToken(nil)))
			got.expect(t, tc.status, tc.typ)
			if p := got.problem(t); p.Reason != tc.reason || p.Detail == "" || p.Code != 0 {
				t.Errorf("problem %+v", p)
			}
			if h := got.header.Get("Retry-After"); h != tc.retry {
				t.Errorf("Retry-After is %q, want %q", h, tc.retry)
			}
			if strings.Contains(got.body, canary) || strings.Contains(got.body, "half") {
				t.Error("the error's own text left")
			}
			if logged := strings.Contains(a.log.String(), "request failed"); logged != (tc.status >= 500) {
				t.Errorf("the error is logged: %v", logged)
			}
			// What the domain refuses it records itself; a used token it never sees.
			var want []record.Intent
			if tc.status == http.StatusConflict {
				want = []record.Intent{refusalOf(record.SignMerchantToken, backend, "token-used")}
			}
			if diff := cmp.Diff(want, a.refusals.seen, cmpWithoutID); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
		})
	}
}
