package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// postProximity is an authenticated request for a proximity token.
func (a *api) postProximity(changes jwt.MapClaims) *http.Request {
	a.t.Helper()
	return a.postTo(proximity, "", token(a.t, app, appClaims(changes)))
}

// expectError checks status, the text of the error, and Retry-After.
func (g answer) expectError(t testing.TB, status int, text, retry string) {
	t.Helper()
	want := `{"error":"` + text + `"}`
	if g.status != status || g.body != want || g.header.Get("Retry-After") != retry {
		t.Errorf("answered %d %s, Retry-After %q; want %d %s, %q", g.status, g.body, g.header.Get("Retry-After"), status, want, retry)
	}
}

func TestProximityTokenIsAnsweredToTheLetter(t *testing.T) {
	var who merchant.Caller
	var claims merchant.Claims
	issued := time.Date(2026, 11, 22, 13, 0, 0, 0, time.FixedZone("elsewhere", 3600))
	a := newAPI(t, mustNotBeAsked(t), asks(merchants{proximity: func(w merchant.Caller, c merchant.Claims) (merchant.ProximityToken, error) {
		who, claims = w, c
		return merchant.ProximityToken{Token: "a.b.c", IssuedAt: issued, ExpiresAt: issued.Add(48 * time.Hour), ID: "0c095014-1472-418f-82b0-8ed46299e10f"}, nil
	}}))
	got := a.do(a.postProximity(jwt.MapClaims{"tpid": "t"}))
	want := `{"expiresAt":"2026-11-24T12:00:00.000Z","issuedAt":"2026-11-22T12:00:00.000Z","jwtId":"0c095014-1472-418f-82b0-8ed46299e10f","token":"a.b.c"}`
	if got.status != http.StatusOK || got.body != want || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %d, %s: %s", got.status, got.header.Get("Content-Type"), got.body)
	}
	if diff := cmp.Diff(merchant.Caller{Tenant: "bank-a", Issuer: app, Subject: "user-1", RequestID: got.header.Get("X-Request-Id")}, who); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
	if claims.Issuer != app || claims.User != "cashier" || claims.BusinessName != "Corner Shop" || claims.CategoryCode != "5411" || claims.TerminalID != "00000001" || claims.ProviderID != "t" {
		t.Errorf("claims %+v", claims)
	}
	if len(a.refusals.seen) != 0 {
		t.Errorf("recorded %+v", a.refusals.seen)
	}
}

func TestTimesHaveMilliseconds(t *testing.T) {
	for want, at := range map[string]time.Time{
		"2026-11-22T12:00:00.000Z": time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		"2026-11-22T11:00:00.120Z": time.Date(2026, 11, 22, 12, 0, 0, 120_999_999, time.FixedZone("x", 3600)),
		"2026-01-02T03:04:05.999Z": time.Date(2026, 1, 2, 3, 4, 5, 999_000_000, time.UTC),
	} {
		if got := milliseconds(at); got != want {
			t.Errorf("%v is written %s", at, got)
		}
	}
}

// Every failure has its status and its text, and the form that clients expect.
func TestEveryErrorOfProximityTokensHasItsAnswer(t *testing.T) {
	const forbidden = "The user of this token may not create an Apple proximity token (createAppleProximityToken)"
	for name, tc := range map[string]struct {
		err    error
		status int
		says   string
		retry  string
	}{
		"no mbn":                     {&merchant.ClaimError{Claim: "mbn", Problem: "is missing (merchant business name)"}, 500, "The token's claim mbn is missing (merchant business name)", ""},
		"no mcc":                     {&merchant.ClaimError{Claim: "mcc", Problem: "is missing (merchant category code)"}, 500, "The token's claim mcc is missing (merchant category code)", ""},
		"no x-tid":                   {fmt.Errorf("make: %w", &merchant.ClaimError{Claim: "x-tid", Problem: "is missing (terminal profile id)"}), 500, "The token's claim x-tid is missing (terminal profile id)", ""},
		"no usr":                     {&merchant.ClaimError{Claim: "usr", Problem: "is missing"}, 401, "Unauthorized", ""},
		"another's fingerprints":     {&merchant.ClaimError{Claim: "aud_fingerprints", Problem: "names none of this server's certificates"}, 401, "Unauthorized", ""},
		"used":                       {fmt.Errorf("record intent: %w", access.ErrReplayed), 409, "This token has been used", ""},
		"the token device":           {later{2500 * time.Millisecond}, 500, "Internal server error during token generation", "3"},
		"the device, for an instant": {later{0}, 500, "Internal server error during token generation", "1"},
		"out of time":                {fmt.Errorf("wait: %w", context.DeadlineExceeded), 500, "Internal server error during token generation", "1"},
		"caller gone":                {context.Canceled, 500, "Internal server error during token generation", "1"},
		"anything else":              {errors.New(canary), 500, "Internal server error during token generation", ""},
		"forbidden":                  {access.ErrForbidden, 403, forbidden, ""},
		"no mbn, and not recorded":   {errors.Join(&merchant.ClaimError{Claim: "mbn", Problem: "is missing"}, later{time.Second}), 500, "The token's claim mbn is missing", ""},
		"used, and not recorded":     {errors.Join(access.ErrReplayed, later{time.Second}), 409, "This token has been used", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t), asks(merchants{proximity: func(merchant.Caller, merchant.Claims) (merchant.ProximityToken, error) {
				return merchant.ProximityToken{Token: "half.made.token"}, tc.err
			}}))
			got := a.do(a.postProximity(nil))
			got.expectError(t, tc.status, tc.says, tc.retry)
			if h := got.header.Get("WWW-Authenticate"); (h == "Bearer") != (tc.status == http.StatusUnauthorized) {
				t.Errorf("WWW-Authenticate is %q", h)
			}
			if logged := strings.Contains(a.log.String(), "request failed"); logged != (tc.says == generationFailed) {
				t.Errorf("the error is logged: %v", logged)
			}
			if !strings.Contains(a.log.String(), fmt.Sprintf("problem=proximity-%d", tc.status)) {
				t.Error("the request's log line does not name the outcome")
			}
			var want []record.Intent
			if tc.status == http.StatusConflict {
				want = []record.Intent{refusalOf(record.SignProximityToken, app, "token-used")}
			}
			if diff := cmp.Diff(want, a.refusals.seen, cmpWithoutID); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
		})
	}
}

// One body for all causes of a 401, in this endpoint's form.
func TestProximityEndpointTellsNobodyWhyItIsRefused(t *testing.T) {
	for _, reason := range access.Reasons() {
		a := newAPI(t, mustNotBeAsked(t), callers(refuser{authenticate: access.AuthenticationError{Reason: reason}}))
		got := a.do(a.postProximity(nil))
		got.expectError(t, http.StatusUnauthorized, "Unauthorized", "")
		if got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
		}
		if diff := cmp.Diff([]record.Intent{unknownRefusal(record.SignProximityToken, string(reason))}, a.recorded()); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	}
}

// The texts of the domain's own refusals, as clients get them.
func TestTokensThatLackTheMerchantAreToldWhat(t *testing.T) {
	for name, tc := range map[string]struct {
		changes jwt.MapClaims
		status  int
		says    string
		reason  string
	}{
		"no mbn":                       {jwt.MapClaims{"mbn": nil}, 500, "The token's claim mbn is missing (merchant business name)", "claim-mbn"},
		"no mcc":                       {jwt.MapClaims{"mcc": nil}, 500, "The token's claim mcc is missing (merchant category code)", "claim-mcc"},
		"mcc is no code":               {jwt.MapClaims{"mcc": "food"}, 500, "The token's claim mcc is not four digits (merchant category code)", "claim-mcc"},
		"no x-tid":                     {jwt.MapClaims{"x-tid": nil}, 500, "The token's claim x-tid is missing (terminal profile id)", "claim-x-tid"},
		"an unknown terminal":          {jwt.MapClaims{"x-tid": canary}, 500, "The token's claim x-tid is no terminal profile id (appleTerminalProfileId) of the issuer's acquirer", "claim-x-tid"},
		"mbn is a number":              {jwt.MapClaims{"mbn": 5204245250001488}, 500, "The token's claim mbn is not text of 1 to 255 printing characters", "claim-mbn"},
		"x-tid is a list":              {jwt.MapClaims{"x-tid": []string{canary}}, 500, "The token's claim x-tid is not text of 1 to 255 printing characters", "claim-x-tid"},
		"no usr":                       {jwt.MapClaims{"usr": nil}, 401, "Unauthorized", "claim-usr"},
		"usr is an object":             {jwt.MapClaims{"usr": map[string]any{canary: 1}}, 401, "Unauthorized", "claim-usr"},
		"fingerprints of another form": {jwt.MapClaims{"aud_fingerprints": canary}, 401, "Unauthorized", "claim-aud_fingerprints"},
	} {
		t.Run(name, func(t *testing.T) {
			refused := &refusals{}
			a := newAPI(t, mustNotBeAsked(t), func(s *setup) {
				svc, err := merchant.New(merchant.Config{Recorder: refusing{refusals: refused}, Gate: noGate{}, Now: time.Now}, merchant.Settings{
					MaxLifetime: time.Hour, Acquirers: map[string]string{app: "acquirer"}, Terminals: map[string][]string{"acquirer": {"00000001"}}, ProximityClaims: merchant.DefaultTemplate(),
				})
				if err != nil {
					t.Fatal(err)
				}
				s.Merchant = svc
			})
			got := a.do(a.postProximity(tc.changes))
			got.expectError(t, tc.status, tc.says, "")
			a.holdsNothingOf(got, canary, canaryNumber)
			// By whom it was recorded depends on who saw it; once it is.
			if all := append(a.recorded(), refused.seen...); len(all) != 1 || all[0].Refs["reason"] != tc.reason || all[0].Operation != record.SignProximityToken || all[0].Issuer != app {
				t.Errorf("recorded %+v", all)
			}
		})
	}
}

// refusing is a Recorder that records refusals and must not be asked for more.
type refusing struct {
	record.Recorder
	*refusals
}

func (r refusing) Refuse(ctx context.Context, in record.Intent, reason string) error {
	return r.refusals.Refuse(ctx, in, reason)
}

// Not even a panic gets the form of other endpoints.
func TestPanicAtTheProximityEndpointHasItsForm(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t), asks(merchants{proximity: func(merchant.Caller, merchant.Claims) (merchant.ProximityToken, error) { panic(canary) }}))
	got := a.do(a.postProximity(nil))
	got.expectError(t, http.StatusInternalServerError, "Internal server error during token generation", "")
	a.holdsNothingOf(got, canary)
	if !strings.Contains(a.log.String(), "panic in a handler") {
		t.Error("the panic is not logged")
	}
}

func TestOtherMethodsOfTheProximityEndpoint(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t))
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions, "BREW"} {
		req := a.postProximity(nil)
		req.Method = method
		got := a.do(req)
		got.expectError(t, http.StatusMethodNotAllowed, "Method not allowed", "")
		if got.header.Get("Allow") != http.MethodPost {
			t.Errorf("Allow is %q", got.header.Get("Allow"))
		}
	}
}

// Keys that cannot be had are a matter of availability, in this endpoint's form.
func TestKeysThatCannotBeHadAreNoFaultOfTheCaller(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t), callers(refuser{authenticate: later{30 * time.Second}}))
	a.do(a.postProximity(nil)).expectError(t, http.StatusInternalServerError, "Internal server error during token generation", "30")
	if len(a.refusals.seen) != 0 {
		t.Errorf("recorded %+v", a.refusals.seen)
	}
}
