package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
