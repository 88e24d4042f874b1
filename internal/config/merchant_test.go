package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/config"
)

// signing is a client that has merchant JWTs signed, with all that this needs.
const signing = `roles: [issuer, merchant]
merchant:
  audience: mint.example
  audFingerprints: [sha256/x]
  acquirers:
    - name: acquirer
      terminalProfiles:
        - appleTerminalProfileId: "1"
  issuers:
    - tenant: bank-a
      issuer: merchants
      acquirer: acquirer
  proximity:
    issuer: psp
clients:
  - issuer: backend
    tenant: bank-a
    audience: mint.example
    keys:
      - publicKeyFile: backend.pem
    rights:
      - signMerchantTokens
      - createAppleProximityToken
    acquirer: acquirer
    merchantTokens:
      subjects: ["*"]
`

// looks is a listener that looks at certificates.
const looks = "api: {tls: {keyInToken: true, clientCertificates: {issuer: request}}}\n"

// changed is least with signing after it, of which one text is replaced.
func changed(t *testing.T, old, replacement string) string {
	t.Helper()
	if strings.Count(signing, old) != 1 {
		t.Fatalf("%q does not stand in the configuration once", old)
	}
	return least + strings.Replace(signing, old, replacement, 1)
}

func TestEachFaultOfCallersAndMerchantsIsNamedByItsKey(t *testing.T) {
	load(t, least+signing)
	member := func(text string) string {
		return changed(t, "    acquirer: acquirer\n    merchantTokens", "    acquirer: acquirer\n    "+text+"\n    merchantTokens")
	}
	certificate := func(text string) string { return looks + member("certificate: "+text) }
	alone := func(text string) string {
		return looks + least + "clients: [{issuer: i, tenant: t, certificate: {spkiSHA256: [aa]}, " + text + "}]\n"
	}
	merchant := func(text string) string {
		return changed(t, "  audience: mint.example\n  aud", "  audience: mint.example\n  "+text+"\n  aud")
	}
	api := func(tls string) string { return least + "api: {tls: {" + tls + "}}\n" }
	keys := "    keys:\n      - publicKeyFile: backend.pem\n"
	for want, texts := range map[string][]string{
		"roles must be of issuer, merchant and passes":                                   {least + "roles: [issuer, wallet]\n", least + "roles: [issuer, Issuer]\n", least + "roles: [issuer, \"\"]\n"},
		"roles must name at least one role":                                              {least + "roles: []\n"},
		"merchantAPI.listen must be host:port":                                           {changed(t, "roles: ", "merchantAPI: {listen: \"8081\"}\nroles: ")},
		"merchantAPI.tls.keyFile is missing":                                             {changed(t, "roles: ", "merchantAPI: {tls: {certificateFile: c.pem}}\nroles: ")},
		"merchantAPI.requestTimeout must be at least 1s":                                 {changed(t, "roles: ", "merchantAPI: {requestTimeout: 1ms}\nroles: ")},
		"merchantAPI is the listener of the role merchant, which roles does not name":    {least + "merchantAPI: {}\n"},
		"merchantAPI.tls is required where merchantAPI.listen is not a loopback address": {changed(t, "roles: ", "merchantAPI: {listen: \"0.0.0.0:444\"}\nroles: ")},
		"pushProvisioning.nonceLease must be longer than merchantAPI.requestTimeout":     {changed(t, "roles: ", "merchantAPI: {requestTimeout: 60s}\nroles: ")},
		"api.tls.keyInToken takes the place of certificateFile and keyFile; the keyring names the certificate": {
			api("keyInToken: true, certificateFile: c.pem, keyFile: k.pem"), api("keyInToken: true, certificateFile: c.pem"), api("keyInToken: true, keyFile: k.pem"),
		},
		"api.tls.minVersion must be 1.2 or 1.3":                                          {api("keyInToken: true, minVersion: \"1.1\""), api("keyInToken: true, minVersion: TLS1.3"), api("keyInToken: true, minVersion: 1")},
		"api.tls.clientCertificates.passes is no role that this listener serves":         {api("keyInToken: true, clientCertificates: {passes: request}")},
		"api.tls.clientCertificates.merchant is no role that this listener serves":       {api("keyInToken: true, clientCertificates: {merchant: request}"), changed(t, "roles: ", "merchantAPI: {}\napi: {tls: {keyInToken: true, clientCertificates: {merchant: request}}}\nroles: ")},
		"merchantAPI.tls.clientCertificates.issuer is no role that this listener serves": {changed(t, "roles: ", "merchantAPI: {tls: {keyInToken: true, clientCertificates: {issuer: request}}}\nroles: ")},
		"clients[0].certificate or boundTokens has no effect: no listener's tls.clientCertificates looks at certificates, so that the client could not call": {
			least + "clients: [{issuer: i, tenant: t, certificate: {spkiSHA256: [aa]}}]\n", member("boundTokens: true"),
			least + "clients: [{issuer: i, tenant: t, certificate: {spkiSHA256: [aa]}}]\n" + strings.Replace(looks, "request", "\"off\"", 1),
			least + "clients: [{issuer: i, tenant: t, certificate: {spkiSHA256: [aa]}}]\napi: {tls: {keyInToken: true}}\n",
		},
		"clients[0].keys or jwksURL is missing: audience, require, boundTokens, maxLifetime and leeway are of tokens": {
			alone("audience: a"), alone("require: [kid]"), alone("boundTokens: true"), alone("maxLifetime: 1m"), alone("leeway: 1s"),
		},
		"api.tls.clientCertificates.issuer must be off, request or require": {
			api("keyInToken: true, clientCertificates: {issuer: required}"), api("keyInToken: true, clientCertificates: {issuer: \"\"}"), api("keyInToken: true, clientCertificates: {issuer: \"yes\"}"),
		},

		"clients[0].jwksURL takes the place of keys; give one of them": {member("jwksURL: https://keys.example/")},
		"clients[0].audience is missing":                               {changed(t, "    audience: mint.example\n", ""), strings.Replace(changed(t, keys, "    jwksURL: https://keys.example/\n"), "    audience: mint.example\n", "", 1)},
		"clients[0].certificate needs either caFile or spkiSHA256":     {certificate("{}"), certificate("{caFile: ca.pem, dns: d, spkiSHA256: [aa]}"), certificate("{dns: d}")},
		"clients[0].certificate needs exactly one of dns, uri and email with caFile": {
			certificate("{caFile: ca.pem}"), certificate("{caFile: ca.pem, dns: d, uri: u}"), certificate("{caFile: ca.pem, uri: u, email: e}"), certificate("{caFile: ca.pem, dns: d, uri: u, email: e}"),
		},
		"clients[0].certificate takes dns, uri and email with caFile only":           {certificate("{spkiSHA256: [aa], dns: d}"), certificate("{spkiSHA256: [aa], email: d}")},
		"clients[0].require lists what is not kid, typ or jti":                       {member("require: [kid, aud]"), member("require: [JTI]")},
		"clients[0].rights[1].right is missing":                                      {changed(t, "      - signMerchantTokens\n", "      - signMerchantTokens\n      - {subjects: [x]}\n"), changed(t, "      - signMerchantTokens\n", "      - signMerchantTokens\n      - \"\"\n")},
		"clients[0].rateLimit.perSecond must be above 0, or -1 for no limit":         {member("rateLimit: {perSecond: 0}"), member("rateLimit: {perSecond: 0, burst: 0}"), member("rateLimit: {perSecond: -2}"), member("rateLimit: {perSecond: -0.5, burst: 1}"), member("rateLimit: {perSecond: .nan}")},
		"clients[0].rateLimit.burst must be at least 1":                              {member("rateLimit: {burst: 0}"), member("rateLimit: {burst: -1}"), member("rateLimit: {perSecond: 5, burst: -5}")},
		"clients[0].merchantTokens.dailyQuota must be 1 or more, or -1 for no limit": {changed(t, "      subjects: [\"*\"]", "      dailyQuota: -2"), changed(t, "      subjects: [\"*\"]", "      dailyQuota: 0")},
		"clients[0].acquirer is none of merchant.acquirers":                          {changed(t, "    acquirer: acquirer\n    merchantTokens", "    acquirer: Acquirer\n    merchantTokens")},
		"clients[0].merchantTokens is required with the right signMerchantTokens: it bounds what a stolen client can have signed": {
			changed(t, "    merchantTokens:\n      subjects: [\"*\"]\n", ""),
			changed(t, "      - signMerchantTokens\n      - createAppleProximityToken\n    acquirer: acquirer\n    merchantTokens:\n      subjects: [\"*\"]\n", "      - {right: signMerchantTokens, users: [u]}\n"),
		},
		"clients[0].tenant has no iss in merchant.issuers, which the right signMerchantTokens needs": {changed(t, "    tenant: bank-a\n    audience", "    tenant: bank-b\n    audience")},

		"merchant.audFingerprints is required outside development":                    {changed(t, "  audFingerprints: [sha256/x]\n", ""), changed(t, "[sha256/x]", "[]")},
		"merchant.audience is missing":                                                {changed(t, "  audience: mint.example\n  aud", "  aud")},
		"merchant.maxLifetime must be 1s to 24h":                                      {merchant("maxLifetime: 999ms"), merchant("maxLifetime: 24h1s"), merchant("maxLifetime: -15m")},
		"merchant.acquirers[0].name is missing":                                       {least + "merchant: {acquirers: [{}], proximity: {issuer: psp}}\n"},
		"merchant.acquirers[1].name is that of another acquirer":                      {changed(t, "  issuers:\n", "    - name: acquirer\n  issuers:\n")},
		"merchant.acquirers[0].terminalProfiles[1].appleTerminalProfileId is missing": {changed(t, "        - appleTerminalProfileId: \"1\"\n", "        - appleTerminalProfileId: \"1\"\n        - {}\n")},
		"merchant.issuers[0].tenant is missing":                                       {least + "merchant: {audience: a, issuers: [{issuer: i}]}\n"},
		"merchant.issuers[0].issuer is missing":                                       {changed(t, "      issuer: merchants\n", "")},
		"merchant.issuers[1].tenant is that of another issuer":                        {changed(t, "  proximity:\n", "    - {tenant: bank-a, issuer: other}\n  proximity:\n")},
		"merchant.issuers[0].acquirer is none of merchant.acquirers":                  {changed(t, "      acquirer: acquirer\n  proximity", "      acquirer: other\n  proximity")},
		"merchant.issuers[0].rights[0] can only be createAppleProximityToken: whoever has merchant JWTs signed chooses their sub": {
			changed(t, "      issuer: merchants\n", "      issuer: merchants\n      rights: [signCards]\n"), changed(t, "      issuer: merchants\n", "      issuer: merchants\n      rights: [{users: [u]}]\n"),
		},
		"clients[0].merchantTokens has no effect without the right signMerchantTokens":  {changed(t, "      - signMerchantTokens\n", "")},
		"clients[0].acquirer has no effect without the right createAppleProximityToken": {changed(t, "      - createAppleProximityToken\n", "")},
		"outbound.allowPrivate[1] must be a network such as 10.1.0.0/16":                {least + "outbound: {allowPrivate: [10.0.0.0/8, 10.0.0.1]}\n", least + "outbound: {allowPrivate: [\"fd00::/8\", all]}\n"},
		"merchant.issuers[0].rateLimit.burst must be at least 1":                        {changed(t, "      issuer: merchants\n", "      issuer: merchants\n      rateLimit: {burst: -3}\n")},
		"merchant.proximity.issuer is missing": {
			changed(t, "    issuer: psp\n", "    {}\n"), changed(t, "    issuer: psp\n", "    claims: {x: $issuer}\n"), changed(t, "  proximity:\n    issuer: psp\n", ""),
		},
		"outbound.timeout must be at least 100ms": {least + "outbound: {timeout: 99ms}\n", least + "outbound: {timeout: -1s}\n"},
	} {
		for i, text := range texts {
			t.Run(fmt.Sprintf("%s %d", want, i), func(t *testing.T) {
				if diff := cmp.Diff([]string{want}, refused(t, text)); diff != "" {
					t.Errorf("refusal (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// What one part may leave out another may need: these are all in order.
func TestWhatIsNotNeededMayBeLeftOut(t *testing.T) {
	for name, text := range map[string]string{
		"an acquirer without terminals":           changed(t, "      terminalProfiles:\n        - appleTerminalProfileId: \"1\"\n", ""),
		"an issuer without an acquirer":           changed(t, "      acquirer: acquirer\n  proximity", "  proximity"),
		"no $issuer without the claim":            changed(t, "    issuer: psp\n", "    claims: {jti: $jwtId}\n"),
		"a client by certificate alone":           looks + least + "clients: [{issuer: i, tenant: t, certificate: {spkiSHA256: [aa]}}]\n",
		"bound tokens":                            looks + least + client + "    boundTokens: true\n",
		"fingerprints without the role":           least + "merchant: {audience: a}\n",
		"fingerprints in development":             strings.Replace(changed(t, "  audFingerprints: [sha256/x]\n", ""), "environment: test", "environment: development", 1),
		"one tenant, two clients, one issuer":     least + signing + "  - {issuer: second, tenant: bank-a, audience: a, keys: [{publicKeyFile: k}], rights: [signMerchantTokens], merchantTokens: {}}\n",
		"two tenants, an issuer each":             changed(t, "  proximity:\n", "    - {tenant: bank-b, issuer: other}\n  proximity:\n"),
		"the merchant role alone":                 strings.Replace(changed(t, "[issuer, merchant]", "[merchant]"), "pushProvisioning:\n  testRootFile: root.pem\n", "", 1),
		"TLS in the token":                        least + "api: {listen: \"0.0.0.0:443\", tls: {keyInToken: true}}\n",
		"a listener of a role that is not served": strings.Replace(changed(t, "[issuer, merchant]", "[merchant]"), "roles: ", "merchantAPI: {tls: {keyInToken: true}}\napi: {listen: nowhere}\nroles: ", 1),
		"a rate without limit takes no burst":     least + client + "    rateLimit: {perSecond: -1}\n",
	} {
		t.Run(name, func(t *testing.T) { load(t, text) })
	}
}

func TestDefaultsOfCallersAndMerchants(t *testing.T) {
	for text, want := range map[string]config.RateLimit{
		"{}":                          {PerSecond: 100, Burst: 200},
		"{perSecond: 10}":             {PerSecond: 10, Burst: 20},
		"{perSecond: 0.2}":            {PerSecond: 0.2, Burst: 1},
		"{burst: 7}":                  {PerSecond: 100, Burst: 7},
		"{perSecond: 3, burst: 1}":    {PerSecond: 3, Burst: 1},
		"{perSecond: -1}":             {PerSecond: -1},
		"{perSecond: -1, burst: 100}": {PerSecond: -1, Burst: 100},
	} {
		c := load(t, least+client+"    rateLimit: "+text+"\nmerchant: {audience: a, issuers: [{tenant: t, issuer: i, rateLimit: "+text+"}]}\n")
		if c.Clients[0].RateLimit != want || c.Merchant.Issuers[0].RateLimit != want {
			t.Errorf("%s gives %+v and %+v", text, c.Clients[0].RateLimit, c.Merchant.Issuers[0].RateLimit)
		}
		if unlimited := c.Clients[0].RateLimit.Unlimited(); unlimited != (want.PerSecond == -1) {
			t.Errorf("%s is unlimited: %v", text, unlimited)
		}
	}
	for text, want := range map[string]int{"{}": 10000, "{dailyQuota: 1}": 1, "{dailyQuota: -1}": 0} {
		c := load(t, changed(t, "    merchantTokens:\n      subjects: [\"*\"]\n", "    merchantTokens: "+text+"\n"))
		if got := c.Clients[0].MerchantTokens.Daily(); got != want {
			t.Errorf("%s gives %d a day, want %d", text, got, want)
		}
	}
	// The merchant JWTs of an issuer obtain proximity tokens here, unless its list says
	// otherwise, and an empty one does.
	for text, want := range map[string][]config.Grant{
		"":             {{Right: "createAppleProximityToken"}},
		", rights: []": {},
		", rights: [{right: createAppleProximityToken, subjects: [a]}]": {{Right: "createAppleProximityToken", Subjects: []string{"a"}}},
	} {
		c := load(t, least+"merchant: {audience: a, issuers: [{tenant: t, issuer: i"+text+"}]}\n")
		if diff := cmp.Diff(want, *c.Merchant.Issuers[0].Rights); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// A listener of its own takes what is not said of it from the shared one.
func TestMerchantListenerTakesTheRequestTimeoutOfTheAPI(t *testing.T) {
	c := load(t, least+signing+"api: {requestTimeout: 7s}\nmerchantAPI: {}\n")
	if c.MerchantAPI.Listen != "127.0.0.1:8081" || c.MerchantAPI.RequestTimeout != 7*time.Second || c.MerchantAPI.TLS != nil {
		t.Errorf("merchantAPI %+v", c.MerchantAPI)
	}
}

func TestRolesAndTheirListeners(t *testing.T) {
	for name, test := range map[string]struct {
		text       string
		roles      []string
		api, other []string // roles on each listener
	}{
		"none named":                  {least, []string{"issuer"}, []string{"issuer"}, nil},
		"both on one":                 {least + signing, []string{"issuer", "merchant"}, []string{"issuer", "merchant"}, nil},
		"each its own":                {least + signing + "merchantAPI: {}\n", []string{"issuer", "merchant"}, []string{"issuer"}, []string{"merchant"}},
		"merchant alone":              {changed(t, "[issuer, merchant]", "[merchant]"), []string{"merchant"}, []string{"merchant"}, nil},
		"merchant alone, on its own":  {changed(t, "[issuer, merchant]", "[merchant]") + "merchantAPI: {}\n", []string{"merchant"}, nil, []string{"merchant"}},
		"issuer alone, by the others": {changed(t, "[issuer, merchant]", "[issuer]"), []string{"issuer"}, []string{"issuer"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, test.text)
			for _, role := range config.Roles() {
				if has := c.HasRole(role); has != slices.Contains(test.roles, role) {
					t.Errorf("role %s: %v", role, has)
				}
			}
			if c.HasRole("wallet") || c.HasRole("") {
				t.Error("has a role that nobody named")
			}
			want := map[string][]string{"api": test.api, "merchantAPI": test.other}
			var names []string
			for _, l := range c.Listeners() {
				names = append(names, l.Name)
				if diff := cmp.Diff(want[l.Name], l.Roles); diff != "" || len(l.Roles) == 0 {
					t.Errorf("%s has other roles (-want +got):\n%s", l.Name, diff)
				}
				if own := map[string]*config.API{"api": &c.API, "merchantAPI": c.MerchantAPI}[l.Name]; l.API != own {
					t.Errorf("%s is not its section", l.Name)
				}
			}
			var served []string // in this order
			for _, name := range []string{"api", "merchantAPI"} {
				if len(want[name]) > 0 {
					served = append(served, name)
				}
			}
			if !slices.Equal(names, served) {
				t.Errorf("listeners %q, want %q", names, served)
			}
		})
	}
}

// The command line decides last, and is checked as the file is.
func TestRolesCanBeOverridden(t *testing.T) {
	c, err := config.LoadFor(file(t, least+signing), nil, []string{"merchant"})
	if err != nil || c.HasRole("issuer") || !c.HasRole("merchant") {
		t.Errorf("roles %v, %v", c, err)
	}
	for _, roles := range [][]string{{}, {"wallet"}, {"merchant", "admin"}} {
		if _, err := config.LoadFor(file(t, least+signing), nil, roles); err == nil || !strings.Contains(err.Error(), ": roles must ") {
			t.Errorf("%v is refused with %v", roles, err)
		}
	}
	production := strings.NewReplacer("environment: test", "environment: production", "pushProvisioning:\n  testRootFile: root.pem\n", "").Replace(least) + signing + anchored
	want := "merchantAPI is required in production where both roles are served, or another process: card data do not pass the listener that apps call"
	if _, err := config.LoadFor(file(t, production), nil, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("refused with %v", err)
	}
	// One of the roles by itself is well, whatever the file says.
	if _, err := config.LoadFor(file(t, production), nil, []string{"issuer"}); err != nil {
		t.Error(err)
	}
}

// Card data do not pass the listener that merchants' apps call.
func TestProductionKeepsTheRolesApart(t *testing.T) {
	production := strings.NewReplacer("environment: test", "environment: production", "pushProvisioning:\n  testRootFile: root.pem\n", "").Replace(least+signing) + anchored
	want := []string{"merchantAPI is required in production where both roles are served, or another process: card data do not pass the listener that apps call"}
	if diff := cmp.Diff(want, refused(t, production)); diff != "" {
		t.Error(diff)
	}
	load(t, production+"merchantAPI: {listen: \"127.0.0.1:1\"}\n")
	for _, role := range []string{config.RoleIssuer, config.RoleMerchant} {
		load(t, strings.Replace(production, "[issuer, merchant]", "["+role+"]", 1))
	}
}

// A right is a name, or a mapping that narrows it; in a list both may stand.
func TestRightsAreTextOrMapping(t *testing.T) {
	rights := func(list string) string { return least + client + "    rights:\n" + list }
	c := load(t, rights("      - signCards\n      - right: createAppleProximityToken\n        users: [a, b*]\n        singleUse: true\n      - {right: x, keys: [k], subjects: [s]}\n      - \"quoted\"\n"))
	want := []config.Grant{
		{Right: "signCards"},
		{Right: "createAppleProximityToken", Users: []string{"a", "b*"}, SingleUse: true},
		{Right: "x", Keys: []string{"k"}, Subjects: []string{"s"}},
		{Right: "quoted"},
	}
	if diff := cmp.Diff(want, c.Clients[0].Rights); diff != "" {
		t.Errorf("rights (-want +got):\n%s", diff)
	}
	lines := strings.Count(rights(""), "\n")
	for name, test := range map[string]struct {
		list string
		line int // of the list
		says string
	}{
		"an unknown member":                 {"      - right: signCards\n        users: [a]\n        tenant: b\n", 3, "tenant"},
		"an unknown member, in a flow":      {"      - signCards\n      - {right: signCards, user: [a]}\n", 2, "user"},
		"a member in another case":          {"      - right: signCards\n        singleuse: true\n", 2, "singleuse"},
		"a member twice":                    {"      - right: signCards\n        right: signCards\n", 2, "right"},
		"a list of lists":                   {"      - [signCards]\n", 1, ""},
		"a text for a list of users":        {"      - right: signCards\n        users: a\n", 2, ""},
		"a text where a yes or no is meant": {"      - right: signCards\n        singleUse: often\n", 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(refused(t, rights(test.list)), "\n")
			if !strings.Contains(got, fmt.Sprintf("[%d:", lines+test.line)) || !strings.Contains(got, test.says) {
				t.Errorf("want line %d and %q in:\n%s", lines+test.line, test.says, got)
			}
		})
	}
}

// Sections that may be absent can come from the environment alone, and are not made by a
// variable that says nothing.
func TestAbsentSectionsCanBeSetByTheEnvironment(t *testing.T) {
	const tls = "MINTMARK_API_TLS_KEY_IN_TOKEN"
	for name, test := range map[string]struct {
		environ  []string
		api, own *config.TLS
		listen   string // of merchantAPI, empty if there is none
	}{
		"nothing":                      {nil, nil, nil, ""},
		"a yes":                        {[]string{tls + "=true"}, &config.TLS{KeyInToken: true, MinVersion: "1.3"}, nil, ""},
		"a yes, written as one":        {[]string{tls + "=1"}, &config.TLS{KeyInToken: true, MinVersion: "1.3"}, nil, ""},
		"a no":                         {[]string{tls + "=false"}, nil, nil, ""},
		"empty texts":                  {[]string{"MINTMARK_API_TLS_KEY_FILE=", "MINTMARK_MERCHANT_API_LISTEN=", "MINTMARK_MERCHANT_API_TLS_MIN_VERSION="}, nil, nil, ""},
		"the merchant listener":        {[]string{"MINTMARK_MERCHANT_API_LISTEN=[::1]:7"}, nil, nil, "[::1]:7"},
		"its timeout alone":            {[]string{"MINTMARK_MERCHANT_API_REQUEST_TIMEOUT=9s"}, nil, nil, "127.0.0.1:8081"},
		"its TLS":                      {[]string{"MINTMARK_MERCHANT_API_TLS_KEY_IN_TOKEN=true", "MINTMARK_MERCHANT_API_TLS_MIN_VERSION=1.2"}, nil, &config.TLS{KeyInToken: true, MinVersion: "1.2"}, "127.0.0.1:8081"},
		"the TLS of both":              {[]string{tls + "=T", "MINTMARK_MERCHANT_API_TLS_KEY_IN_TOKEN=t"}, &config.TLS{KeyInToken: true, MinVersion: "1.3"}, &config.TLS{KeyInToken: true, MinVersion: "1.3"}, "127.0.0.1:8081"},
		"outbound, which is no option": {[]string{"MINTMARK_OUTBOUND_TIMEOUT=2s"}, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, least+signing, test.environ...)
			if diff := cmp.Diff(test.api, c.API.TLS); diff != "" {
				t.Errorf("api.tls: %s", diff)
			}
			if (c.MerchantAPI != nil) != (test.listen != "") {
				t.Fatalf("merchantAPI is %+v", c.MerchantAPI)
			}
			if c.MerchantAPI != nil {
				if diff := cmp.Diff(test.own, c.MerchantAPI.TLS); diff != "" || c.MerchantAPI.Listen != test.listen {
					t.Errorf("merchantAPI on %s: %s", c.MerchantAPI.Listen, diff)
				}
			}
			if len(c.Ignored()) != 0 {
				t.Errorf("ignored %v", c.Ignored())
			}
		})
	}
	want := []string{"environment: " + tls + ": must be true or false"}
	for _, value := range []string{"", "yes", "2", "on"} {
		if diff := cmp.Diff(want, refused(t, least, tls+"="+value)); diff != "" {
			t.Errorf("%q: %s", value, diff)
		}
	}
	// What the file says stays, but for what the variable names.
	c := load(t, least+signing+"merchantAPI: {listen: \"[::1]:9\", requestTimeout: 3s, tls: {keyInToken: true}}\n", "MINTMARK_MERCHANT_API_TLS_KEY_IN_TOKEN=false", "MINTMARK_MERCHANT_API_TLS_KEY_FILE=/k", "MINTMARK_MERCHANT_API_TLS_CERTIFICATE_FILE=/c")
	if diff := cmp.Diff(&config.API{Listen: "[::1]:9", RequestTimeout: 3 * time.Second, TLS: &config.TLS{CertificateFile: "/c", KeyFile: "/k", MinVersion: "1.3"}}, c.MerchantAPI); diff != "" {
		t.Error(diff)
	}
}

func TestMerchantsCanBeSetByTheEnvironment(t *testing.T) {
	c := load(t, least+signing, "MINTMARK_MERCHANT_AUDIENCE=other.example", "MINTMARK_MERCHANT_MAX_LIFETIME=30m", "MINTMARK_MERCHANT_PROXIMITY_ISSUER=me",
		"MINTMARK_OUTBOUND_TIMEOUT=1s", "MINTMARK_OUTBOUND_CA_FILE=/roots.pem")
	got := []any{c.Merchant.Audience, c.Merchant.MaxLifetime, c.Merchant.Proximity.Issuer, c.Outbound.Timeout, c.Outbound.CAFile}
	if diff := cmp.Diff([]any{"other.example", 30 * time.Minute, "me", time.Second, "/roots.pem"}, got); diff != "" {
		t.Error(diff)
	}
}

// Two readings that say the same are the same, whatever file they stand in.
func TestConfigurationsAreComparedByWhatTheySay(t *testing.T) {
	a, b := load(t, least+signing).WithoutDigest(), load(t, "# the same\n"+least+signing, "MINTMARK_SERVICE_HOST=x").WithoutDigest()
	if a.Digest() != "" || b.Digest() != "" || len(b.Ignored()) != 0 {
		t.Errorf("digests %q, %q, ignored %v", a.Digest(), b.Digest(), b.Ignored())
	}
	for _, c := range []*config.Config{&a, &b} { // paths are from the file's folder
		c.Keyring, c.DataDir, c.Store.SQLite, c.PushProvisioning.TestRootFile, c.Clients[0].Keys[0].PublicKeyFile = "", "", "", "", ""
	}
	if diff := cmp.Diff(a, b, cmp.AllowUnexported(config.Config{})); diff != "" {
		t.Error(diff)
	}
}
