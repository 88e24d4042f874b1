package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const passing = `roles: [passes]
passes:
  publicURL: https://passes.example
  types: [{tenant: shop, passTypeIdentifier: pass.com.example.card, key: pass-card}]
`

func TestPassesAreReadAndTheirFaultsNamed(t *testing.T) {
	load(t, least+passing)
	production := strings.NewReplacer("environment: test", "environment: production", "pushProvisioning:\n  testRootFile: root.pem\n", "").Replace(least) + anchored + passing
	load(t, production)
	with := func(old, by string) string { return strings.Replace(least+passing, old, by, 1) }
	for want, text := range map[string]string{
		"passes.publicURL is missing":                                                                        with("  publicURL: https://passes.example\n", ""),
		"passes.publicURL must begin with https://":                                                          with("https://passes.example", "http://passes.example"),
		"passes.publicURL must be https:// and a host, without a path":                                       with("https://passes.example", "https://passes.example/x"),
		"passes.types must name at least one pass type":                                                      with("  types: [{tenant: shop, passTypeIdentifier: pass.com.example.card, key: pass-card}]\n", ""),
		"passes.types[0].key is missing":                                                                     with(", key: pass-card", ""),
		"passes.types[1].key is that of another pass type; each has a certificate, and so a key, of its own": with("pass-card}]", "pass-card}, {tenant: rail, passTypeIdentifier: pass.b, key: pass-card}]"),
		"passes.types[1] is there twice":                                                                     with("pass-card}]", "pass-card}, {tenant: shop, passTypeIdentifier: pass.com.example.card, key: other}]"),
		"passes.push.maxTLSVersion must be 1.2 or 1.3, or left out":                                          least + passing + "  push: {maxTLSVersion: \"1.1\"}\n",
		"passes.push.lease must be 5s to 1h":                                                                 least + passing + "  push: {lease: 4s}\n",
		"passes.push.host must be Apple's in production":                                                     production + "  push: {host: push.example}\n",
		"passes.push.endpoints[0].client must be in lower case, and not apple":                               least + passing + "  push: {endpoints: [{client: apple, url: \"https://push.example\"}]}\n",
		"passes.personalizationLease must be longer than api.requestTimeout":                                 least + passing + "  personalizationLease: 15s\n",
		"passes.bundleCacheMiB must be 1 to 65536":                                                           least + passing + "  bundleCacheMiB: -1\n",
		"passesAPI is required in production where both roles are served, or another process: card data do not pass the listener that phones call": strings.Replace(production, "[passes]", "[issuer, passes]", 1),
	} {
		t.Run(want, func(t *testing.T) {
			if diff := cmp.Diff([]string{want}, refused(t, text)); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}
