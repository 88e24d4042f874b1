package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-jose/go-jose/v4"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
)

// tenant is one of two issuers behind one service. They do what they can to look alike:
// the same audience, the same sub, a card of the same name.
type tenant struct {
	name     string // a or b
	backend  *party // of its issuer
	merchant *party // an app's backend with keys of its own
	pan      string // of its cards
}

func (n tenant) mint() string     { return "mint-" + n.name }
func (n tenant) acquirer() string { return "acquirer-" + n.name }
func (n tenant) terminal() string { return "terminal-" + n.name }
func (n tenant) card() string     { return "card-of-" + n.name }
func (n tenant) category() string { return map[string]string{"a": "5411", "b": "5812"}[n.name] }

// both is what the two call one of their cards.
const both = "card"

// sharedAudience is what tokens of both have as aud.
const sharedAudience = "mint.example"

// tenancy is the service with its two tenants.
type tenancy struct {
	*server
	jwks   jose.JSONWebKeySet
	apple  *appletest.Issued
	tlsURL string                  // of the server itself; BaseURL is a gateway's
	by     map[string]*http.Client // with the certificates of the tenants' networks
}

// A tenant's token never reads, signs or verifies anything of another tenant, at any
// endpoint of the API description. An endpoint that is new there needs a line here.
func TestTenantsAreApart(t *testing.T) {
	w, a, b := newTenancy(t)
	endpoints := described(t)
	for _, endpoint := range slices.Sorted(maps.Keys(endpoints)) {
		holds, ok := apart[endpoint]
		if !ok {
			t.Errorf("nothing here holds the tenants apart at %s", endpoint)
			continue
		}
		for _, pair := range [][2]tenant{{a, b}, {b, a}} {
			t.Run(fmt.Sprintf("%s of %s against %s", endpoint, pair[0].name, pair[1].name), func(t *testing.T) {
				holds(t, w, pair[0], pair[1])
			})
		}
	}
	for endpoint := range apart {
		if !endpoints[endpoint] {
			t.Errorf("%s is in no API description", endpoint)
		}
	}
	// What one tenant caused is on record as its own, and each has something there.
	for _, pair := range [][2]tenant{{a, b}, {b, a}} {
		for _, iss := range []string{pair[0].backend.iss, pair[0].merchant.iss, pair[0].mint()} {
			query := `SELECT COUNT(*) FROM audit_entries WHERE tenant = ? AND instr(body, ?) > 0`
			if n := w.count(query, pair[1].name, `"iss":"`+iss+`"`); n != 0 {
				t.Errorf("%d entries of tenant %s are of %s", n, pair[1].name, iss)
			}
			if n := w.count(query, pair[0].name, `"iss":"`+iss+`"`); n == 0 {
				t.Errorf("no entries of tenant %s are of %s", pair[0].name, iss)
			}
		}
	}
}

// described are the operations of the API description, as METHOD /path, but for those of
// operators: they are the whole service's.
func described(t *testing.T) map[string]bool {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../httpapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !slices.Contains(op.Tags, "admin") {
				all[method+" "+path] = true
			}
		}
	}
	return all
}

// apart are the promises, by endpoint: what tenant own cannot do to tenant other. Each also
// does what own may do, or nothing would be shown.
var apart = map[string]func(t *testing.T, w *tenancy, own, other tenant){
	"POST /issuer/push-provisioning/signed-cards": cardsApart,
	"POST /v1/merchant-tokens":                    mintsApart,
	"POST /tokens/checkjwt":                       func(t *testing.T, w *tenancy, own, other tenant) { checksApart(t, w, "/tokens/checkjwt", own, other) },
	"POST /{sdkVersion}/tokens/checkjwt": func(t *testing.T, w *tenancy, own, other tenant) {
		checksApart(t, w, "/1.0/tokens/checkjwt", own, other)
	},
	"POST /apple/proximity-token": proximityApart,
	"GET /.well-known/jwks.json":  jwksApart,
	"GET /openapi.yaml":           descriptionApart("/openapi.yaml"),
	"GET /openapi.json":           descriptionApart("/openapi.json"),

	"POST /issuer/push-provisioning/tokens/searches":    tokenSearchesApart,
	"POST /issuer/push-provisioning/tokens/activations": activationsApart,
	"POST /issuer/push-provisioning/cards/searches":     cardSearchesApart,
	"PUT /v1/wallet-tokens/{tokenUniqueReference}":      walletTokensApart,
	"GET /v1/wallet-tokens/{tokenUniqueReference}":      walletTokensApart,
	"GET /v1/enablement":                                enablementsApart,

	"POST /v1/provisioning-decisions":                        decisionsApart,
	"POST /v1/one-time-passcodes":                            passcodesApart,
	"POST /v1/one-time-passcodes/{passcodeId}/verifications": verificationsApart,

	"GET /v1/keys/{kid}/certificate.pem": certificatesApart,

	"PUT /v1/cards/{externalCardId}":                                    putCardsApart,
	"GET /v1/cards/{externalCardId}":                                    readCardsApart,
	"DELETE /v1/cards/{externalCardId}":                                 removedCardsApart,
	"POST /issuer/push-provisioning/activation-data":                    activationApart,
	"GET /v1/audit/checkpoint":                                          checkpointApart,
	"PUT /api/{tenantId}/assets":                                        assetsApart,
	"PUT /api/{tenantId}/pass-types/{passTypeIdentifier}":               managedApart(http.MethodPut, "/pass-types/{type}"),
	"GET /api/{tenantId}/pass-types/{passTypeIdentifier}":               managedApart(http.MethodGet, "/pass-types/{type}"),
	"PUT /api/{tenantId}/passes/{passTypeIdentifier}/{serialNumber}":    managedApart(http.MethodPut, "/passes/{type}/7"),
	"GET /api/{tenantId}/passes/{passTypeIdentifier}/{serialNumber}":    managedApart(http.MethodGet, "/passes/{type}/7"),
	"DELETE /api/{tenantId}/passes/{passTypeIdentifier}/{serialNumber}": managedApart(http.MethodDelete, "/passes/{type}/7"),
	"POST /api/{tenantId}/bundles":                                      managedApart(http.MethodPost, "/bundles"),

	"POST /api/{tenantId}/passes/apple/{version}/devices/{deviceIdentifier}/registrations/{passTypeIdentifier}/{serialNumber}":   deviceApart(http.MethodPost, "/devices/d/registrations/{type}/7", 201),
	"DELETE /api/{tenantId}/passes/apple/{version}/devices/{deviceIdentifier}/registrations/{passTypeIdentifier}/{serialNumber}": deviceApart(http.MethodDelete, "/devices/d/registrations/{type}/7", 200),
	"GET /api/{tenantId}/passes/apple/{version}/devices/{deviceIdentifier}/registrations/{passTypeIdentifier}":                   updatesApart,
	"GET /api/{tenantId}/passes/apple/{version}/passes/{passTypeIdentifier}/{serialNumber}":                                      deviceApart(http.MethodGet, "/passes/{type}/7", 200),
	"POST /api/{tenantId}/passes/apple/{version}/passes/{passTypeIdentifier}/{serialNumber}/personalize":                         personalizedApart,
	"POST /api/{tenantId}/passes/apple/{version}/log":                                                                            deviceLogApart,
}

func cardsApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/issuer/push-provisioning/signed-cards"
	w.refuses(t, path, 401, w.newRequest(), impostors(own.backend, other.backend))
	w.refuses(t, path, 401, w.newRequest(), impostors(own.backend, other.merchant))
	w.refuses(t, path, 403, w.newRequest(), map[string]string{
		"merchant's token":            own.merchant.token(nil),
		"merchant JWT of its own":     w.minted(t, own, nil),
		"merchant JWT of the other's": w.minted(t, other, nil),
	})
	token := own.backend.token(nil)
	for _, card := range []string{own.card(), both} {
		if got := w.openedPAN(t, w.send(path, token, w.newRequest().with(request{"externalCardId": card}))); got != own.pan {
			t.Errorf("%s is not its own card", card)
		}
	}
	theirs := w.send(path, token, w.newRequest().with(request{"externalCardId": other.card()}))
	nobodys := w.send(path, token, w.newRequest().with(request{"externalCardId": "card-of-nobody"}))
	if theirs.status != 404 || withoutRequestID(t, theirs) != withoutRequestID(t, nobodys) {
		t.Errorf("the other's card answers %d %s, nobody's %d %s", theirs.status, theirs.body, nobodys.status, nobodys.body)
	}
	// A nonce that one has used is unused for the other.
	nonce := w.newRequest().with(request{"externalCardId": both})
	for _, who := range []tenant{other, own} {
		if a := w.send(path, who.backend.token(nil), nonce); a.status != 200 {
			t.Errorf("the nonce answers %s with %d: %s", who.name, a.status, a.body)
		}
	}
}

func jwksApart(t *testing.T, w *tenancy, own, other tenant) {
	url := w.info.BaseURL + "/.well-known/jwks.json"
	nobody := w.get(url)
	for _, who := range []tenant{own, other} {
		a, err := call{method: http.MethodGet, url: url, token: who.backend.token(nil)}.by(client)
		if err != nil || a.status != 200 || string(a.body) != string(nobody.body) {
			t.Errorf("%s gets %d %s (%v), nobody %s", who.name, a.status, a.body, err, nobody.body)
		}
	}
	var set jose.JSONWebKeySet
	nobody.into(t, &set)
	if len(set.Keys) != 3 {
		t.Errorf("%d keys are published", len(set.Keys))
	}
	for _, p := range []*party{own.backend, own.merchant} {
		if keys := set.Key(p.thumbprint()); len(keys) != 0 {
			t.Errorf("the key of %s is published", p.iss)
		}
	}
}

// descriptionApart says that the description is the same for all, and of none.
func descriptionApart(path string) func(t *testing.T, w *tenancy, own, other tenant) {
	return func(t *testing.T, w *tenancy, own, other tenant) {
		a := w.get(w.info.BaseURL + path)
		if a.status != 200 || strings.Contains(string(a.body), own.backend.iss) || strings.Contains(string(a.body), other.backend.iss) {
			t.Errorf("answered %d", a.status)
		}
	}
}

func certificatesApart(t *testing.T, w *tenancy, own, other tenant) {
	for kid, status := range map[string]int{
		w.jwks.Keys[0].KeyID:     200, // no tenant's: merchant JWTs of both are signed with it
		own.backend.thumbprint(): 404, other.backend.thumbprint(): 404, other.backend.kid: 404,
	} {
		a, err := call{method: http.MethodGet, url: w.info.BaseURL + "/v1/keys/" + kid + "/certificate.pem", token: own.backend.token(nil)}.by(client)
		if err != nil || a.status != status || strings.Contains(string(a.body), "BEGIN CERTIFICATE") != (status == 200) {
			t.Errorf("%s: answered %d (%v): %s", kid, a.status, err, a.body)
		}
	}
}

// impostors are tokens by which thief claims to be victim: with its own key, under each kid
// that it could give, or with a good token of its own whose iss was written over.
func impostors(victim, thief *party) map[string]string {
	posing := *thief
	posing.iss, posing.sub, posing.claims = victim.iss, victim.sub, victim.claims
	all := map[string]string{"iss of the other, own kid": posing.token(nil)}
	posing.kid = victim.kid
	all["iss and kid of the other"] = posing.token(nil)
	unsigned := posing.unsigned(nil)
	delete(unsigned.Header, "kid")
	all["iss of the other, no kid"] = posing.signed(unsigned)
	unsigned = posing.unsigned(nil)
	unsigned.Header["jwk"] = jose.JSONWebKey{Key: thief.key.Public(), KeyID: victim.kid}
	all["iss and kid of the other, key brought along"] = posing.signed(unsigned)
	all["iss written over"] = reworded(thief.t, thief.token(nil), thief.iss, victim.iss)
	return all
}

// refuses sends a request under each token, which must all get this status.
func (w *tenancy) refuses(t *testing.T, path string, status int, body any, tokens map[string]string) {
	t.Helper()
	for name, token := range tokens {
		if a := w.send(path, token, body); a.status != status {
			t.Errorf("%s: answered %d instead of %d: %s", name, a.status, status, a.body)
		}
	}
}

// reworded is a token with a text in its claims replaced and its signature as it was.
func reworded(t *testing.T, token, from, to string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !strings.Contains(string(raw), from) {
		t.Fatalf("%v: %s holds no %s", err, raw, from)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), from, to, 1)))
	return strings.Join(parts, ".")
}

func withoutRequestID(t *testing.T, a answer) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(a.body, &members); err != nil {
		t.Fatal(err)
	}
	delete(members, "requestId")
	return fmt.Sprint(members)
}
