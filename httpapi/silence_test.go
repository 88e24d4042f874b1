package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/provisioning"
)

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
