package integration

import (
	"bytes"
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// passType is the type of a tenant's passes; their serial number is 7.
func (n tenant) passType() string { return "pass.shared-" + n.name }

// passKeys makes a pass key for each tenant, with its certificate.
func (s *site) passKeys(tenants ...string) {
	s.t.Helper()
	s.t.Setenv("SOFTHSM2_CONF", s.token.ConfigFile)
	for _, name := range tenants {
		s.must("keys", "generate", "--name", "pass-"+name, "--purpose", "pass", "--algorithm", "P-256", "--write")
	}
	path, ctx := filepath.Join(s.dir, "keyring.yaml"), context.Background()
	ring, err := hsm.LoadKeyring(path)
	s.check(err)
	token, err := hsm.Open(ctx, hsm.Config{
		Name: "hsm-a", Module: s.token.Module, TokenLabel: s.token.Label, PINFile: s.token.PINFile,
		Keyring: ring, Log: slog.New(slog.DiscardHandler), CallTimeout: keyWithin,
	})
	s.check(err)
	authority, err := passtest.New(time.Now())
	s.check(err)
	for _, name := range tenants {
		pub, err := token.Public("pass-" + name)
		s.check(err)
		leaf, err := authority.Leaf(pub, passtest.For("pass.shared-"+name, passesTeam))
		s.check(err)
		var chain bytes.Buffer
		for _, der := range [][]byte{leaf.Raw, authority.Intermediate.Raw} {
			s.check(pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		s.write("pass-"+name+".crt", chain.String())
		for i := range ring.Keys {
			if ring.Keys[i].Name == "pass-"+name {
				ring.Keys[i].Certificate = "pass-" + name + ".crt"
			}
		}
	}
	s.check(token.Close(ctx))
	s.check(ring.Save(path))
}

// passOf makes sure of a tenant's pass 7, which is not voided, and gives its token.
func (w *tenancy) passOf(t *testing.T, who tenant) string {
	t.Helper()
	icon, err := passtest.PNG(38, 38)
	if err != nil {
		t.Fatal(err)
	}
	var asset struct{ SHA256 string }
	w.manage(t, who, who, http.MethodPut, "/assets", icon, 200).into(t, &asset)
	w.manage(t, who, who, http.MethodPut, "/pass-types/"+who.passType(), who.passTypeDocument(asset.SHA256), 200)
	var out struct {
		Pass struct{ AuthenticationToken string }
	}
	w.manage(t, who, who, http.MethodPut, "/passes/"+who.passType()+"/7", passDocument, 200, 201)
	w.manage(t, who, who, http.MethodGet, "/passes/"+who.passType()+"/7", nil, 200).into(t, &out)
	return out.Pass.AuthenticationToken
}

// passDocument takes back that the pass was voided, too.
var passDocument = request{"pass": map[string]any{"generic": map[string]any{}}, "voided": false}

func (n tenant) passTypeDocument(icon string) request {
	return request{"files": map[string]string{"icon.png": icon}, "template": map[string]any{"organizationName": "Shop " + n.name, "description": "Card"}}
}

// manage makes a call about the passes of a tenant, with a token of another or the same.
func (w *tenancy) manage(t *testing.T, who, whose tenant, method, path string, body any, want ...int) answer {
	t.Helper()
	a := w.as(t, who, method, "/api/"+whose.name+path, body)
	for _, status := range want {
		if a.status == status {
			return a
		}
	}
	t.Errorf("%s %s of %s answers %s with %d: %s", method, path, whose.name, who.name, a.status, a.body)
	return a
}

// managedApart is the promise of an issuer's call: under the other's name it is forbidden,
// and under its own there is nothing of the other's.
func managedApart(method, form string) func(t *testing.T, w *tenancy, own, other tenant) {
	return func(t *testing.T, w *tenancy, own, other tenant) {
		w.passOf(t, own)
		before := w.passOf(t, other)
		body := func(whose tenant) any {
			switch {
			case form == "/bundles":
				return request{"passes": []any{map[string]string{"passTypeIdentifier": whose.passType(), "serialNumber": "7"}}}
			case method != http.MethodPut:
				return nil
			case strings.HasPrefix(form, "/passes/"):
				return passDocument
			}
			return request{"template": map[string]any{"description": "of " + own.name}}
		}
		path := func(whose tenant) string { return strings.ReplaceAll(form, "{type}", whose.passType()) }
		w.manage(t, own, other, method, path(other), body(other), 403)
		w.manage(t, own, own, method, path(other), body(other), 404)
		w.manage(t, own, own, method, path(own), body(own), 200, 204)
		var after struct {
			Pass   struct{ AuthenticationToken string }
			Voided bool
		}
		w.manage(t, other, other, http.MethodGet, "/passes/"+other.passType()+"/7", nil, 200).into(t, &after)
		if after.Voided || after.Pass.AuthenticationToken != before {
			t.Errorf("the other's pass is now %+v", after)
		}
	}
}

// A file that one has uploaded is nothing that another's passes could have in them.
func assetsApart(t *testing.T, w *tenancy, own, other tenant) {
	w.passOf(t, own)
	w.passOf(t, other)
	logo, err := passtest.PNG(50, map[string]int{"a": 20, "b": 21}[other.name])
	if err != nil {
		t.Fatal(err)
	}
	w.manage(t, own, other, http.MethodPut, "/assets", logo, 403)
	var asset struct{ SHA256 string }
	w.manage(t, other, other, http.MethodPut, "/assets", logo, 200).into(t, &asset)
	doc := passDocument.with(request{"files": map[string]string{"logo.png": asset.SHA256}})
	w.manage(t, own, own, http.MethodPut, "/passes/"+own.passType()+"/7", doc, 400, 422)
	w.manage(t, other, other, http.MethodPut, "/passes/"+other.passType()+"/7", doc, 200)
}

// device makes a device's call under a tenant.
func (w *tenancy) device(t *testing.T, whose tenant, method, path, token string, body any) answer {
	t.Helper()
	header := http.Header{"Authorization": {"ApplePass " + token}}
	a, err := call{method: method, url: w.info.BaseURL + "/api/" + whose.name + "/passes/apple/v1" + path, header: header, body: body}.by(client)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// deviceApart is the promise of a device's call: the token of one's pass opens nothing of
// another's, by whichever way it is asked for.
func deviceApart(method, form string, status int) func(t *testing.T, w *tenancy, own, other tenant) {
	return func(t *testing.T, w *tenancy, own, other tenant) {
		token := w.passOf(t, own)
		w.passOf(t, other)
		var body any
		if method == http.MethodPost {
			body = request{"pushToken": "00ff"}
		}
		for _, at := range []struct{ whose, typed tenant }{{other, other}, {own, other}, {other, own}} {
			path := strings.ReplaceAll(form, "{type}", at.typed.passType())
			if a := w.device(t, at.whose, method, path, token, body); a.status != 401 {
				t.Errorf("under %s, the type of %s: answered %d: %s", at.whose.name, at.typed.name, a.status, a.body)
			}
		}
		if a := w.device(t, own, method, strings.ReplaceAll(form, "{type}", own.passType()), token, body); a.status != status {
			t.Errorf("its own pass answers %d: %s", a.status, a.body)
		}
	}
}

// A device that one has registered is none that another knows.
func updatesApart(t *testing.T, w *tenancy, own, other tenant) {
	token := w.passOf(t, own)
	const device = "/devices/lists/registrations/"
	if a := w.device(t, own, http.MethodPost, device+own.passType()+"/7", token, request{"pushToken": "00ff"}); a.status/100 != 2 {
		t.Fatalf("registering is answered %d: %s", a.status, a.body)
	}
	for _, at := range []struct{ whose, typed tenant }{{other, own}, {own, other}} {
		if a := w.device(t, at.whose, http.MethodGet, device+at.typed.passType(), "", nil); a.status == 200 {
			t.Errorf("under %s, the type of %s: %s", at.whose.name, at.typed.name, a.body)
		}
	}
	if a := w.device(t, own, http.MethodGet, device+own.passType(), "", nil); a.status != 200 || !strings.Contains(string(a.body), `"7"`) {
		t.Errorf("its own are answered %d: %s", a.status, a.body)
	}
	if a := w.device(t, own, http.MethodDelete, device+own.passType()+"/7", token, nil); a.status != 200 {
		t.Errorf("unregistering is answered %d: %s", a.status, a.body)
	}
}

// No personalisation is asked for by the pass of either, and one is told so as nobody is.
func personalizedApart(t *testing.T, w *tenancy, own, other tenant) {
	w.passOf(t, own)
	w.passOf(t, other)
	for _, at := range []struct{ whose, typed tenant }{{own, own}, {own, other}, {other, own}} {
		a := w.device(t, at.whose, http.MethodPost, "/passes/"+at.typed.passType()+"/7/personalize", "", request{"personalizationToken": "t"})
		if a.status != 401 {
			t.Errorf("under %s, the type of %s: answered %d: %s", at.whose.name, at.typed.name, a.status, a.body)
		}
	}
}

// Lines of a device stand in the log under the tenant to which it sent them.
func deviceLogApart(t *testing.T, w *tenancy, own, _ tenant) {
	line := "Web service error for " + own.passType()
	if a := w.device(t, own, http.MethodPost, "/log", "", request{"logs": []string{line}}); a.status != 200 {
		t.Errorf("answered %d: %s", a.status, a.body)
	}
	if a := w.device(t, tenant{name: "c"}, http.MethodPost, "/log", "", request{"logs": []string{line}}); a.status != 404 {
		t.Errorf("a tenant that there is not is answered %d: %s", a.status, a.body)
	}
}
