package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
)

func TestDeviceGoesThroughTheLifeOfAPass(t *testing.T) {
	s := start(t, t.TempDir(), nil, nil)
	i := s.passInfo().Passes
	var out struct {
		Steps []struct {
			Name   string
			OK     bool
			Detail any
		}
		First, Last string
	}
	node(t, "device.js", map[string]any{
		"baseUrl": s.info.BaseURL, "tenant": i.Tenant, "type": i.PassTypeIdentifier, "serial": i.SerialNumber,
		"token": i.AuthenticationToken, "issuerToken": s.info.Clients.Issuer.Token, "device": "3b1c0e5f9a7d4c28b6e2f10c8d5a9e47",
	}, &out)
	for _, step := range out.Steps {
		if !step.OK {
			t.Errorf("%s: %v", step.Name, step.Detail)
		}
	}
	if len(out.Steps) < 25 {
		t.Errorf("%d steps", len(out.Steps))
	}
	for what, text := range map[string]string{"first": out.First, "last": out.Last} {
		pkpass, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := passkit.Open(pkpass)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		opensslVerifies(t, b, i.RootCert)
		p, _, err := b.Pass()
		if err != nil || p.TeamIdentifier != i.TeamIdentifier || p.WebServiceURL != s.info.BaseURL+"/api/"+i.Tenant+"/passes/apple" {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	s.stop() // what it logged may still be on its way
	log := s.stderr.String()
	if !strings.Contains(log, "kind=register") || strings.Contains(log, "3b1c0e5f9a7d4c28b6e2f10c8d5a9e47") || strings.Contains(log, i.AuthenticationToken) || strings.Contains(log, "\a") {
		t.Error("the device's line is not in the log, or the log has the device's identifier, the pass's token or a control character")
	}
}

func TestPassServer(t *testing.T) {
	p := newPassServer(t, "    disabled: true\n")
	p.run()
	t.Run("what it serves verifies with openssl", func(t *testing.T) { servedVerifiesWithOpenSSL(t, p.as(t)) })
	t.Run("issuers are held to tenant, right and version", func(t *testing.T) { issuersAreHeld(t, p.as(t)) })
	t.Run("a pass is personalised once", func(t *testing.T) { personalizedOnce(t, p.as(t)) })
	t.Run("unauthenticated calls are bounded", func(t *testing.T) { unauthenticatedCallsAreBounded(t, p.as(t)) })
}

// The pass certificates' two kinds of key, as a running server signs with them.
func servedVerifiesWithOpenSSL(t *testing.T, p *passServer) {
	for passType, root := range map[string]string{rsaPasses: "pass-root.pem", ecPasses: "pass-ec-root.pem"} {
		token := p.setUp(passType, "17")
		got := p.device("GET", "/passes/"+passType+"/17", token, "")
		if got.status != 200 || got.header.Get("Content-Type") != passkit.MediaTypePass {
			t.Fatalf("%s: fetched %d", passType, got.status)
		}
		opensslVerifies(t, openedPass(t, got.body, p.roots[passType]), filepath.Join(p.dir, root))
		p.change(passType, "18", 1)
		one := map[string]string{"passTypeIdentifier": passType, "serialNumber": "17"}
		two := map[string]string{"passTypeIdentifier": passType, "serialNumber": "18"}
		if a := p.manage("POST", "/bundles", map[string]any{"passes": []any{one}}, 200); !slices.Equal(a.body, got.body) {
			t.Errorf("%s: the same version was signed twice", passType)
		}
		both := p.manage("POST", "/bundles", map[string]any{"passes": []any{one, two}}, 200)
		bundles, err := passkit.OpenPasses(both.body)
		if err != nil || len(bundles) != 2 || both.header.Get("Content-Type") != passkit.MediaTypePasses {
			t.Fatalf("%s: %d bundles, %v", passType, len(bundles), err)
		}
		opensslVerifies(t, bundles[1], filepath.Join(p.dir, root))
	}
}

// The issuer's side, at its edges.
func issuersAreHeld(t *testing.T, p *passServer) {
	p.setUp(ecPasses, "1")
	path := "/passes/" + ecPasses + "/1"
	bearer := map[string]string{"Authorization": "Bearer " + p.bearer}
	first := p.manage("GET", path, nil, 200)
	if first.header.Get("ETag") != `"1"` {
		t.Errorf("ETag %s", first.header.Get("ETag"))
	}
	if again := p.manage("PUT", path, json.RawMessage(first.body), 200); again.header.Get("ETag") != `"1"` {
		t.Errorf("what GET answered, put again, is %s", again.header.Get("ETag"))
	}
	stale := map[string]string{"Authorization": "Bearer " + p.bearer, "Content-Type": "application/json", "If-Match": `"7"`}
	for _, tc := range []struct {
		name, method, path string
		header             map[string]string
		body               string
		status             int
		problem            string
	}{
		{"nobody", "GET", "/api/dev" + path, nil, "", 401, "unauthenticated"},
		{"a device's token", "GET", "/api/dev" + path, map[string]string{"Authorization": "ApplePass x"}, "", 401, "unauthenticated"},
		{"another tenant's passes", "GET", "/api/rail" + path, bearer, "", 403, "forbidden"},
		{"another tenant's type", "PUT", "/api/rail/pass-types/" + ecPasses, bearer, "{}", 403, "forbidden"},
		{"a pass that there is not", "GET", "/api/dev/passes/" + ecPasses + "/none", bearer, "", 404, "unknown-pass"},
		{"a type that there is not", "GET", "/api/dev/passes/pass.none/1", bearer, "", 404, "unknown-pass"},
		{"an old version", "PUT", "/api/dev" + path, stale, `{"pass":{"generic":{}}}`, 412, "precondition"},
		{"an old version voided", "DELETE", "/api/dev" + path, stale, "", 412, "precondition"},
		{"an unknown member", "PUT", "/api/dev" + path, map[string]string{"Authorization": "Bearer " + p.bearer, "Content-Type": "application/json"}, `{"pass":{"generic":{}},"assets":{}}`, 400, "malformed-body"},
		{"no pass", "PUT", "/api/dev" + path, map[string]string{"Authorization": "Bearer " + p.bearer, "Content-Type": "application/json"}, `{"pass":{"storeCard":{},"generic":{},"coupon":{}}}`, 422, "not-a-pass"},
		{"a file by address", "PUT", "/api/dev" + path, map[string]string{"Authorization": "Bearer " + p.bearer, "Content-Type": "application/json"}, `{"pass":{"generic":{}},"files":{"logo.png":"https://example.com/logo.png"}}`, 400, "malformed-member"},
		{"too much", "PUT", "/api/dev" + path, map[string]string{"Authorization": "Bearer " + p.bearer, "Content-Type": "application/json"}, `{"pass":{"generic":{}},"x":"` + strings.Repeat("x", 300<<10) + `"}`, 413, "body-too-large"},
		{"a version of the protocol that there is not", "POST", "/api/dev/passes/apple/v2/log", nil, `{"logs":[]}`, 404, "no-such-resource"},
		{"a tenant that there is not", "POST", "/api/nobody/passes/apple/v1/log", nil, `{"logs":[]}`, 404, "no-such-resource"},
		{"a log that is none", "POST", "/api/dev/passes/apple/v1/log", nil, `{"logs":7}`, 400, "malformed-body"},
		{"a personalisation of a pass that asks for none", "POST", "/api/dev/passes/apple/v1" + path + "/personalize", nil, `{"personalizationToken":"abc"}`, 401, "unauthenticated"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := p.call(tc.method, tc.path, tc.header, []byte(tc.body))
			if a.status != tc.status || a.problem() != tc.problem {
				t.Errorf("answered %d %s: %s", a.status, a.problem(), a.body)
			}
		})
	}
	p.manage("DELETE", path, nil, 204)
	var doc struct{ Voided bool }
	if err := json.Unmarshal(p.manage("GET", path, nil, 200).body, &doc); err != nil || !doc.Voided {
		t.Errorf("voided: %v, %v", doc.Voided, err)
	}
}

// However slow the machine is, the devices together call more often than they may.
func unauthenticatedCallsAreBounded(t *testing.T, p *passServer) {
	var taken, refused atomic.Int64
	log := call{method: http.MethodPost, url: p.base + "/api/" + devTenant + "/passes/apple/v1/log", body: request{"logs": []string{"x"}}}
	var devices errgroup.Group
	for range 8 {
		devices.Go(func() error {
			for refused.Load() == 0 && taken.Load() < 10_000 {
				a, err := log.by(client)
				switch {
				case err != nil:
					return err
				case a.status == http.StatusOK:
					taken.Add(1)
				case a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "":
					refused.Add(1)
				default:
					return fmt.Errorf("answered %d with Retry-After %q", a.status, a.header.Get("Retry-After"))
				}
			}
			return nil
		})
	}
	if err := devices.Wait(); err != nil {
		t.Error(err)
	}
	if refused.Load() == 0 {
		t.Errorf("%d calls were all taken", taken.Load())
	}
}

func personalizedOnce(t *testing.T, p *passServer) {
	p.setUp(ecPasses, "1")
	var asset struct{ SHA256 string }
	file := []byte(`{"requiredPersonalizationFields":["PKPassPersonalizationFieldName"],"description":"Join"}`)
	if err := json.Unmarshal(p.manage("PUT", "/assets", file, 200).body, &asset); err != nil {
		t.Fatal(err)
	}
	p.manage("PUT", "/passes/"+ecPasses+"/2", map[string]any{"pass": map[string]any{"generic": map[string]any{}}, "files": map[string]string{"personalization.json": asset.SHA256}}, 201)
	call := func(token string) answer {
		body, _ := json.Marshal(map[string]any{"personalizationToken": token, "requiredPersonalizationInfo": map[string]string{"givenName": "Alex"}})
		return p.device("POST", "/passes/"+ecPasses+"/2/personalize", "", string(body))
	}
	if a := call(`{"pass.json":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}`); a.status != 400 {
		t.Errorf("a manifest answered %d", a.status)
	}
	a := call("token-1")
	if a.status != 200 {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	signed, err := cms.Parse(a.body)
	if err == nil {
		err = signed.VerifyDetached([]byte("token-1"))
	}
	if err != nil {
		t.Error(err)
	}
	if a := call("token-2"); a.status != 409 || a.problem() != "personalized" {
		t.Errorf("again answered %d", a.status)
	}
	var doc struct{ Personalized map[string]string }
	if err := json.Unmarshal(p.manage("GET", "/passes/"+ecPasses+"/2", nil, 200).body, &doc); err != nil || doc.Personalized["givenName"] != "Alex" {
		t.Errorf("the issuer reads %v, %v", doc.Personalized, err)
	}
}
