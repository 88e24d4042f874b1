package httpapi

import (
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// An endpoint is one that callers must be known for.
type endpoint struct {
	path  string
	op    record.Operation
	right access.Right // empty: none is needed
	good  func() string
	// claims are what the bearer token must say beside what every one does.
	claims jwt.MapClaims
	// answers does the domain's part, and tells what was handed to it to be used up.
	answers func(claimed *[]record.Claim) func(*setup)
}

func endpoints() []endpoint {
	return []endpoint{
		{signedCards, record.SignCard, access.SignCards, func() string { return changed(nil) }, nil, func(claimed *[]record.Claim) func(*setup) {
			return func(s *setup) {
				s.Provisioning = provisioner(func(_ context.Context, who provisioning.Caller, _ provisioning.SignCard) (provisioning.SignedCard, error) {
					*claimed = who.Claims
					return sealed, nil
				})
			}
		}},
		{merchantTokens, record.SignMerchantToken, access.SignMerchantTokens, func() string { return goodToken(nil) }, nil, func(claimed *[]record.Claim) func(*setup) {
			return asks(merchants{sign: func(who merchant.Caller, _ merchant.TokenRequest) (merchant.Token, error) {
				*claimed = who.Claims
				return merchant.Token{}, nil
			}})
		}},
		{checkjwt, record.CheckMerchantToken, "", func() string { return "" }, appClaims(nil), func(*[]record.Claim) func(*setup) {
			return asks(merchants{check: func(merchant.Claims) error { return nil }})
		}},
		{proximity, record.SignProximityToken, access.CreateAppleProximityToken, func() string { return "" }, appClaims(nil), func(claimed *[]record.Claim) func(*setup) {
			return asks(merchants{proximity: func(who merchant.Caller, _ merchant.Claims) (merchant.ProximityToken, error) {
				*claimed = who.Claims
				return merchant.ProximityToken{}, nil
			}})
		}},
	}
}

// caller is a client with the endpoint's right.
func (e endpoint) caller(change func(*access.Client)) access.Client {
	c := client("caller", "bank-a")
	if e.right != "" {
		c.Grants = []access.Grant{{Right: e.right}}
	}
	if change != nil {
		change(&c)
	}
	return c
}

// request is one in order, of the caller.
func (e endpoint) request(a *api, changes jwt.MapClaims) *http.Request {
	claims := jwt.MapClaims{}
	for _, all := range []jwt.MapClaims{e.claims, changes} {
		for name, v := range all {
			claims[name] = v
		}
	}
	return a.postTo(e.path, e.good(), token(a.t, "caller", claims))
}

// Every endpoint has one body for all that is wrong with a token, but checkjwt, which is
// there to tell. What is recorded says why, and nothing of the token.
func TestUnknownCallersAreToldNothingAndRecorded(t *testing.T) {
	for _, e := range endpoints() {
		first := ""
		for _, reason := range access.Reasons() {
			t.Run(e.path+" "+string(reason), func(t *testing.T) {
				a := newAPI(t, mustNotBeAsked(t), callers(refuser{authenticate: fmt.Errorf("authenticate: %w", access.AuthenticationError{Reason: reason})}))
				got := a.do(e.request(a, jwt.MapClaims{"sub": canary, "jti": canary}))
				if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("answered %d, %v", got.status, got.header)
				}
				if first = stdcmp.Or(first, withoutID(got)); e.path != checkjwt && withoutID(got) != first {
					t.Errorf("the body tells causes apart:\n%s\n%s", first, got.body)
				}
				if diff := cmp.Diff([]record.Intent{unknownRefusal(e.op, string(reason))}, a.recorded()); diff != "" {
					t.Errorf("recorded (-want +got):\n%s", diff)
				}
				if n := a.series()[`mintmark_authentication_refusals_total{reason="`+string(reason)+`"}`]; n != 1 {
					t.Errorf("counted %v times", n)
				}
				if !strings.Contains(a.log.String(), "reason="+string(reason)) {
					t.Error("the log does not give the reason")
				}
				a.holdsNothingOf(got, canary)
			})
		}
	}
}

// A refusal that cannot be recorded stands, and is logged.
func TestRefusalsStandWithoutTheirRecord(t *testing.T) {
	for _, e := range endpoints() {
		a := newAPI(t, mustNotBeAsked(t))
		a.refusals.err = errors.New("disk full")
		req := e.request(a, nil)
		req.Header.Set("Authorization", "Bearer x")
		if got := a.do(req); got.status != http.StatusUnauthorized || !strings.Contains(a.log.String(), "refusal not recorded") {
			t.Errorf("%s answered %d", e.path, got.status)
		}
	}
}

// What is missing of a right is said after who it is, and before anything of the request.
func TestRightComesAfterTheTokenAndBeforeTheRequest(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for _, e := range endpoints() {
		if e.right == "" {
			continue
		}
		other := access.SignCards
		if e.right == other {
			other = access.SignMerchantTokens
		}
		for name, tc := range map[string]struct {
			grants  []access.Grant
			changes jwt.MapClaims
			body    string
			status  int
			reason  string
		}{
			"expired, without the right, and everything wrong": {nil, jwt.MapClaims{"iat": past.Unix(), "exp": past.Add(time.Minute).Unix(), "usr": nil, "mbn": nil}, "{", 401, "expired"},
			"for another server, without the right":            {nil, jwt.MapClaims{"aud": "other.example", "mbn": nil}, "{", 401, "audience"},
			"without the right, and everything wrong":          {nil, jwt.MapClaims{"usr": nil, "mbn": nil, "x-tid": 7}, "{" + canary, 403, "forbidden"},
			"with another right":                               {[]access.Grant{{Right: other}}, nil, e.good(), 403, "forbidden"},
			"of another sub":                                   {[]access.Grant{{Right: e.right, Subjects: []string{"user-2"}}}, nil, e.good(), 403, "forbidden"},
			"of another usr":                                   {[]access.Grant{{Right: e.right, Users: []string{"boss"}}}, nil, e.good(), 403, "forbidden"},
			"of another key":                                   {[]access.Grant{{Right: e.right, KeyIDs: []string{"next"}}}, nil, e.good(), 403, "forbidden"},
			"for one use, without a jti":                       {[]access.Grant{{Right: e.right, SingleUse: true}}, jwt.MapClaims{"jti": nil}, e.good(), 401, "token-id"},
			"the right claimed in the token":                   {nil, jwt.MapClaims{"rights": []string{string(e.right)}, string(e.right): true}, e.good(), 403, "forbidden"},
		} {
			t.Run(e.path+", "+name, func(t *testing.T) {
				a := newAPI(t, mustNotBeAsked(t), withClient(e.caller(func(c *access.Client) {
					c.Grants = tc.grants
					c.Keys = append(c.Keys, access.Key{ID: "next", Algorithm: access.RS256, Public: clientKey().Public()})
				})))
				changes := jwt.MapClaims{"usr": "cashier"}
				for claim, v := range tc.changes {
					changes[claim] = v
				}
				got := a.do(a.postTo(e.path, tc.body, token(t, "caller", changes)))
				if got.status != tc.status {
					t.Errorf("answered %d: %s", got.status, got.body)
				}
				want := unknownRefusal(e.op, tc.reason)
				if tc.status == http.StatusForbidden {
					want = refusalOf(e.op, "caller", tc.reason)
				}
				if diff := cmp.Diff([]record.Intent{want}, a.recorded()); diff != "" {
					t.Errorf("recorded (-want +got):\n%s", diff)
				}
				a.holdsNothingOf(got, canary)
			})
		}
	}
}

// A client that calls too often waits, at each endpoint in its form; it is recorded, and the
// domain is not asked.
func TestCallersWhoCallTooOftenWait(t *testing.T) {
	clientKey() // outside the bubbles, whose clocks stand still
	for _, e := range endpoints() {
		t.Run(e.path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var claimed []record.Claim
				a := newAPI(t, mustNotBeAsked(t), e.answers(&claimed), withClient(e.caller(func(c *access.Client) { c.Rate = access.Rate{PerSecond: 0.1, Burst: 2} })))
				for i := range 2 {
					if got := a.do(e.request(a, nil)); got.status != http.StatusOK {
						t.Fatalf("request %d answered %d: %s", i, got.status, got.body)
					}
				}
				for _, tc := range []struct {
					after time.Duration
					retry string
				}{{0, "10"}, {2500 * time.Millisecond, "8"}, {7 * time.Second, "1"}} {
					time.Sleep(tc.after)
					got := a.do(e.request(a, nil))
					if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != tc.retry {
						t.Errorf("answered %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.body)
					}
					if e.path != proximity {
						got.expect(t, http.StatusTooManyRequests, "too-many-requests")
						if p := got.problem(t); p.Reason != "rate" {
							t.Errorf("problem %+v", p)
						}
					} else {
						got.expectError(t, http.StatusTooManyRequests, "Too many requests", tc.retry)
					}
				}
				want := refusalOf(e.op, "caller", "rate")
				if diff := cmp.Diff([]record.Intent{want, want, want}, a.recorded()); diff != "" {
					t.Errorf("recorded (-want +got):\n%s", diff)
				}
				time.Sleep(500 * time.Millisecond)
				if got := a.do(e.request(a, nil)); got.status != http.StatusOK {
					t.Errorf("after the wait answered %d: %s", got.status, got.body)
				}
			})
		})
	}
}

// A client that is taken out of the configuration under its request is nobody.
func TestClientThatWasTakenOutJustNowIsNobody(t *testing.T) {
	for _, e := range endpoints() {
		a := newAPI(t, mustNotBeAsked(t), withClient(e.caller(nil)), callers(refuser{admit: access.AuthenticationError{Reason: access.ReasonUnknownIssuer}}))
		if got := a.do(e.request(a, nil)); got.status != http.StatusUnauthorized {
			t.Errorf("%s answered %d: %s", e.path, got.status, got.body)
		}
		if diff := cmp.Diff([]record.Intent{unknownRefusal(e.op, "unknown-issuer")}, a.recorded()); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	}
}

// Where a right is granted for one use of each token the domain is handed the token to be
// used up, under a lease, and otherwise nothing.
func TestSingleUseTokensAreHandedOverToBeUsedUp(t *testing.T) {
	clientKey()
	for _, e := range endpoints() {
		for _, single := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, %v", e.path, single), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var claimed []record.Claim
					a := newAPI(t, mustNotBeAsked(t), e.answers(&claimed), withClient(e.caller(func(c *access.Client) {
						for i := range c.Grants {
							c.Grants[i].SingleUse = single
						}
					})), func(s *setup) { s.ClaimLease = 42 * time.Second })
					if got := a.do(e.request(a, nil)); got.status != http.StatusOK {
						t.Fatalf("answered %d: %s", got.status, got.body)
					}
					if !single || e.right == "" {
						if len(claimed) != 0 {
							t.Errorf("handed over %+v", claimed)
						}
						return
					}
					if len(claimed) != 1 {
						t.Fatalf("handed over %+v", claimed)
					}
					now := time.Now()
					use := claimed[0].(*access.TokenUse)
					want := &access.TokenUse{Issuer: "caller", Now: now, Until: now.Add(42 * time.Second)}
					if diff := cmp.Diff(want, use, cmpopts.IgnoreFields(access.TokenUse{}, "ID", "Expires")); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					first := use.ID
					a.do(e.request(a, jwt.MapClaims{"jti": "another"}))
					if again := claimed[0].(*access.TokenUse).ID; again == first || first == [32]byte{} {
						t.Errorf("two jti have the ids %x and %x", first, again)
					}
				})
			})
		}
	}
}

// Nothing of a token, a claim or a body comes back or is logged, however a request of the
// merchant API ends.
func TestNothingOfMerchantsComesBackOrIsLogged(t *testing.T) {
	hostile := jwt.MapClaims{
		"sub": canary + "-sub", "usr": canary + "-usr", "jti": canary + "-jti", "mbn": canary, "mcc": "5411", "x-tid": canary, canary: canaryNumber, "x-custom-claims": canaryNumber,
	}
	body := goodToken(map[string]any{
		"sub": canary, "usr": canaryNumber, "aud": canary + ".example", "mbn": canary, "x-tid": canaryNumber, "claims": map[string]any{canary: canaryNumber},
	})
	fails := func(err error) func(*setup) {
		return asks(merchants{
			sign:  func(merchant.Caller, merchant.TokenRequest) (merchant.Token, error) { return merchant.Token{}, err },
			check: func(merchant.Claims) error { return err },
			proximity: func(merchant.Caller, merchant.Claims) (merchant.ProximityToken, error) {
				return merchant.ProximityToken{}, err
			},
		})
	}
	panics := asks(merchants{
		sign:      func(_ merchant.Caller, r merchant.TokenRequest) (merchant.Token, error) { panic(fmt.Sprintf("%+v", r)) },
		check:     func(c merchant.Claims) error { panic(c) },
		proximity: func(_ merchant.Caller, c merchant.Claims) (merchant.ProximityToken, error) { panic(c.BusinessName) },
	})
	for name, change := range map[string]func(*setup){
		"well":                  fails(nil),
		"a claim":               fails(&merchant.ClaimError{Claim: "mbn", Problem: "is missing"}),
		"a member":              fails(&merchant.FieldError{Member: "sub", Problem: "is missing"}),
		"not allowed":           fails(&merchant.NotAllowedError{Member: "sub"}),
		"quota":                 fails(&merchant.QuotaError{Wait: time.Hour}),
		"used":                  fails(access.ErrReplayed),
		"away":                  fails(fmt.Errorf("wait: %w", context.DeadlineExceeded)),
		"panic":                 panics,
		"not authenticated":     callers(refuser{authenticate: access.AuthenticationError{Reason: access.ReasonSignature}}),
		"keys cannot be had":    callers(refuser{authenticate: fmt.Errorf("fetch: %w", context.DeadlineExceeded)}),
		"called too often":      callers(refuser{admit: &access.RateError{}}),
		"taken out just now":    callers(refuser{admit: access.AuthenticationError{Reason: access.ReasonUnknownIssuer}}),
		"a role not served":     func(s *setup) { s.Groups = []Group{KeysGroup} },
		"certificates required": func(s *setup) { s.Certificates = map[Group]CertificateMode{MerchantGroup: CertificatesRequired} },
	} {
		t.Run(name, func(t *testing.T) {
			for _, e := range endpoints()[1:] {
				a := newAPI(t, mustNotBeAsked(t), change, withClient(e.caller(nil)))
				bearer := token(t, "caller", hostile)
				req := a.postTo(e.path, body, bearer)
				soil(req)
				got := a.serve(req)
				if got.status == http.StatusOK && e.path == checkjwt {
					got.body = "" // its answer is the claims
				}
				needles := append(traces(), strings.Split(bearer, ".")...)
				if e.path == checkjwt || name == "a role not served" {
					a.holdsNothingOf(got, needles...)
					continue
				}
				a.keepsContract(req, got)
				a.holdsNothingOf(got, needles...)
			}
		})
	}
}
