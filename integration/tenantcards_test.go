package integration

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/mintmark/mintmark/integration/actors"
)

// as makes a call with a token of the tenant's backend.
func (w *tenancy) as(t *testing.T, who tenant, method, path string, body any) answer {
	t.Helper()
	a, err := call{method: method, url: w.info.BaseURL + path, token: who.backend.token(nil), body: body}.by(client)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// encrypted is a tenant's card, encrypted to the service for a card's name.
func (w *tenancy) encrypted(t *testing.T, who tenant, card string) request {
	t.Helper()
	text := actors.EncryptedCard(t, w.jwks, map[string]any{
		"tenant": who.name, "iss": who.backend.iss, "sub": who.backend.sub, "externalCardId": card,
		"exp": time.Now().Add(time.Hour).Unix(), "jti": rand.Text(),
	}, fmt.Sprintf(`{"primaryAccountNumber":%q,"expiration":"12/49","name":"Holder","product":"mastercard"}`, who.pan))
	return request{"encryptedCard": text}
}

// sees requires that a tenant sees its own card under a name, or none.
func (w *tenancy) sees(t *testing.T, who tenant, card string, status int) {
	t.Helper()
	a := w.as(t, who, http.MethodGet, "/v1/cards/"+card, nil)
	if a.status != status {
		t.Errorf("%s is answered %d for %s: %s", who.name, a.status, card, a.body)
		return
	}
	if status != 200 {
		return
	}
	var shown struct{ Last4 string }
	a.into(t, &shown)
	if shown.Last4 != who.pan[len(who.pan)-4:] {
		t.Errorf("%s sees a card ending %s under %s", who.name, shown.Last4, card)
	}
}

func putCardsApart(t *testing.T, w *tenancy, own, other tenant) {
	path := "/v1/cards/put-by-" + own.name
	theirs := w.encrypted(t, other, "put-by-"+own.name)
	if a := w.as(t, own, http.MethodPut, path, theirs); a.status != 422 || a.problem() != "encrypted-card" {
		t.Errorf("with the other's card it is answered %d: %s", a.status, a.body)
	}
	w.sees(t, own, "put-by-"+own.name, 404)
	for _, who := range []tenant{own, other} { // one name, a card each
		if a := w.as(t, who, http.MethodPut, path, w.encrypted(t, who, "put-by-"+own.name)); a.status != 200 {
			t.Errorf("%s is answered %d: %s", who.name, a.status, a.body)
		}
	}
	w.sees(t, own, "put-by-"+own.name, 200)
	w.sees(t, other, "put-by-"+own.name, 200)
}

func readCardsApart(t *testing.T, w *tenancy, own, other tenant) {
	w.sees(t, own, own.card(), 200)
	w.sees(t, own, both, 200)
	w.alike(t, w.as(t, own, http.MethodGet, "/v1/cards/"+other.card(), nil), w.as(t, own, http.MethodGet, "/v1/cards/card-of-nobody", nil))
}

func removedCardsApart(t *testing.T, w *tenancy, own, other tenant) {
	name := "removed-by-" + own.name
	for _, who := range []tenant{own, other} {
		if a := w.as(t, who, http.MethodPut, "/v1/cards/"+name, w.encrypted(t, who, name)); a.status != 200 {
			t.Fatalf("%s is answered %d: %s", who.name, a.status, a.body)
		}
	}
	w.alike(t, w.as(t, own, http.MethodDelete, "/v1/cards/"+other.card(), nil), w.as(t, own, http.MethodDelete, "/v1/cards/card-of-nobody", nil))
	if a := w.as(t, own, http.MethodDelete, "/v1/cards/"+name, nil); a.status != 204 {
		t.Errorf("removing is answered %d: %s", a.status, a.body)
	}
	w.sees(t, own, name, 404)
	w.sees(t, other, name, 200)
	if a := w.as(t, other, http.MethodDelete, "/v1/cards/"+name, nil); a.status != 204 {
		t.Errorf("the other's removing is answered %d: %s", a.status, a.body)
	}
	w.sees(t, other, other.card(), 200)
}

func activationApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/issuer/push-provisioning/activation-data"
	w.refuses(t, path, 401, request{"externalCardId": both}, impostors(own.backend, other.backend))
	for _, card := range []string{own.card(), both} {
		if a := w.as(t, own, http.MethodPost, path, request{"externalCardId": card}); a.status != 200 {
			t.Errorf("%s is answered %d: %s", card, a.status, a.body)
		}
	}
	w.alike(t, w.as(t, own, http.MethodPost, path, request{"externalCardId": other.card()}), w.as(t, own, http.MethodPost, path, request{"externalCardId": "card-of-nobody"}))
}

// alike requires that the other's and nobody's are answered 404, with one answer.
func (w *tenancy) alike(t *testing.T, theirs, nobodys answer) {
	t.Helper()
	if theirs.status != 404 || withoutRequestID(t, theirs) != withoutRequestID(t, nobodys) {
		t.Errorf("the other's is answered %d %s, nobody's %d %s", theirs.status, theirs.body, nobodys.status, nobodys.body)
	}
}

// The log's checkpoint is one for everybody, and names nobody.
func checkpointApart(t *testing.T, w *tenancy, own, other tenant) {
	for _, who := range []tenant{own, other} {
		a := w.as(t, who, http.MethodGet, "/v1/audit/checkpoint", nil)
		// No key signs checkpoints here; that is all there is to say, to anybody.
		if nobody := w.get(w.info.BaseURL + "/v1/audit/checkpoint"); a.status != nobody.status || withoutRequestID(t, a) != withoutRequestID(t, nobody) {
			t.Errorf("%s is answered %d %s, nobody %d %s", who.name, a.status, a.body, nobody.status, nobody.body)
		}
	}
}
