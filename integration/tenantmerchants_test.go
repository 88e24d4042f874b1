package integration

import (
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func mintsApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/v1/merchant-tokens"
	order := own.order(nil)
	w.refuses(t, path, 401, order, impostors(own.backend, other.backend))
	w.refuses(t, path, 403, order, map[string]string{
		"merchant's token":        own.merchant.token(nil),
		"merchant JWT of its own": w.minted(t, own, nil),
	})
	token := own.backend.token(claims{"tenant": other.name})
	var out struct{ Token string }
	w.send(path, token, order).into(t, &out)
	if iss := w.verified(t, out.Token)["iss"]; iss != own.mint() {
		t.Errorf("signed as %v", iss)
	}
	for name, tt := range map[string]struct {
		change request
		status int
		reason string
	}{
		"iss beside the others":    {request{"iss": other.mint()}, 400, ""},
		"iss among claims":         {request{"claims": claims{"iss": other.mint()}}, 400, ""},
		"tenant beside the others": {request{"tenant": other.name}, 400, ""},
		"tenant among claims":      {request{"claims": claims{"tenant": other.name}}, 400, ""},
		"the other's sub":          {request{"sub": other.name + "-shop"}, 403, "sub"},
		"the other's aud":          {request{"aud": "kernel-" + other.name}, 403, "aud"},
		"the other's mbn":          {request{"mbn": "Shop " + other.name}, 403, "mbn"},
		"the other's mcc":          {request{"mcc": other.category()}, 403, "mcc"},
	} {
		a := w.send(path, token, order.with(tt.change))
		if reason, _ := a.refusal(); a.status != tt.status || reason != tt.reason {
			t.Errorf("%s: answered %d: %s", name, a.status, a.body)
		}
	}
}

func checksApart(t *testing.T, w *tenancy, path string, own, other tenant) {
	w.refuses(t, path, 401, nil, impostors(own.merchant, other.merchant))
	w.refuses(t, path, 401, nil, impostors(own.merchant, other.backend))
	minted := w.minted(t, own, nil)
	w.refuses(t, path, 401, nil, map[string]string{
		"merchant JWT as the other's":           reworded(t, minted, own.mint(), other.mint()),
		"merchant JWT as the other's merchants": reworded(t, minted, own.mint(), other.merchant.iss),
	})
	for iss, token := range map[string]string{own.merchant.iss: own.merchant.token(claims{"tenant": other.name}), own.mint(): minted} {
		var got claims
		w.send(path, token, nil).into(t, &got)
		if got["iss"] != iss || got["x-tid"] != own.terminal() {
			t.Errorf("a token of %s is told to be %v", iss, got)
		}
	}
}

func proximityApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/apple/proximity-token"
	w.refuses(t, path, 401, nil, impostors(own.merchant, other.merchant))
	w.refuses(t, path, 401, nil, map[string]string{
		"merchant JWT as the other's": reworded(t, w.minted(t, own, nil), own.mint(), other.mint()),
	})
	for name, token := range map[string]string{
		"merchant's token": own.merchant.token(claims{"x-tid": other.terminal()}),
		"merchant JWT":     w.minted(t, own, request{"x-tid": other.terminal()}),
		"with acquirer":    own.merchant.token(claims{"x-tid": other.terminal(), "acquirer": other.acquirer()}),
	} {
		if a := w.send(path, token, nil); a.status != 500 || !strings.Contains(string(a.body), "x-tid is no terminal profile id") {
			t.Errorf("%s for the other's terminal: answered %d: %s", name, a.status, a.body)
		}
	}
	for name, token := range map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)} {
		var out proximityAnswer
		w.send(path, token, nil).into(t, &out)
		if got := w.verified(t, out.Token); got["terminalProfileId"] != own.terminal() || got["acquirer"] != own.acquirer() || got["merchant"] != "shared-user" {
			t.Errorf("%s gives %v", name, got)
		}
	}
}

// order is a merchant JWT that the tenant may have signed, and that this server takes.
func (n tenant) order(change request) request {
	return request{
		"sub": "shared-user", "usr": "cashier", "aud": sharedAudience,
		"mbn": "Shop " + n.name, "mcc": n.category(), "x-tid": n.terminal(),
	}.with(change)
}

// minted is a merchant JWT that the service signed for a tenant.
func (w *tenancy) minted(t *testing.T, for_ tenant, change request) string {
	t.Helper()
	var out struct{ Token string }
	w.send("/v1/merchant-tokens", for_.backend.token(nil), for_.order(change)).into(t, &out)
	return out.Token
}

// verified gives the claims of a token that the service signed.
func (w *tenancy) verified(t *testing.T, token string) claims {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := parsed.Verify(w.jwks)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, payload)
}
