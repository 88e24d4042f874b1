package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

func TestSealedCardIsAnsweredInBase64Once(t *testing.T) {
	var who provisioning.Caller
	var req provisioning.SignCard
	a := newAPI(t, provisioner(func(_ context.Context, w provisioning.Caller, r provisioning.SignCard) (provisioning.SignedCard, error) {
		who, req = w, r
		return sealed, nil
	}))
	got := a.do(a.post(changed(nil)))

	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("answered %d, %s: %s", got.status, got.header.Get("Content-Type"), got.body)
	}
	want := map[string]any{
		"activationData":     base64.StdEncoding.EncodeToString(sealed.ActivationData),
		"ephemeralPublicKey": base64.StdEncoding.EncodeToString(sealed.EphemeralPublicKey),
		"encryptedData":      base64.StdEncoding.EncodeToString(sealed.EncryptedData),
	}
	if diff := cmp.Diff(want, jsonValue(t, got.body)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	wantWho := provisioning.Caller{
		Owner:     provisioning.Owner{Tenant: "bank-a", Issuer: issuer, Subject: "user-1"},
		RequestID: got.header.Get("X-Request-Id"),
	}
	if diff := cmp.Diff(wantWho, who); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
	body := goodBody()
	wantReq := provisioning.SignCard{
		ExternalCardID: "card-1", Certificates: [][]byte{leaf, sub}, Nonce: body["nonce"].(string),
		NonceSignature: body["nonceSignature"].(string), WalletType: "APPLE_PAY",
	}
	if diff := cmp.Diff(wantReq, req); diff != "" {
		t.Errorf("request to the domain (-want +got):\n%s", diff)
	}
}

func TestBothNamesAndAllFormsMeanTheSame(t *testing.T) {
	chainPEM := func() string {
		b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
		return string(append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sub})...))
	}()
	list := goodBody()["certificates"]
	for name, body := range map[string]map[string]any{
		"externalCardId and certificates":  {},
		"cardId":                           {"externalCardId": nil, "cardId": "card-1"},
		"certificate, an array":            {"certificates": nil, "certificate": list},
		"certificate, PEM":                 {"certificates": nil, "certificate": chainPEM},
		"certificate, Base64 of PEM":       {"certificates": nil, "certificate": base64.StdEncoding.EncodeToString([]byte(chainPEM))},
		"certificate, Base64 of DER":       {"certificates": nil, "certificate": base64.StdEncoding.EncodeToString(append(leaf[:5:5], sub...))},
		"walletType left out":              {"walletType": nil},
		"both second names":                {"externalCardId": nil, "cardId": "card-1", "certificates": nil, "certificate": list},
		"a name written with an escape":    {}, // replaced below
		"members in any order, with space": {},
	} {
		t.Run(name, func(t *testing.T) {
			var req provisioning.SignCard
			a := newAPI(t, provisioner(func(_ context.Context, _ provisioning.Caller, r provisioning.SignCard) (provisioning.SignedCard, error) {
				req = r
				return sealed, nil
			}))
			raw := changed(body)
			switch {
			case strings.HasPrefix(name, "a name"):
				raw = strings.Replace(raw, `"nonce"`, `"nonc\u0065"`, 1)
			case strings.HasPrefix(name, "members"):
				raw = " \r\n\t{ \"walletType\" : \"APPLE_PAY\" ," + strings.TrimPrefix(changed(map[string]any{"walletType": nil}), "{") + "\n"
			}
			if got := a.do(a.post(raw)); got.status != http.StatusOK {
				t.Fatalf("answered %d: %s", got.status, got.body)
			}
			if req.ExternalCardID != "card-1" || req.WalletType != "APPLE_PAY" || cmp.Diff([][]byte{leaf, sub}, req.Certificates) != "" {
				t.Errorf("the domain got %+v", req)
			}
		})
	}
}

func TestTwoNamesOfOneMemberAreRefused(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t))
	for _, body := range []map[string]any{
		{"cardId": "card-1"},
		{"cardId": "card-2"},
		{"certificate": goodBody()["certificates"]},
		{"certificate": "MAMCAQE="},
	} {
		a.do(a.post(changed(body))).expect(t, http.StatusBadRequest, "malformed-member")
	}
}

// later is an error that says when to come back.
type later struct{ after time.Duration }

func (l later) Error() string             { return "HSM " + canary + " is busy" }
func (l later) RetryAfter() time.Duration { return l.after }

func TestEveryErrorHasItsAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		status int
		typ    string
		title  string
		reason string
		retry  string
		says   string // in detail
	}{
		"a member":            {&provisioning.FieldError{Member: "nonce", Problem: "is missing"}, 400, "malformed-member", "Malformed member", "", "", "nonce is missing"},
		"a chain":             {&provisioning.ChainError{Reason: provisioning.ReasonMarkerMissing, Position: 1}, 422, "certificate-chain", "Certificate chain refused", "marker-missing", "", "send the leaf"},
		"an expired card":     {&provisioning.CardError{Reason: provisioning.CardExpired}, 422, "card", "Card refused", "card-expired", "", "reason"},
		"a card's product":    {&provisioning.CardError{Reason: provisioning.CardProduct}, 422, "card", "Card refused", "product-unsupported", "", "reason"},
		"a card's data":       {&provisioning.CardError{Reason: provisioning.CardData}, 422, "card", "Card refused", "card-data", "", "reason"},
		"a wallet type":       {provisioning.ErrWalletType, 422, "wallet-type", "Wallet type not supported", "", "", "APPLE_PAY"},
		"a used nonce":        {provisioning.ErrNonceUsed, 409, "nonce-used", "Nonce already used", "", "", "new nonce"},
		"an unknown card":     {provisioning.ErrUnknownCard, 404, "unknown-card", "Unknown card", "", "", "externalCardId"},
		"busy":                {later{2500 * time.Millisecond}, 503, "unavailable", "Not available", "", "3", "send the request again"},
		"busy for an instant": {later{time.Millisecond}, 503, "unavailable", "Not available", "", "1", "send the request again"},
		"busy, no time given": {later{0}, 503, "unavailable", "Not available", "", "1", "send the request again"},
		"out of time":         {fmt.Errorf("wait: %w", context.DeadlineExceeded), 503, "unavailable", "Not available", "", "1", "send the request again"},
		"caller gone":         {fmt.Errorf("wait: %w", context.Canceled), 503, "unavailable", "Not available", "", "1", "send the request again"},
		"anything else":       {errors.New("stored row differs"), 500, "internal", "Internal error", "", "", "Nothing was released"},
		// Of an error that is several, the one the caller can act on is told.
		"used, and not recorded": {errors.Join(provisioning.ErrNonceUsed, later{time.Second}), 409, "nonce-used", "Nonce already used", "", "", "new nonce"},
		"wrapped":                {fmt.Errorf("sign: %w", provisioning.ErrUnknownCard), 404, "unknown-card", "Unknown card", "", "", "externalCardId"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, failsWith(test.err))
			got := a.do(a.post(changed(nil)))
			got.expect(t, test.status, test.typ)
			p := got.problem(t)
			if p.Title != test.title || p.Reason != test.reason || !strings.Contains(p.Detail, test.says) {
				t.Errorf("problem %+v", p)
			}
			if h := got.header.Get("Retry-After"); h != test.retry {
				t.Errorf("Retry-After is %q, want %q", h, test.retry)
			}
			if h := got.header.Get("WWW-Authenticate"); h != "" {
				t.Errorf("WWW-Authenticate is %q", h)
			}
			if strings.Contains(got.body, canary) {
				t.Error("the error's own text left")
			}
			if logged := strings.Contains(a.log.String(), "request failed"); logged != (test.status >= 500) {
				t.Errorf("the error is logged: %v", logged)
			}
			if !strings.Contains(a.log.String(), "problem="+test.typ) {
				t.Error("the request's log line does not name the problem")
			}
		})
	}
}

// What a nonce or a chain looks like inside is the domain's, and so are its texts: they
// are held here as callers get them.
func TestNonceErrorsAreMalformedMembers(t *testing.T) {
	_, err := provisioning.NonceRules{NonceLength: 4, SignatureLength: 81}.Canonical(canary, canary)
	var nonce *provisioning.NonceError
	if !errors.As(err, &nonce) {
		t.Fatalf("no NonceError: %v", err)
	}
	a := newAPI(t, failsWith(err))
	got := a.do(a.post(changed(nil)))
	got.expect(t, http.StatusBadRequest, "malformed-member")
	a.holdsNothingOf(got, canary)
}

// Nothing a caller sends comes back or is logged, however the request ends. The
// identifier of the request is the exception: it is there to come back.
func TestNothingSentComesBackOrIsLogged(t *testing.T) {
	panics := provisioner(func(_ context.Context, _ provisioning.Caller, req provisioning.SignCard) (provisioning.SignedCard, error) {
		panic(fmt.Sprintf("%s %s %+v", canary, canaryNumber, req))
	})
	b64 := base64.StdEncoding.EncodeToString
	hostile := map[string]any{
		"externalCardId": canary + canaryNumber, "nonce": canary + "n", "nonceSignature": canaryNumber, "walletType": canary + "w",
		"certificates": []string{b64(append([]byte{0x30, byte(len(canary))}, canary...)), b64(append([]byte{0x30, byte(len(canaryNumber))}, canaryNumber...))},
	}
	with := func(name string, value any) string { return changed(map[string]any{name: value}) }
	field := &provisioning.FieldError{Member: "externalCardId", Problem: "must be 1 to 128 characters"}
	for name, test := range map[string]struct {
		p    Provisioner
		body string
		want int
	}{
		"sealed":                     {provisioner(seals), changed(hostile), 200},
		"malformed":                  {failsWith(field), changed(hostile), 400},
		"refused chain":              {failsWith(&provisioning.ChainError{Reason: provisioning.ReasonUntrustedRoot, Position: 2}), changed(hostile), 422},
		"refused card":               {failsWith(&provisioning.CardError{Reason: provisioning.CardData}), changed(hostile), 422},
		"unknown card":               {failsWith(provisioning.ErrUnknownCard), changed(hostile), 404},
		"used nonce":                 {failsWith(provisioning.ErrNonceUsed), changed(hostile), 409},
		"wallet type":                {failsWith(provisioning.ErrWalletType), changed(hostile), 422},
		"unavailable":                {failsWith(fmt.Errorf("wait: %w", context.DeadlineExceeded)), changed(hostile), 503},
		"panic":                      {panics, changed(hostile), 500},
		"unknown member":             {provisioner(seals), with(canary, canaryNumber), 400},
		"duplicate member":           {provisioner(seals), `{"nonce":"` + canary + `","nonce":"` + canaryNumber + `"}`, 400},
		"number too large":           {provisioner(seals), `{"nonce":` + canaryNumber + canaryNumber + `}`, 400},
		"wrong type":                 {provisioner(seals), `{"nonce":{"` + canary + `":"` + canaryNumber + `"}}`, 400},
		"broken JSON":                {provisioner(seals), `{"nonce":"` + canary + canaryNumber, 400},
		"no JSON":                    {provisioner(seals), canary + canaryNumber, 400},
		"invalid UTF-8":              {provisioner(seals), `{"nonce":"` + canary + canaryNumber + "\xff\"}", 400},
		"trailing data":              {provisioner(seals), changed(nil) + canary + canaryNumber, 400},
		"certificate not Base64":     {provisioner(seals), with("certificates", []string{canary, canaryNumber + "!"}), 422},
		"certificate PEM":            {provisioner(seals), changed(map[string]any{"certificates": nil, "certificate": "-----BEGIN " + canary + canaryNumber}), 422},
		"certificate of wrong types": {provisioner(seals), changed(map[string]any{"certificates": nil, "certificate": []any{canary, 5204245250001488}}), 400},
		"too large":                  {provisioner(seals), changed(map[string]any{"nonce": strings.Repeat(canary+canaryNumber, 4000)}), 413},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, test.p)
			req := a.post(test.body)
			soil(req)
			req.Header.Set("Authorization", "Bearer "+token(t, issuer, jwt.MapClaims{"sub": canary + "-sub", "jti": canary + "-jti", canary: canaryNumber}))
			got := a.do(req)
			if got.status != test.want {
				t.Fatalf("answered %d instead of %d: %s", got.status, test.want, got.body)
			}
			a.holdsNothingOf(got, append(traces(), req.Header.Get("Authorization")[len("Bearer "):])...)
		})
	}
	for name, change := range map[string]func(*http.Request){
		"no such path":          func(r *http.Request) { r.URL.Path = "/" + canary + "/" + canaryNumber },
		"below the path":        func(r *http.Request) { r.URL.Path += "/" + canaryNumber + canary },
		"wrong method":          func(r *http.Request) { r.Method = http.MethodGet },
		"a method of their own": func(r *http.Request) { r.Method = canary },
		"media type":            func(r *http.Request) { r.Header.Set("Content-Type", canary+"/"+canaryNumber) },
		"token":                 func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+canary+canaryNumber) },
		"token of three parts":  func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+canary+"."+canary+"."+canaryNumber) },
		"scheme":                func(r *http.Request) { r.Header.Set("Authorization", canary+" "+canaryNumber) },
		"issuer":                func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token(t, canary+canaryNumber, nil)) },
		"without the right": func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token(t, bystander, jwt.MapClaims{"sub": canary}))
		},
		"two headers with token": func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+canary+canaryNumber) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			req := a.post(changed(hostile))
			soil(req)
			change(req)
			got := a.do(req)
			if got.status < 400 || got.status >= 500 {
				t.Errorf("answered %d", got.status)
			}
			a.holdsNothingOf(got, traces()...)
		})
	}
}

// soil puts canaries wherever a request has room beside its body.
func soil(req *http.Request) {
	req.URL.RawQuery = "card=" + canaryNumber + "&" + canary + "=%zz;" + canary
	req.RequestURI = req.URL.RequestURI()
	req.Host = canary + ".example"
	req.URL.Fragment = canary
	for _, name := range []string{"User-Agent", "Cookie", "Referer", "Origin", "X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-" + canary, "Accept", "Traceparent"} {
		req.Header.Set(name, canary+" "+canaryNumber)
	}
	req.Header.Set("X-Request-Id", canary+" "+canaryNumber) // not of the form
	req.RemoteAddr = "203.0.113.77:4711"
}

// traces are the forms in which a canary could show.
func traces() []string {
	return []string{
		canary, canaryNumber, fmt.Sprintf("%x", canary), fmt.Sprintf("%x", canaryNumber), fmt.Sprintf("%x", 5204245250001488),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(canary)), "=")[:12],
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(canaryNumber)), "=")[:20],
		"203.0.113.77",
	}
}

func TestPanicIsAnsweredAndTheServerStaysUp(t *testing.T) {
	for name, value := range map[string]any{
		"a text": canary, "a number": 5204245250001488, "an error": errors.New(canary),
		"a request": provisioning.SignCard{ExternalCardID: canary}, "a runtime error": nil,
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			a := newAPI(t, provisioner(func(context.Context, provisioning.Caller, provisioning.SignCard) (provisioning.SignedCard, error) {
				if calls++; calls > 1 {
					return sealed, nil
				}
				if value == nil {
					var none []int
					_ = none[calls]
				}
				panic(value)
			}))
			got := a.do(a.post(changed(nil)))
			got.expect(t, http.StatusInternalServerError, "internal")
			a.holdsNothingOf(got, canary, canaryNumber, fmt.Sprintf("%x", 5204245250001488))
			if log := a.log.String(); !strings.Contains(log, "panic in a handler") || !strings.Contains(log, "signcard_test.go") {
				t.Errorf("the log does not say where:\n%s", log)
			}
			if got := a.do(a.post(changed(nil))); got.status != http.StatusOK {
				t.Errorf("the next request is answered %d", got.status)
			}
		})
	}
}

func TestRequestThatTakesTooLongIsAnsweredByItsDeadline(t *testing.T) {
	clientKey() // outside the bubble, whose clock stands still while it is made
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, provisioner(func(ctx context.Context, _ provisioning.Caller, _ provisioning.SignCard) (provisioning.SignedCard, error) {
			<-ctx.Done()
			return provisioning.SignedCard{}, fmt.Errorf("token: %w", ctx.Err())
		}), within(3*time.Second))
		began := time.Now()
		got := a.do(a.post(changed(nil)))
		got.expect(t, http.StatusServiceUnavailable, "unavailable")
		if got.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("answered after %v", took)
		}
	})
}

func TestCallersMustBeKnown(t *testing.T) {
	bearer := func(s string) []string { return []string{"Bearer " + s} }
	good := token(t, issuer, nil)
	past := time.Now().Add(-time.Hour)
	var first string
	for _, test := range []struct {
		reason  access.Reason
		headers []string
	}{
		{access.ReasonMissing, nil},
		{access.ReasonScheme, []string{"Basic dXNlcjpwYXNz"}},
		{access.ReasonScheme, []string{"Bearer " + good, "Bearer " + good}},
		{access.ReasonScheme, []string{good}},
		{access.ReasonMalformed, bearer("")},
		{access.ReasonMalformed, bearer("a.b")},
		{access.ReasonTooLarge, bearer(strings.Repeat("x", 9000))},
		{access.ReasonUnknownIssuer, bearer(token(t, "https://other.example", nil))},
		{access.ReasonSignature, bearer(good[:strings.LastIndex(good, ".")] + ".c2ln")},
		{access.ReasonExpired, bearer(token(t, issuer, jwt.MapClaims{"iat": past.Unix(), "exp": past.Add(time.Minute).Unix()}))},
		{access.ReasonAudience, bearer(token(t, issuer, jwt.MapClaims{"aud": "other"}))},
		{access.ReasonSubject, bearer(token(t, issuer, jwt.MapClaims{"sub": ""}))},
	} {
		t.Run(string(test.reason), func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			req := a.post(changed(nil))
			req.Header.Del("Authorization")
			for _, h := range test.headers {
				req.Header.Add("Authorization", h)
			}
			got := a.do(req)
			got.expect(t, http.StatusUnauthorized, "unauthenticated")
			if got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
			}
			// One body for all causes; the operator finds the cause in the log.
			body := strings.ReplaceAll(got.body, got.header.Get("X-Request-Id"), "ID")
			if first == "" {
				first = body
			}
			if body != first {
				t.Errorf("the body tells causes apart:\n%s\n%s", first, body)
			}
			if !strings.Contains(a.log.String(), "reason="+string(test.reason)) {
				t.Errorf("the log does not give the reason %s:\n%s", test.reason, a.log)
			}
			if n := a.series()[`mintmark_authentication_refusals_total{reason="`+string(test.reason)+`"}`]; n != 1 {
				t.Errorf("the refusal is counted %v times", n)
			}
			want := []record.Intent{{Operation: record.SignCard, RequestID: got.header.Get("X-Request-Id"), Refs: map[string]string{"reason": string(test.reason)}}}
			if diff := cmp.Diff(want, a.refusals.seen); diff != "" {
				t.Errorf("recorded of somebody unknown (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever is not known learns nothing, not even that a body was wrong.
func TestAuthenticationComesBeforeTheBody(t *testing.T) {
	for name, body := range bodies() {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			req := a.post(body.text)
			req.Header.Del("Authorization")
			req.Header.Set("Content-Type", "text/plain")
			a.do(req).expect(t, http.StatusUnauthorized, "unauthenticated")

			req = a.post(body.text)
			req.Header.Set("Authorization", "Bearer "+token(t, bystander, nil))
			a.do(req).expect(t, http.StatusForbidden, "forbidden")
		})
	}
}

func TestMissingRightIsRefusedAndRecorded(t *testing.T) {
	for _, recording := range []error{nil, errors.New("disk full")} {
		a := newAPI(t, mustNotBeAsked(t))
		a.refusals.err = recording
		req := a.post(changed(nil))
		req.Header.Set("Authorization", "Bearer "+token(t, bystander, nil))
		got := a.do(req)
		got.expect(t, http.StatusForbidden, "forbidden")
		want := []record.Intent{{
			Operation: record.SignCard, Tenant: "bank-b", Issuer: bystander, Subject: "user-1",
			RequestID: got.header.Get("X-Request-Id"), Refs: map[string]string{"reason": "forbidden"},
		}}
		if diff := cmp.Diff(want, a.refusals.seen); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
		if logged := strings.Contains(a.log.String(), "refusal not recorded"); logged != (recording != nil) {
			t.Errorf("a refusal that could not be recorded is logged: %v", logged)
		}
	}
}

// A claim in the token grants nothing: rights stand in the configuration.
func TestRightsInATokenGrantNothing(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t))
	req := a.post(changed(nil))
	req.Header.Set("Authorization", "Bearer "+token(t, bystander, jwt.MapClaims{"rights": []string{"signCards"}, "scope": "signCards"}))
	a.do(req).expect(t, http.StatusForbidden, "forbidden")
}

func TestRequestIDIsTheCallersIfItHasTheForm(t *testing.T) {
	for name, test := range map[string]struct {
		sent string
		kept bool
	}{
		"a UUID":           {"0198c1c2-6d2e-7c30-8b7e-0f6a4b3d2c1e", true},
		"eight characters": {"abcDEF12", true},
		"64 characters":    {strings.Repeat("a", 64), true},
		"none":             {"", false},
		"seven characters": {"abcDEF1", false},
		"65 characters":    {strings.Repeat("a", 65), false},
		"a line end":       {"abcdefgh\nlevel=ERROR", false},
		"a trailing one":   {"abcdefgh\n", false},
		"markup":           {"<script>alert(1)</script>", false},
		"not ASCII":        {"ábcdefghij", false},
		"an underscore":    {"abcd_efgh", false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, failsWith(provisioning.ErrUnknownCard))
			req := a.post(changed(nil))
			req.Header["X-Request-Id"] = []string{test.sent}
			got := a.do(req)
			if id := got.header.Get("X-Request-Id"); (id == test.sent) != test.kept {
				t.Errorf("sent %q, got %q", test.sent, id)
			}
		})
	}
	a := newAPI(t, provisioner(seals))
	one, two := a.do(a.post(changed(nil))), a.do(a.post(changed(nil)))
	if one.header.Get("X-Request-Id") == two.header.Get("X-Request-Id") {
		t.Error("two requests have one id")
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	for _, test := range []struct {
		method, path string
		status       int
		name, allow  string
	}{
		{http.MethodGet, "/", 404, "no-such-resource", ""},
		{http.MethodPost, "/issuer", 404, "no-such-resource", ""},
		{http.MethodPost, signedCards + "/", 404, "no-such-resource", ""},
		{http.MethodPost, "/" + signedCards, 404, "no-such-resource", ""},
		{http.MethodPost, strings.ToUpper(signedCards), 404, "no-such-resource", ""},
		{http.MethodPost, "/issuer/push-provisioning/../push-provisioning/signed-cards", 404, "no-such-resource", ""},
		{http.MethodGet, "/metrics", 404, "no-such-resource", ""}, // the admin listener's alone
		{http.MethodGet, "/debug/pprof/", 404, "no-such-resource", ""},
		{http.MethodGet, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodPut, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodDelete, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodHead, signedCards, 405, "", "POST"},
		{http.MethodOptions, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodTrace, signedCards, 405, "method-not-allowed", "POST"},
		{http.MethodConnect, signedCards, 405, "method-not-allowed", "POST"},
		{"BREW", signedCards, 405, "method-not-allowed", "POST"},
		{"post", signedCards, 405, "method-not-allowed", "POST"},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			req := a.post(changed(nil))
			req.Method, req.URL.Path = test.method, test.path
			got := a.do(req)
			if got.status != test.status || got.header.Get("Allow") != test.allow {
				t.Fatalf("answered %d, Allow %q: %s", got.status, got.header.Get("Allow"), got.body)
			}
			if test.name != "" {
				got.expect(t, test.status, test.name)
			}
			// No cross-origin caller is invited.
			for h := range got.header {
				if strings.HasPrefix(h, "Access-Control-") {
					t.Errorf("header %s", h)
				}
			}
		})
	}
}

// The members that the domain refuses, with the domain's real rules and nothing behind
// them: neither record nor key nor card is touched for a malformed request.
func TestMalformedMembersTouchNothing(t *testing.T) {
	svc, err := provisioning.New(provisioning.Config{
		Chain:    provisioning.NewChainPolicy(provisioning.AppleProduction(), time.Now),
		Nonces:   provisioning.NonceRules{NonceLength: 4, SignatureLength: 81},
		Recorder: untouchable{}, Gate: untouchable{}, Cards: untouchable{}, Decisions: untouchable{}, Verified: untouchable{}, Tokens: untouchable{}, Flags: untouchable{}, // nil inside: a call panics
		Now: time.Now, Lease: time.Minute, TAV: provisioning.TAVConfig{Version: "3", Validity: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]map[string]any{
		"no card":                     {"externalCardId": nil},
		"no nonce":                    {"nonce": nil},
		"no nonceSignature":           {"nonceSignature": nil},
		"empty card":                  {"externalCardId": ""},
		"card with a slash":           {"externalCardId": "a/b"},
		"card too long":               {"externalCardId": strings.Repeat("a", 129)},
		"card with a line end":        {"externalCardId": "card-1\n"},
		"cardId with a space":         {"externalCardId": nil, "cardId": "a b"},
		"nonce of three bytes":        {"nonce": "c5846f"},
		"nonce with a blank":          {"nonce": " c5846fb5"},
		"nonceSignature of 80 bytes":  {"nonceSignature": strings.Repeat("ab", 80)},
		"nonceSignature no text form": {"nonceSignature": "@@"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, svc)
			a.do(a.post(changed(body))).expect(t, http.StatusBadRequest, "malformed-member")
		})
	}
}

// untouchable is every storage and key interface of the domain, with nothing in it.
type untouchable struct {
	record.Recorder
	provisioning.Gate
	provisioning.Cards
	provisioning.Tokens
	provisioning.Flags
	provisioning.Decisions
	provisioning.Passcodes
}

func TestRealConnectionsGetTheSameAnswers(t *testing.T) {
	a := newAPI(t, provisioner(seals))
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = Server(a.handler, "", a.logger)
	srv.Start()
	defer srv.Close()

	send := func(t *testing.T, change func(*http.Request)) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+signedCards, strings.NewReader(changed(nil)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token(t, issuer, nil))
		change(req)
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return read(t, resp)
	}
	t.Run("one body with its length", func(t *testing.T) {
		if got := send(t, func(*http.Request) {}); got.status != http.StatusOK || got.header.Get("Server") != "" {
			t.Errorf("answered %d, %v", got.status, got.header)
		}
	})
	t.Run("a body in chunks", func(t *testing.T) {
		if got := send(t, func(r *http.Request) { r.ContentLength, r.Body = -1, chunks(changed(nil), 7) }); got.status != http.StatusOK {
			t.Errorf("answered %d: %s", got.status, got.body)
		}
	})
	t.Run("a megabyte in chunks", func(t *testing.T) {
		got := send(t, func(r *http.Request) { r.ContentLength, r.Body = -1, chunks(strings.Repeat(" ", 1<<20), 4096) })
		got.expect(t, http.StatusRequestEntityTooLarge, "body-too-large")
	})
	t.Run("HEAD has no body", func(t *testing.T) {
		got := send(t, func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodHead, http.NoBody, 0 })
		if got.status != http.StatusMethodNotAllowed || got.body != "" {
			t.Errorf("answered %d: %q", got.status, got.body)
		}
	})
	t.Run("headers over 16 KiB", func(t *testing.T) {
		got := send(t, func(r *http.Request) { r.Header.Set("X-Long", canary+strings.Repeat("a", 32<<10)) })
		if got.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("answered %d", got.status)
		}
		a.holdsNothingOf(got, canary)
	})
	t.Run("headers within 16 KiB", func(t *testing.T) {
		if got := send(t, func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("a", 12<<10)) }); got.status != http.StatusOK {
			t.Errorf("answered %d", got.status)
		}
	})
}
