package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// network is the tenant's, which is known by its certificate.
func (n tenant) network() string { return "network-" + n.name }

// networks gives both tenants networks with certificates, and the server one of its own. Nothing
// else here is about TLS: everybody else comes by a gateway that speaks it for them.
func (w *tenancy) networks(authority *ca, certificates map[string]identity) {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(authority.cert)
	behind, err := url.Parse(strings.Replace(w.info.BaseURL, "http:", "https:", 1))
	if err != nil {
		w.t.Fatal(err)
	}
	by := func(certificates ...tls.Certificate) *http.Transport {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}, MaxIdleConnsPerHost: 64}
		w.t.Cleanup(transport.CloseIdleConnections)
		return transport
	}
	gateway := httptest.NewServer(&httputil.ReverseProxy{Transport: by(), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind) }})
	w.t.Cleanup(gateway.Close)
	w.info.BaseURL, w.tlsURL, w.by = gateway.URL, behind.String(), map[string]*http.Client{}
	for name, id := range certificates {
		w.by[name] = &http.Client{Transport: by(id.tls()), Timeout: time.Minute}
	}
}

// says posts as a tenant's network.
func (w *tenancy) says(t *testing.T, who tenant, path string, body any) answer {
	t.Helper()
	a, err := call{method: http.MethodPost, url: w.tlsURL + path, body: body}.by(w.by[who.network()])
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// reasons gives the reasons of a decision that must be there.
func reasons(t *testing.T, a answer) []string {
	t.Helper()
	var out struct{ Reasons []string }
	a.into(t, &out)
	return out.Reasons
}

func decisionsApart(t *testing.T, w *tenancy, own, other tenant) {
	const path, seal = "/v1/provisioning-decisions", "/issuer/push-provisioning/signed-cards"
	ask := request{"externalCardId": both, "source": "in-app", "apple": request{"recommendation": "RED"}}
	w.refuses(t, path, 401, ask, impostors(own.backend, other.backend))
	w.refuses(t, path, 401, ask, map[string]string{"a token, and no certificate": own.backend.token(nil)})
	w.refuses(t, path, 403, ask, map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)})

	theirs := w.says(t, own, path, ask.with(request{"externalCardId": other.card()}))
	nobodys := w.says(t, own, path, ask.with(request{"externalCardId": "card-of-nobody"}))
	if theirs.status != 404 || withoutRequestID(t, theirs) != withoutRequestID(t, nobodys) {
		t.Errorf("the other's card answers %d %s, nobody's %d %s", theirs.status, theirs.body, nobodys.status, nobodys.body)
	}
	// What is decided about a card of that name is nothing to the other's, also where the owner
	// is called as the other's is.
	likewise := ask.with(request{"externalCardId": other.card(), "owner": request{"iss": other.backend.iss, "sub": other.backend.sub}})
	for _, decided := range []request{ask, likewise} {
		if a := w.says(t, own, path, decided); a.status != 200 {
			t.Fatalf("answered %d: %s", a.status, a.body)
		}
	}
	for _, card := range []string{both, other.card()} {
		if a := w.send(seal, other.backend.token(nil), w.requestFor(card)); a.status != 200 {
			t.Errorf("the other's %s answers %d: %s", card, a.status, a.body)
		}
	}
	if a := w.send(seal, own.backend.token(nil), w.requestFor(both)); a.status != 403 || a.problem() != "decision" {
		t.Errorf("the own card answers %d: %s", a.status, a.body)
	}
	// Whoever signs, it is about whom the signer's tenant knows.
	well := ask.with(request{"apple": request{"recommendation": "GREEN"}})
	for signer, counts := range map[*party]bool{own.backend: true, other.backend: false} {
		unsigned := signer.unsigned(claims{"iss": own.backend.iss, "sub": own.backend.sub, "aud": nil, "credentials": claims{}})
		unsigned.Header["kid"], unsigned.Header["typ"] = "core", "mintmark-statement+jwt"
		a := w.says(t, own, path, well.with(request{"evidence": []request{{"statement": signer.signed(unsigned)}}}))
		if slices.Contains(reasons(t, a), "evidence-statement") == counts {
			t.Errorf("signed by %s: %s", signer.iss, a.body)
		}
	}
}

// passcodeOf has a passcode sent to a channel of a tenant's cardholder and gives its id.
func (w *tenancy) passcodeOf(t *testing.T, who tenant, card, channel string) string {
	t.Helper()
	var out struct{ PasscodeID string }
	w.send("/v1/one-time-passcodes", who.backend.token(nil), request{"externalCardId": card, "channelId": channel}).into(t, &out)
	return out.PasscodeID
}

// delivered are the passcodes that have arrived, by channel.
func (w *tenancy) delivered(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(readFile(t, filepath.Join(w.dir, "notices.jsonl"))) {
		var n struct {
			Tenant, Kind string
			Body         struct{ Iss, ChannelID, Passcode string }
		}
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Fatal(err)
		}
		if n.Kind != "one-time-passcode" {
			continue
		}
		if n.Body.Iss != "backend-"+n.Tenant {
			t.Errorf("a passcode of tenant %s is for %s", n.Tenant, n.Body.Iss)
		}
		all[n.Body.ChannelID] = n.Body.Passcode
	}
	return all
}

func passcodesApart(t *testing.T, w *tenancy, own, other tenant) {
	const path = "/v1/one-time-passcodes"
	body := request{"externalCardId": both, "channelId": "sms"}
	w.refuses(t, path, 401, body, impostors(own.backend, other.backend))
	w.refuses(t, path, 403, body, map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)})
	token := own.backend.token(claims{"tenant": other.name})
	nobodys := w.send(path, token, body.with(request{"externalCardId": "card-of-nobody"}))
	for name, change := range map[string]request{
		"the other's card":  {"externalCardId": other.card()},
		"the other's owner": {"owner": request{"iss": other.backend.iss, "sub": other.backend.sub}},
	} {
		if a := w.send(path, token, body.with(change)); a.status != 404 || withoutRequestID(t, a) != withoutRequestID(t, nobodys) {
			t.Errorf("%s answers %d %s, nobody's %d %s", name, a.status, a.body, nobodys.status, nobodys.body)
		}
	}
	// Both may have theirs for what they call alike, and neither ends the other's.
	before := w.sent()
	for _, who := range []tenant{own, other} {
		w.passcodeOf(t, who, both, "sms")
	}
	if after := w.sent(); after[own.name] != before[own.name]+1 || after[other.name] != before[other.name]+1 {
		t.Errorf("sent %v, before that %v", after, before)
	}
	if n := w.count(`SELECT COUNT(DISTINCT tenant) FROM one_time_passcodes WHERE attempts > 0 AND verified_at = 0`); n != 2 {
		t.Errorf("passcodes of %d tenants may still be tried", n)
	}
}

// sent counts the passcodes of each tenant.
func (w *tenancy) sent() map[string]int {
	all := map[string]int{}
	for _, name := range []string{"a", "b"} {
		all[name] = w.count(`SELECT COUNT(*) FROM one_time_passcodes WHERE tenant = ?`, name)
	}
	return all
}

func verificationsApart(t *testing.T, w *tenancy, own, other tenant) {
	channel := "of-" + own.name
	id := w.passcodeOf(t, own, own.card(), channel)
	path := "/v1/one-time-passcodes/" + id + "/verifications"
	eventually(t, patience, func() error {
		n, err := w.counted(`SELECT COUNT(*) FROM network_notices`)
		if err == nil && n != 0 {
			err = fmt.Errorf("%d notices wait", n)
		}
		return err
	})
	body := request{"passcode": w.delivered(t)[channel]}
	w.refuses(t, path, 401, body, impostors(own.backend, other.backend))
	w.refuses(t, path, 403, body, map[string]string{"merchant's token": own.merchant.token(nil), "merchant JWT": w.minted(t, own, nil)})
	nobodys := w.send("/v1/one-time-passcodes/"+uuid.NewString()+"/verifications", other.backend.token(nil), body)
	for name, a := range map[string]answer{
		"the other":                         w.send(path, other.backend.token(claims{"tenant": own.name}), body),
		"the other's network, of any owner": w.says(t, other, path, body),
	} {
		if a.status != 404 || withoutRequestID(t, a) != withoutRequestID(t, nobodys) {
			t.Errorf("%s is answered %d %s, about nobody's %d %s", name, a.status, a.body, nobodys.status, nobodys.body)
		}
	}
	var got struct {
		Verified     bool
		AttemptsLeft int
	}
	w.send(path, own.backend.token(nil), body).into(t, &got)
	if !got.Verified || got.AttemptsLeft != 2 { // the others took none
		t.Errorf("its owner is answered %+v", got)
	}
	// Verified, it proves something to its own tenant alone.
	for _, who := range []tenant{own, other} {
		a := w.says(t, who, "/v1/provisioning-decisions", request{"externalCardId": who.card(), "source": "in-app",
			"apple": request{"recommendation": "GREEN"}, "evidence": []request{{"passcode": id}}})
		if counts := !slices.Contains(reasons(t, a), "evidence-passcode"); counts != (who.name == own.name) {
			t.Errorf("to %s: %s", who.name, a.body)
		}
	}
}
