package httpapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/record"
)

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
