package httpapi

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

const (
	merchantTokens = "/v1/merchant-tokens"
	checkjwt       = "/tokens/checkjwt"
	proximity      = "/apple/proximity-token"
	jwks           = "/.well-known/jwks.json"
)

// merchants is a Merchant made of functions; one that is nil must not be asked.
type merchants struct {
	t         testing.TB
	sign      func(who merchant.Caller, req merchant.TokenRequest) (merchant.Token, error)
	check     func(c merchant.Claims) error
	proximity func(who merchant.Caller, c merchant.Claims) (merchant.ProximityToken, error)
}

func (m merchants) SignToken(_ context.Context, who merchant.Caller, req merchant.TokenRequest) (merchant.Token, error) {
	if m.sign == nil {
		m.t.Error("the domain was asked for a merchant JWT")
		return merchant.Token{}, nil
	}
	return m.sign(who, req)
}

func (m merchants) CheckToken(c merchant.Claims) error {
	if m.check == nil {
		m.t.Error("the domain was asked to check a merchant JWT")
		return nil
	}
	return m.check(c)
}

func (m merchants) ProximityToken(_ context.Context, who merchant.Caller, c merchant.Claims) (merchant.ProximityToken, error) {
	if m.proximity == nil {
		m.t.Error("the domain was asked for a proximity token")
		return merchant.ProximityToken{}, nil
	}
	return m.proximity(who, c)
}

// asks gives the API merchants of one's own.
func asks(m merchants) func(*setup) {
	return func(s *setup) { m.t = s.Merchant.(merchants).t; s.Merchant = m }
}

// publicKeys is a PublicKeys of fixed answers.
type publicKeys struct {
	set         []byte
	certificate map[string]string // by kid
	err         error
}

func (k publicKeys) JWKS(time.Time) ([]byte, error) { return k.set, k.err }

func (k publicKeys) Certificate(kid string, _ time.Time) ([]byte, error) {
	if k.err != nil {
		return nil, k.err
	}
	if text, ok := k.certificate[kid]; ok {
		return []byte(text), nil
	}
	return nil, signer.ErrUnknownKey
}

// appClaims are what a merchant JWT of the app has beside the claims of every token, with
// changes; nil takes one out.
func appClaims(changes jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{"usr": "cashier", "mbn": "Corner Shop", "mcc": "5411", "x-tid": "00000001"}
	maps.Copy(claims, changes)
	return claims
}

// domain is the real merchant domain with nothing behind it: neither record nor key is
// touched.
func domain(t testing.TB, fingerprints ...merchant.Fingerprint) *merchant.Service {
	t.Helper()
	svc, err := merchant.New(merchant.Config{Recorder: untouchable{}, Gate: noGate{}, Now: time.Now}, merchant.Settings{
		MaxLifetime: time.Hour, Issuers: map[string]string{"bank-a": app}, Fingerprints: fingerprints,
		Acquirers: map[string]string{app: "acquirer"}, Terminals: map[string][]string{"acquirer": {"00000001"}}, ProximityClaims: merchant.DefaultTemplate(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

// noGate is a merchant.Gate with nothing in it: a call panics.
type noGate struct{ merchant.Gate }

// recorded gives what was recorded as refused, without request ids.
func (a *api) recorded() []record.Intent {
	a.t.Helper()
	all := append([]record.Intent{}, a.refusals.seen...)
	for i := range all {
		if !requestIDForm.MatchString(all[i].RequestID) {
			a.t.Errorf("a refusal has the request id %q", all[i].RequestID)
		}
		all[i].RequestID = ""
	}
	return all
}

// refusalOf is a recorded refusal of an app's or a backend's request.
func refusalOf(op record.Operation, iss, reason string) record.Intent {
	return record.Intent{Operation: op, Tenant: "bank-a", Issuer: iss, Subject: "user-1", Refs: map[string]string{"reason": reason}}
}

// cmpWithoutID compares recorded refusals without their request ids.
var cmpWithoutID = cmpopts.IgnoreFields(record.Intent{}, "RequestID")

// rawClaims are claims as the domain gets them: names and JSON in turn.
func rawClaims(pairs ...string) map[string]jsontext.Value {
	all := map[string]jsontext.Value{}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = jsontext.Value(pairs[i+1])
	}
	return all
}

// unknownRefusal is a recorded refusal of somebody who was not authenticated.
func unknownRefusal(op record.Operation, reason string) record.Intent {
	return record.Intent{Operation: op, Refs: map[string]string{"reason": reason}}
}
