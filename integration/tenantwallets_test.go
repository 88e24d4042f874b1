package integration

import (
	"net/http"
	"strings"
	"testing"
)

// walletToken is what a tenant calls a token of its own; bothTokens what both call one.
func (n tenant) walletToken() string { return "token-of-" + n.name }

const bothTokens = "token"

// tell has a tenant's network tell the state of a token of its owner, or of another's.
func (w *tenancy) tell(t *testing.T, who tenant, reference string, owner *party, card string) answer {
	t.Helper()
	a, err := call{
		method: http.MethodPut, url: w.info.BaseURL + "/v1/wallet-tokens/" + reference, token: who.backend.token(nil),
		body: request{"owner": request{"iss": owner.iss, "sub": owner.sub}, "externalCardId": card, "tokenStatus": "ACTIVE", "processStatus": "of " + who.name},
	}.by(client)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *tenancy) history(t *testing.T, token, reference string) answer {
	t.Helper()
	a, err := call{method: http.MethodGet, url: w.info.BaseURL + "/v1/wallet-tokens/" + reference, token: token}.by(client)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// told has both tenants' networks tell of their tokens.
func (w *tenancy) told(t *testing.T, all ...tenant) {
	t.Helper()
	for _, n := range all {
		for _, reference := range []string{n.walletToken(), bothTokens} {
			if a := w.tell(t, n, reference, n.backend, n.card()); a.status != 200 {
				t.Fatalf("%s: answered %d: %s", reference, a.status, a.body)
			}
		}
	}
}

func walletTokensApart(t *testing.T, w *tenancy, own, other tenant) {
	w.told(t, own, other)
	path := "/v1/wallet-tokens/" + own.walletToken()
	for name, token := range impostors(own.backend, other.backend) {
		put, err := call{method: http.MethodPut, url: w.info.BaseURL + path, token: token, body: request{}}.by(client)
		if got := w.history(t, token, own.walletToken()); err != nil || put.status != 401 || got.status != 401 {
			t.Errorf("%s: answered %d and %d, %v", name, put.status, got.status, err)
		}
	}
	for name, token := range map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)} {
		if got := w.history(t, token, own.walletToken()); got.status != 403 {
			t.Errorf("%s: answered %d", name, got.status)
		}
	}
	// The right is for any owner, and still for those of the own tenant alone: another's token
	// of that name is another token.
	for reference, want := range map[string]int{own.walletToken(): 200, bothTokens: 200, other.walletToken(): 404, "token-of-nobody": 404} {
		got := w.history(t, own.backend.token(claims{"tenant": other.name}), reference)
		if got.status != want || strings.Contains(string(got.body), "of "+other.name) {
			t.Errorf("%s: answered %d: %s", reference, got.status, got.body)
		}
	}
	// What it tells of the other's owner is of a sub of its own tenant.
	mine := own.walletToken() + "-for-" + other.name
	if a := w.tell(t, own, mine, other.backend, other.card()); a.status != 200 {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	if found := w.found(t, other, mine); found != "[]" {
		t.Errorf("the other finds %s", found)
	}
}

// found is what a tenant finds of a token.
func (w *tenancy) found(t *testing.T, who tenant, references ...string) string {
	t.Helper()
	a := w.send("/issuer/push-provisioning/tokens/searches", who.backend.token(nil), request{"walletType": "APPLE_PAY", "tokenUniqueReferences": references})
	if a.status != 200 {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	return string(a.body)
}

func tokenSearchesApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/issuer/push-provisioning/tokens/searches"
	body := request{"walletType": "APPLE_PAY", "tokenUniqueReferences": []string{other.walletToken()}}
	w.refuses(t, path, 401, body, impostors(own.backend, other.backend))
	w.refuses(t, path, 403, body, map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)})
	w.told(t, own, other)
	if got := w.found(t, own, other.walletToken(), bothTokens, own.walletToken()); strings.Count(got, `"of `+own.name+`"`) != 2 || strings.Contains(got, "of "+other.name) {
		t.Errorf("found %s", got)
	}
}

func activationsApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/issuer/push-provisioning/tokens/activations"
	body := request{"tokenUniqueReference": other.walletToken()}
	w.refuses(t, path, 401, body, impostors(own.backend, other.backend))
	w.refuses(t, path, 403, body, map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)})
	w.told(t, own, other)
	for reference, want := range map[string]string{own.walletToken(): "APPROVED", bothTokens: "APPROVED", other.walletToken(): "FAILED", "token-of-nobody": "FAILED"} {
		var out struct{ IssuerMobileAppAuthResponse, CardLast4Digits string }
		w.send(path, own.backend.token(nil), request{"tokenUniqueReference": reference}).into(t, &out)
		if out.IssuerMobileAppAuthResponse != want || (want == "APPROVED") != (out.CardLast4Digits == own.pan[12:]) {
			t.Errorf("%s: %+v", reference, out)
		}
	}
}

func cardSearchesApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/issuer/push-provisioning/cards/searches"
	w.told(t, own, other)
	body := request{"walletType": "APPLE_PAY", "tokenUniqueReferences": []string{own.walletToken(), other.walletToken()}}
	w.refuses(t, path, 401, body, impostors(own.backend, other.backend))
	w.refuses(t, path, 403, body, map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)})
	var out []struct{ Identifier, PrimaryAccountSuffix, WalletStatus string }
	w.send(path, own.backend.token(nil), body).into(t, &out)
	got := map[string]string{}
	for _, c := range out {
		got[c.Identifier] = c.WalletStatus
		if c.PrimaryAccountSuffix != own.pan[12:] {
			t.Errorf("listed %+v, which is not %s's", c, own.name)
		}
	}
	if got[own.card()] != "active" || got[both] != "notAdded" {
		t.Errorf("listed %v", got)
	}
}

// enablementsApart has an operator take the other tenant out while own asks.
func enablementsApart(t *testing.T, w *tenancy, own, other tenant) {
	get := func(token string) answer {
		a, err := call{method: http.MethodGet, url: w.info.BaseURL + "/v1/enablement", token: token}.by(client)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name, token := range impostors(own.backend, other.backend) {
		if a := get(token); a.status != 401 {
			t.Errorf("%s: answered %d", name, a.status)
		}
	}
	if a := get(own.merchant.token(nil)); a.status != 403 {
		t.Errorf("merchant's token: answered %d", a.status)
	}
	put := func(percentage int) {
		a, err := call{method: http.MethodPut, url: w.info.AdminURL + "/enablement?tenant=" + other.name,
			body: request{"environment": "test", "rules": []request{{"percentage": percentage}}}}.by(client)
		if err != nil || a.status != 200 {
			t.Fatalf("answered %d: %s, %v", a.status, a.body, err)
		}
	}
	put(0)
	defer put(100)
	for who, enabled := range map[*party]bool{own.backend: true, other.backend: false} {
		var out struct{ Enabled bool }
		get(who.token(nil)).into(t, &out)
		if out.Enabled != enabled {
			t.Errorf("%s: enabled is %v", who.iss, out.Enabled)
		}
	}
	if a := w.send("/issuer/push-provisioning/signed-cards", other.backend.token(nil), w.newRequest()); a.status != 403 || a.problem() != "product-not-enabled" {
		t.Errorf("the other's card answers %d %s", a.status, a.problem())
	}
	if a := w.send("/issuer/push-provisioning/signed-cards", own.backend.token(nil), w.newRequest()); a.status != 200 {
		t.Errorf("the own card answers %d: %s", a.status, a.body)
	}
}
