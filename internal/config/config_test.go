package config_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mintmark/mintmark/internal/config"
)

// least is the shortest configuration that is in order.
const least = `environment: test
hsm:
  members:
    - name: hsm-a
      module: /lib/pkcs11.so
      tokenLabel: cards
      pinFile: /run/pin
keyring: keyring.yaml
store:
  sqlite: mintmark.db
pushProvisioning:
  testRootFile: root.pem
`

// client is a client to put after it.
const client = `clients:
  - issuer: https://issuer.example
    tenant: bank-a
    audience: mint.example
    keys:
      - kid: "2026-07"
        publicKeyFile: issuer.pem
`

// file writes a configuration and gives its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mintmark.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Load(file(t, text), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused gives what is wrong, one line each.
func refused(t *testing.T, text string, environ ...string) []string {
	t.Helper()
	path := file(t, text)
	c, err := config.Load(path, environ)
	if err == nil {
		t.Fatalf("taken: %+v", c)
	}
	lines, ok := strings.CutPrefix(err.Error(), "configuration "+path+": ")
	if !ok {
		t.Fatalf("the error does not name the file: %v", err)
	}
	return strings.Split(lines, "\n")
}

// with is least with a line replaced, or removed if new is empty.
func with(t *testing.T, old, replacement string) string {
	t.Helper()
	if strings.Count(least+client, old) != 1 {
		t.Fatalf("%q does not stand in the configuration once", old)
	}
	return strings.Replace(least+client, old, replacement, 1)
}

func TestDefaultsFillWhatIsLeftOut(t *testing.T) {
	path := file(t, least+client)
	c, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	want := &config.Config{
		Environment: "test",
		Roles:       []string{"issuer"},
		API:         config.API{Listen: "127.0.0.1:8080", RequestTimeout: 15 * time.Second},
		Admin:       config.Admin{Listen: "127.0.0.1:9090"},
		HSM: config.HSM{
			Policy: "failover", Isolation: "none", CallTimeout: 10 * time.Second, DrainTimeout: 5 * time.Second, KeepAlive: time.Minute,
			Members: []config.Member{{Name: "hsm-a", Module: "/lib/pkcs11.so", TokenLabel: "cards", PINFile: "/run/pin"}},
		},
		Keyring: filepath.Join(dir, "keyring.yaml"),
		DataDir: dir,
		Store:   config.Store{SQLite: filepath.Join(dir, "mintmark.db")},
		Clients: []config.Client{{
			Issuer: "https://issuer.example", Tenant: "bank-a", Audience: "mint.example",
			Keys:        []config.ClientKey{{ID: "2026-07", PublicKeyFile: filepath.Join(dir, "issuer.pem")}},
			RateLimit:   config.RateLimit{PerSecond: 100, Burst: 200},
			MaxLifetime: 15 * time.Minute, Leeway: 10 * time.Second,
		}},
		Merchant: config.Merchant{MaxLifetime: 15 * time.Minute},
		Passes: config.Passes{
			BundleCacheMiB: 8, FileCacheMiB: 8, MaxFiles: 10000, MaxFilesMiB: 1024, MaxRegistrations: 10000, PersonalizationLease: time.Minute, Push: config.PassPush{Host: "api.push.apple.com", Lease: time.Minute},
		},
		Outbound: config.Outbound{Timeout: 5 * time.Second},
		PushProvisioning: config.PushProvisioning{
			TestRootFile: filepath.Join(dir, "root.pem"), NonceLease: time.Minute, NonceLength: 4, NonceSignatureLength: 81,
			TAV:       config.TAV{Version: "3", Validity: 30 * time.Minute},
			Decisions: usualDecisions, Passcodes: usualPasscodes,
		},
		Audit:       config.Audit{Log: "mintmark", Every: time.Second, MaxUnsigned: 10_000, MaxUnsignedAge: time.Minute, MinFree: 64},
		DualControl: config.DualControl{Within: 24 * time.Hour, Identity: "client"},
		Tracing:     config.Tracing{Percent: 100},
		Log:         config.Log{Level: "info", Format: "json"},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	sum := sha256.Sum256([]byte(least + client))
	if c.Digest() != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s is not the file's", c.Digest())
	}
	if len(c.Ignored()) != 0 {
		t.Errorf("ignored %v", c.Ignored())
	}
}

// usual is the rate limit of a client of which nothing is said.
var usual = config.RateLimit{PerSecond: 100, Burst: 200}

func TestEveryFieldCanBeSetInTheFile(t *testing.T) {
	c := load(t, `
environment: test
roles: [merchant, issuer]
api:
  listen: "0.0.0.0:443"
  requestTimeout: 20s
  tls: {certificateFile: /c.pem, keyFile: /k.pem, minVersion: "1.2", clientCertificates: {issuer: require}}
merchantAPI: {listen: "0.0.0.0:444", requestTimeout: 21s, tls: {keyInToken: true, clientCertificates: {merchant: request}}}
admin: {listen: "[::1]:9", hosts: [admin.example]}
shutdownDelay: 7s
hsm:
  policy: spread
  isolation: process
  callTimeout: 3s
  drainTimeout: 4s
  keepAlive: 5s
  environment: {SOFTHSM2_CONF: /etc/softhsm2.conf}
  members:
    - {name: a, module: /m.so, tokenLabel: l, tokenSerial: "0123", pinFile: /pin, signaturesOnly: true, rsaConcurrency: 7, ecConcurrency: 1024}
keyring: /k.yaml
store: {sqlite: /db}
dataDir: /data
clients:
  - {issuer: i, tenant: t, audience: a, rights: [signCards], maxLifetime: 5m, leeway: 1s, keys: [{kid: k, publicKeyFile: /p.pem}]}
  - issuer: j
    tenant: t
    audience: a
    jwksURL: https://keys.example/jwks.json
    certificate: {caFile: /ca.pem, dns: desk.example, subject: desk}
    boundTokens: true
    require: [kid, typ, jti]
    rights:
      - {right: signMerchantTokens, subjects: [s*], users: [u, "*v"], keys: [k], singleUse: true}
      - createAppleProximityToken
    rateLimit: {perSecond: 0.5, burst: 3}
    merchantTokens: {subjects: ["*"], audiences: [kernel.example], businessNames: [Shop*], categoryCodes: ["54*"], dailyQuota: -1}
    acquirer: acq
  - {issuer: pinned, tenant: t, certificate: {spkiSHA256: [00ff]}}
  - {issuer: uri, tenant: t, certificate: {caFile: /ca.pem, uri: "spiffe://x"}}
  - {issuer: mail, tenant: t, certificate: {caFile: /ca.pem, email: x@y}}
pushProvisioning: {testRootFile: /r.pem, nonceLease: 2m, nonceLength: 8, nonceSignatureLength: 96, tav: {version: 4, keyAlias: MC-1, validity: 720h}}
merchant:
  maxLifetime: 1h
  audience: mint.example
  audFingerprints: [sha256/AAAA]
  issuers:
    - {tenant: t, issuer: merchants, acquirer: acq, rights: [{right: createAppleProximityToken, users: [u]}], rateLimit: {perSecond: -1}}
  acquirers:
    - {name: acq, terminalProfiles: [{appleTerminalProfileId: "1"}, {appleTerminalProfileId: "2"}]}
  proximity: {issuer: psp, claims: {iss: $issuer, jti: $jwtId}}
outbound: {timeout: 1s, allowPrivate: [10.0.0.0/8], caFile: /roots.pem}
log: {level: debug, format: text}
dualControl: {within: 2h, identity: subject}
console: {enabled: true, hosts: [console.example, "::1"], listener: {listen: "0.0.0.0:445", tls: {certificateFile: /c.pem, keyFile: /k.pem}}}
tracing: {endpoint: "http://127.0.0.1:4318", percent: 5, acceptParent: true}
audit:
  {log: bank.example/log, every: 2s, maxUnsigned: 3, maxUnsignedAge: 4s, minFree: 5, retention: 9000h,
   anchors: [{file: /anchor}, {syslog: "tls://log.example:6514", caFile: /ca.pem}, {webhook: "https://witness.example/log"}]}
`)
	want := &config.Config{
		Environment: "test",
		Roles:       []string{"merchant", "issuer"},
		API: config.API{Listen: "0.0.0.0:443", RequestTimeout: 20 * time.Second, TLS: &config.TLS{
			CertificateFile: "/c.pem", KeyFile: "/k.pem", MinVersion: "1.2", ClientCertificates: map[string]string{"issuer": "require"},
		}},
		MerchantAPI: &config.API{Listen: "0.0.0.0:444", RequestTimeout: 21 * time.Second, TLS: &config.TLS{
			KeyInToken: true, MinVersion: "1.3", ClientCertificates: map[string]string{"merchant": "request"},
		}},
		Admin: config.Admin{Listen: "[::1]:9", Hosts: []string{"admin.example"}}, ShutdownDelay: 7 * time.Second,
		HSM: config.HSM{
			Policy:      "spread",
			Isolation:   "process",
			CallTimeout: 3 * time.Second, DrainTimeout: 4 * time.Second, KeepAlive: 5 * time.Second,
			Environment: map[string]string{"SOFTHSM2_CONF": "/etc/softhsm2.conf"},
			Members:     []config.Member{{Name: "a", Module: "/m.so", TokenLabel: "l", TokenSerial: "0123", PINFile: "/pin", SignaturesOnly: true, RSAConcurrency: 7, ECConcurrency: 1024}},
		},
		Keyring: "/k.yaml",
		Store:   config.Store{SQLite: "/db"},
		DataDir: "/data",
		Clients: []config.Client{{
			Issuer: "i", Tenant: "t", Audience: "a", Rights: []config.Grant{{Right: "signCards"}}, MaxLifetime: 5 * time.Minute, Leeway: time.Second,
			Keys: []config.ClientKey{{ID: "k", PublicKeyFile: "/p.pem"}}, RateLimit: usual,
		}, {
			Issuer: "j", Tenant: "t", Audience: "a", JWKSURL: "https://keys.example/jwks.json",
			Certificate: &config.ClientCertificate{CAFile: "/ca.pem", DNS: "desk.example", Subject: "desk"},
			BoundTokens: true, Require: []string{"kid", "typ", "jti"},
			Rights: []config.Grant{
				{Right: "signMerchantTokens", Subjects: []string{"s*"}, Users: []string{"u", "*v"}, Keys: []string{"k"}, SingleUse: true},
				{Right: "createAppleProximityToken"},
			},
			RateLimit: config.RateLimit{PerSecond: 0.5, Burst: 3},
			MerchantTokens: &config.MerchantTokens{
				Subjects: []string{"*"}, Audiences: []string{"kernel.example"}, BusinessNames: []string{"Shop*"}, CategoryCodes: []string{"54*"}, DailyQuota: -1,
			},
			Acquirer: "acq", MaxLifetime: 15 * time.Minute, Leeway: 10 * time.Second,
		}, {
			Issuer: "pinned", Tenant: "t", Certificate: &config.ClientCertificate{SPKISHA256: []string{"00ff"}},
			RateLimit: usual, MaxLifetime: 15 * time.Minute, Leeway: 10 * time.Second,
		}, {
			Issuer: "uri", Tenant: "t", Certificate: &config.ClientCertificate{CAFile: "/ca.pem", URI: "spiffe://x"},
			RateLimit: usual, MaxLifetime: 15 * time.Minute, Leeway: 10 * time.Second,
		}, {
			Issuer: "mail", Tenant: "t", Certificate: &config.ClientCertificate{CAFile: "/ca.pem", Email: "x@y"},
			RateLimit: usual, MaxLifetime: 15 * time.Minute, Leeway: 10 * time.Second,
		}},
		Passes: config.Passes{
			BundleCacheMiB: 8, FileCacheMiB: 8, MaxFiles: 10000, MaxFilesMiB: 1024, MaxRegistrations: 10000, PersonalizationLease: time.Minute, Push: config.PassPush{Host: "api.push.apple.com", Lease: time.Minute},
		},
		Merchant: config.Merchant{
			MaxLifetime: time.Hour, Audience: "mint.example", AudFingerprints: []string{"sha256/AAAA"},
			Issuers: []config.MerchantIssuer{{
				Tenant: "t", Issuer: "merchants", Acquirer: "acq", RateLimit: config.RateLimit{PerSecond: -1},
				Rights: &[]config.Grant{{Right: "createAppleProximityToken", Users: []string{"u"}}},
			}},
			Acquirers: []config.Acquirer{{Name: "acq", TerminalProfiles: []config.TerminalProfile{{AppleTerminalProfileID: "1"}, {AppleTerminalProfileID: "2"}}}},
			Proximity: config.Proximity{Issuer: "psp", Claims: map[string]string{"iss": "$issuer", "jti": "$jwtId"}},
		},
		Outbound: config.Outbound{Timeout: time.Second, AllowPrivate: []string{"10.0.0.0/8"}, CAFile: "/roots.pem"},
		PushProvisioning: config.PushProvisioning{
			TestRootFile: "/r.pem", NonceLease: 2 * time.Minute, NonceLength: 8, NonceSignatureLength: 96,
			TAV:       config.TAV{Version: "4", KeyAlias: "MC-1", Validity: 720 * time.Hour},
			Decisions: usualDecisions, Passcodes: usualPasscodes,
		},
		Log:         config.Log{Level: "debug", Format: "text"},
		DualControl: config.DualControl{Within: 2 * time.Hour, Identity: "subject"},
		Console: config.Console{Enabled: true, Hosts: []string{"console.example", "::1"}, Listener: &config.API{
			Listen: "0.0.0.0:445", RequestTimeout: 20 * time.Second,
			TLS: &config.TLS{CertificateFile: "/c.pem", KeyFile: "/k.pem", MinVersion: "1.3", ClientCertificates: map[string]string{"console": "require"}},
		}},
		Tracing: config.Tracing{Endpoint: "http://127.0.0.1:4318", Percent: 5, AcceptParent: true},
		Audit: config.Audit{
			Log: "bank.example/log", Every: 2 * time.Second, MaxUnsigned: 3, MaxUnsignedAge: 4 * time.Second, MinFree: 5, Retention: 9000 * time.Hour,
			Anchors: []config.Anchor{{File: "/anchor"}, {Syslog: "tls://log.example:6514", CAFile: "/ca.pem"}, {Webhook: "https://witness.example/log"}},
		},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// Whatever is wrong is said in the words of the file, so that the operator finds it.
func TestEachFaultIsNamedByItsKey(t *testing.T) {
	tls := "api: {listen: \"0.0.0.0:443\", tls: {certificateFile: c.pem, keyFile: k.pem}}\n"
	push := func(text string) string {
		return with(t, "  testRootFile: root.pem\n", "  testRootFile: root.pem\n  "+text+"\n")
	}
	member := func(text string) string {
		return with(t, "      pinFile: /run/pin\n", "      pinFile: /run/pin\n      "+text+"\n")
	}
	for want, texts := range map[string][]string{
		"environment must be development, test or production; it has no default": {
			with(t, "environment: test\n", ""), with(t, "environment: test", "environment: prod"), with(t, "environment: test", "environment: Test"),
		},
		"api.listen must be host:port":                                   {least + "api: {listen: \"8080\"}\n", least + "api: {listen: \"::1:8080\"}\n", least + "api: {listen: localhost}\n"},
		"api.tls is required where api.listen is not a loopback address": {least + "api: {listen: \"0.0.0.0:8080\"}\n", least + "api: {listen: \":8080\"}\n", least + "api: {listen: \"[::]:8080\"}\n", least + "api: {listen: \"mint.example:443\"}\n", least + "api: {listen: \"192.0.2.1:443\"}\n", least + "api: {listen: \"localhost.example:443\"}\n"},
		"api.tls.certificateFile is missing":                             {strings.Replace(tls, "certificateFile: c.pem, ", "", 1) + least},
		"api.tls.keyFile is missing":                                     {strings.Replace(tls, ", keyFile: k.pem", "", 1) + least, least + "api: {tls: {certificateFile: c.pem}}\n"},
		"shutdownDelay must be 0 to 5m":                                  {least + "shutdownDelay: 301s\n", least + "shutdownDelay: -1s\n"},
		"api.requestTimeout must be at least 1s":                         {least + "api: {requestTimeout: 999ms}\n", least + "api: {requestTimeout: -1s}\n"},
		"admin.listen must be host:port of a loopback address":           {least + "admin: {listen: \"0.0.0.0:9090\"}\n", least + "admin: {listen: \":9090\"}\n", least + "admin: {listen: \"9090\"}\n", least + "admin: {listen: \"[::]:9090\"}\n"},
		"admin.hosts[1] must be a name or an address, without a port":    {least + "admin: {hosts: [a, \"b:9090\"]}\n", least + "admin: {hosts: [a, \"\"]}\n"},
		"hsm.members[0].name is missing":                                 {with(t, "name: hsm-a\n      module", "module")},
		"hsm.members[0].module is missing":                               {with(t, "      module: /lib/pkcs11.so\n", "")},
		"hsm.members[0].pinFile is missing":                              {with(t, "      pinFile: /run/pin\n", "")},
		"hsm.members[0].tokenLabel or tokenSerial is required":           {with(t, "      tokenLabel: cards\n", "")},
		"hsm.members[0].rsaConcurrency must be 1 to 1024, or left out":   {member("rsaConcurrency: -1"), member("rsaConcurrency: 1025")},
		"hsm.members[0].ecConcurrency must be 1 to 1024, or left out":    {member("ecConcurrency: -1"), member("ecConcurrency: 1025")},
		"keyring is missing":                                             {with(t, "keyring: keyring.yaml\n", "")},
		"store must name one of sqlite and postgres.dsnFile":             {with(t, "  sqlite: mintmark.db\n", "  {}\n"), with(t, "  sqlite: mintmark.db\n", "  sqlite: mintmark.db\n  postgres: {dsnFile: dsn}\ndataDir: d\n")},
		"dataDir is missing":                                             {with(t, "  sqlite: mintmark.db\n", "  postgres: {dsnFile: dsn}\n")},
		"clients[0].issuer is missing":                                   {with(t, "- issuer: https://issuer.example\n    tenant", "- tenant")},
		"clients[0].tenant is missing":                                   {with(t, "    tenant: bank-a\n", "")},
		"clients[0].audience is missing":                                 {with(t, "    audience: mint.example\n", "")},
		"clients[0].keys must name at least one key, or jwksURL or certificate say how the client proves itself": {with(t, "    keys:\n      - kid: \"2026-07\"\n        publicKeyFile: issuer.pem\n", "")},
		"clients[0].keys[0].publicKeyFile is missing":                                                            {with(t, "        publicKeyFile: issuer.pem\n", "")},
		"pushProvisioning.testRootFile is required outside production":                                           {with(t, "  testRootFile: root.pem\n", "  {}\n"), with(t, "pushProvisioning:\n  testRootFile: root.pem\n", "")},
		"pushProvisioning.nonceLease must be longer than api.requestTimeout":                                     {push("nonceLease: 15s"), push("nonceLease: -1m"), least + "api: {requestTimeout: 60s}\n"},
		"pushProvisioning.nonceLength must be 1 to 64":                                                           {push("nonceLength: -1"), push("nonceLength: 65")},
		"pushProvisioning.nonceSignatureLength must be 1 to 512":                                                 {push("nonceSignatureLength: -1"), push("nonceSignatureLength: 513")},
		"pushProvisioning.tav.version must be 3 or 4":                                                            {push("tav: {version: \"5\"}"), push("tav: {version: 2}")},
		"pushProvisioning.tav.keyAlias is required for version 4, and for no other":                              {push("tav: {version: \"4\"}"), push("tav: {version: \"3\", keyAlias: A}"), push("tav: {keyAlias: A}")},
		"pushProvisioning.tav.validity must be positive and at most 720h":                                        {push("tav: {validity: -1s}"), push("tav: {validity: 721h}")},
		"log.level must be debug, info, warn or error":                                                           {least + "log: {level: INFO}\n", least + "log: {level: trace}\n"},
		"console.hosts[0] must be a name or an address, without a port":                                          {least + "console: {hosts: [\"a:80\"]}\n", least + "console: {hosts: [\"\"]}\n", least + "console: {hosts: [\"*.a\"]}\n", least + "console: {hosts: [\"[::1]\"]}\n"},
		"console.listener serves nothing: console.enabled is not set":                                            {least + "console: {listener: {listen: \"127.0.0.1:1\"}}\n"},
		"console.listener.tls is required: browsers prove themselves by certificates":                            {least + "console: {enabled: true, listener: {listen: \"127.0.0.1:1\"}}\n"},
		"console.listener.listen must be host:port":                                                              {least + "console: {enabled: true, listener: {tls: {certificateFile: c, keyFile: k}}}\n"},
		"console.listener.tls.clientCertificates.console must be request or require":                             {least + "console: {enabled: true, listener: {listen: \"127.0.0.1:1\", tls: {certificateFile: c, keyFile: k, clientCertificates: {console: off}}}}\n"},
		"console.listener.tls.clientCertificates.issuer is no role that this listener serves":                    {least + "console: {enabled: true, listener: {listen: \"127.0.0.1:1\", tls: {certificateFile: c, keyFile: k, clientCertificates: {console: require, issuer: require}}}}\n"},
		"audit.log must be of printable ASCII without blanks and plus signs":                                     {least + "audit: {log: \"a b\"}\n", least + "audit: {log: a+b}\n"},
		"audit.replica must be of a-z, 0-9 and hyphens, at most 32, with a letter": {
			replicated + "audit: {replica: Mint}\n", replicated + "audit: {replica: a b}\n", replicated + "audit: {replica: \"12\"}\n",
			replicated + "audit: {replica: a23456789012345678901234567890123}\n", replicated + "audit: {replica: a/b}\n",
		},
		"audit.replica is for store.postgres: a SQLite database has one log": {least + "audit: {replica: mint-1}\n"},
		"audit.every must be at least 100ms":                                 {least + "audit: {every: 99ms}\n", least + "audit: {every: -1s}\n"},
		"audit.maxUnsigned must be at least 1":                               {least + "audit: {maxUnsigned: -1}\n"},
		"audit.maxUnsignedAge must be at least twice audit.every":            {least + "audit: {maxUnsignedAge: 1s}\n"},
		"audit.minFree must be at least 1":                                   {least + "audit: {minFree: -1}\n"},
		"audit.retention must be 0, or at least 8760h in production":         {least + "audit: {retention: -1h}\n"},
		"audit.anchors[0] must name one of file, syslog and webhook":         {least + "audit: {anchors: [{}]}\n", least + "audit: {anchors: [{file: a, webhook: \"https://a\"}]}\n"},
		"audit.anchors[1].syslog must be unix:///path, tcp://host:port or tls://host:port": {
			least + "audit: {anchors: [{file: a}, {syslog: \"udp://a:514\"}]}\n", least + "audit: {anchors: [{file: a}, {syslog: \"tcp://a\"}]}\n",
			least + "audit: {anchors: [{file: a}, {syslog: \"/dev/log\"}]}\n",
		},
		"audit.anchors[0].webhook must be an https URL":        {least + "audit: {anchors: [{webhook: \"http://a\"}]}\n"},
		"audit.anchors[0].caFile is for syslog over tls alone": {least + "audit: {anchors: [{file: a, caFile: c}]}\n", least + "audit: {anchors: [{syslog: \"tcp://a:1\", caFile: c}]}\n"},
		"log.format must be json or text":                      {least + "log: {format: xml}\n"},
		"tracing.percent must be 1 to 100":                     {least + "tracing: {percent: -1}\n", least + "tracing: {percent: 101}\n"},
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

func TestMembersAreNamedAndOfDifferentNames(t *testing.T) {
	twice := with(t, "keyring:", "    - {name: hsm-a, module: /m.so, tokenSerial: \"1\", pinFile: /pin}\nkeyring:")
	none := with(t, "    - name: hsm-a\n      module: /lib/pkcs11.so\n      tokenLabel: cards\n      pinFile: /run/pin\n", "    []\n")
	for text, want := range map[string]string{
		twice: "hsm.members[1].name is that of another member",
		none:  "hsm.members must name at least one token",
	} {
		if diff := cmp.Diff([]string{want}, refused(t, text)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	got := refused(t, `
api: {listen: "0.0.0.0:1", requestTimeout: 1ms}
admin: {listen: "0.0.0.0:2"}
hsm: {members: [{rsaConcurrency: -1}]}
clients: [{}, {issuer: i}]
pushProvisioning: {nonceLength: 100, tav: {version: "9"}}
log: {level: loud, format: xml}
`, "MINTMARK_API_REQUEST_TIMEOUT=soon", "MINTMARK_PUSH_PROVISIONING_NONCE_LENGTH=four")
	for _, key := range []string{
		"MINTMARK_API_REQUEST_TIMEOUT", "MINTMARK_PUSH_PROVISIONING_NONCE_LENGTH",
		"environment ", "api.tls ", "api.requestTimeout ", "admin.listen ",
		"hsm.members[0].name ", "hsm.members[0].module ", "hsm.members[0].pinFile ", "hsm.members[0].tokenLabel ", "hsm.members[0].rsaConcurrency ",
		"keyring ", "store ", "clients[0].issuer ", "clients[0].tenant ", "clients[0].keys ",
		"clients[1].tenant ", "clients[1].keys ",
		"pushProvisioning.testRootFile ", "pushProvisioning.nonceLength ", "pushProvisioning.tav.version ", "log.level ", "log.format ",
	} {
		found := 0
		for _, line := range got {
			if strings.Contains(line, key) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is named %d times in:\n%s", key, found, strings.Join(got, "\n"))
		}
	}
	if len(got) != 23 {
		t.Errorf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestProductionRefusesWhatOnlyDevelopmentMayHave(t *testing.T) {
	production := strings.Replace(least, "environment: test", "environment: production", 1) + anchored
	want := []string{"pushProvisioning.testRootFile is refused in production, which trusts Apple's root alone"}
	if diff := cmp.Diff(want, refused(t, production)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, refused(t, strings.Replace(production, "pushProvisioning:\n  testRootFile: root.pem\n", "", 1), "MINTMARK_PUSH_PROVISIONING_TEST_ROOT_FILE=/r.pem")); diff != "" {
		t.Errorf("by the environment: %s", diff)
	}
	load(t, strings.Replace(production, "pushProvisioning:\n  testRootFile: root.pem\n", "", 1))
}

// A vendor's library that crashes must not take a production service with it; development
// may do with one process.
func TestModulesAreIsolatedInProduction(t *testing.T) {
	production := strings.NewReplacer("environment: test", "environment: production", "pushProvisioning:\n  testRootFile: root.pem\n", "").Replace(least) + anchored
	for want, text := range map[string]string{
		"process": production,
		"none":    least,
	} {
		if got := load(t, text).HSM.Isolation; got != want {
			t.Errorf("isolation is %q by default, want %q:\n%s", got, want, text)
		}
	}
	if got := load(t, production, "MINTMARK_HSM_ISOLATION=none").HSM.Isolation; got != "none" {
		t.Errorf("isolation is %q", got)
	}
	const want = "hsm.isolation must be none or process"
	if diff := cmp.Diff([]string{want}, refused(t, least, "MINTMARK_HSM_ISOLATION=thread")); diff != "" {
		t.Error(diff)
	}
}

// replicated is the least configuration with a database that several processes may share.
var replicated = strings.Replace(least, "sqlite: mintmark.db", "postgres: {dsnFile: dsn}", 1) + "dataDir: d\n"

func TestReplicaIsNamed(t *testing.T) {
	for text, want := range map[string]string{"": "", "audit: {replica: mint-1}\n": "mint-1", "audit: {replica: 0-a}\n": "0-a"} {
		if got := load(t, replicated+text).Audit.Replica; got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// anchored is what production asks of the audit log.
const anchored = "audit: {log: bank.example/mintmark, anchors: [{syslog: \"tls://log.example:6514\"}]}\n"

// A checkpoint that is kept on this host goes back with it.
func TestProductionNeedsAnAnchorOffTheHost(t *testing.T) {
	production := strings.Replace(strings.Replace(least, "environment: test", "environment: production", 1), "pushProvisioning:\n  testRootFile: root.pem\n", "", 1)
	const want = "audit.anchors must hold a webhook, or syslog over tcp or tls to another host: a checkpoint kept here alone goes back with the database"
	for _, anchors := range []string{"[]", "[{file: /anchor}]", "[{syslog: \"unix:///dev/log\"}]", "[{syslog: \"tcp://127.0.0.1:601\"}]", "[{webhook: \"https://localhost/log\"}]"} {
		if diff := cmp.Diff([]string{want}, refused(t, production+"audit: {log: a, anchors: "+anchors+"}\n")); diff != "" {
			t.Errorf("%s: %s", anchors, diff)
		}
	}
	for _, anchors := range []string{"[{file: /anchor}, {syslog: \"tcp://log.example:601\"}]", "[{webhook: \"https://witness.example/log\"}]"} {
		load(t, production+"audit: {log: a, anchors: "+anchors+"}\n")
	}
	if diff := cmp.Diff([]string{"audit.retention must be 0, or at least 8760h in production"}, refused(t, production+strings.Replace(anchored, "{log", "{retention: 8759h, log", 1))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"audit.log is missing"}, refused(t, production+strings.Replace(anchored, "log: bank.example/mintmark, ", "", 1))); diff != "" {
		t.Error(diff)
	}
}

func TestPlainHTTPIsForLoopbackAlone(t *testing.T) {
	for _, address := range []string{"127.0.0.1:8080", "127.8.8.8:1", "localhost:8080", "[::1]:8080", "127.0.0.1:0", "[::ffff:127.0.0.1]:80"} {
		c := load(t, least+fmt.Sprintf("api: {listen: %q}\nadmin: {listen: %q}\n", address, address))
		if c.API.Listen != address || c.API.TLS != nil {
			t.Errorf("API %+v", c.API)
		}
	}
	load(t, least+"api: {listen: \"0.0.0.0:443\", tls: {certificateFile: c.pem, keyFile: k.pem}}\n")
}

func TestUnknownMembersAreRefusedWithTheirLine(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		line int
		name string
	}{
		"at the top":        {"colour: red\n" + least, 1, "colour"},
		"in a section":      {least + "api:\n  listen: 127.0.0.1:1\n  lisen: x\n", 15, "lisen"},
		"in a list":         {with(t, "      tokenLabel: cards\n", "      tokenLabel: cards\n      pin: 1234\n"), 7, "pin"},
		"deep down":         {with(t, "  testRootFile: root.pem\n", "  testRootFile: root.pem\n  tav:\n    versio: 3\n"), 14, "versio"},
		"in another case":   {with(t, "keyring:", "Keyring:"), 8, "Keyring"},
		"a Go field's name": {with(t, "      pinFile: /run/pin", "      PINFile: /run/pin"), 7, "PINFile"},
		"twice":             {least + "environment: test\n", 13, "environment"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(refused(t, test.text), "\n")
			if !strings.Contains(got, fmt.Sprintf("[%d:", test.line)) || !strings.Contains(got, test.name) {
				t.Errorf("want line %d and %s in:\n%s", test.line, test.name, got)
			}
		})
	}
}

func TestValuesOfTheWrongKindAreRefusedWithTheirLine(t *testing.T) {
	for name, text := range map[string]string{
		"a number for a duration":   least + "api:\n  requestTimeout: 15\n",
		"a text for a number":       with(t, "pinFile: /run/pin\n", "pinFile: /run/pin\n      rsaConcurrency: many\n"),
		"a text for a list":         strings.Replace(least, "hsm:\n  members:\n    - name: hsm-a\n      module: /lib/pkcs11.so\n      tokenLabel: cards\n      pinFile: /run/pin\n", "hsm:\n  members: one\n", 1),
		"no YAML":                   "environment: [test\n",
		"a tab":                     "environment: test\n\tapi: x\n",
		"an unknown anchor":         "environment: *nowhere\n",
		"a list instead of members": "- environment\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(refused(t, text), "\n"); !regexp.MustCompile(`\[\d+:\d+\]`).MatchString(got) {
				t.Errorf("no line in:\n%s", got)
			}
		})
	}
}

// The YAML library gives no line for this one; the value leads to it.
func TestDurationThatIsNoneIsRefusedWithItsLine(t *testing.T) {
	if diff := cmp.Diff([]string{`[14:19] time: invalid duration "soon"`}, refused(t, least+"api:\n  requestTimeout: soon\n")); diff != "" {
		t.Error(diff)
	}
}

func TestFilesThatAreNoConfiguration(t *testing.T) {
	for name, text := range map[string]string{
		"two documents":                  least + "---\n" + least,
		"a second one that is no YAML":   least + "---\n: [\n",
		"a second one, of another shape": least + "---\n- 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(refused(t, text), "\n")
			if !strings.Contains(got, "more than one YAML document") && !strings.Contains(got, "[14:") {
				t.Errorf("refused with:\n%s", got)
			}
		})
	}
	for name, text := range map[string]string{"empty": "", "blank": " \n\n", "a comment": "# nothing yet\n", "an empty document": "---\n"} {
		t.Run(name, func(t *testing.T) {
			if got := refused(t, text); got[0] != "environment must be development, test or production; it has no default" {
				t.Errorf("refused with %q", got)
			}
		})
	}
	t.Run("one document with its markers", func(t *testing.T) { load(t, "---\n"+least) })
	t.Run("just not too large", func(t *testing.T) {
		load(t, least+"#"+strings.Repeat("x", 1<<20-len(least)-2)+"\n")
	})
	t.Run("too large", func(t *testing.T) {
		if diff := cmp.Diff([]string{"larger than 1048576 bytes"}, refused(t, least+"#"+strings.Repeat("x", 1<<20-len(least)-1)+"\n")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("not there", func(t *testing.T) {
		if _, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"), nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("refused with %v", err)
		}
	})
	t.Run("a folder", func(t *testing.T) {
		if _, err := config.Load(t.TempDir(), nil); err == nil {
			t.Error("taken")
		}
	})
}

func TestEnvironmentIsLaidOverTheFile(t *testing.T) {
	for variable, test := range map[string]struct {
		get  func(*config.Config) any
		want any
	}{
		"MINTMARK_ENVIRONMENT=development":                     {func(c *config.Config) any { return c.Environment }, "development"},
		"MINTMARK_API_LISTEN=[::1]:1":                          {func(c *config.Config) any { return c.API.Listen }, "[::1]:1"},
		"MINTMARK_API_REQUEST_TIMEOUT=1500ms":                  {func(c *config.Config) any { return c.API.RequestTimeout }, 1500 * time.Millisecond},
		"MINTMARK_ADMIN_LISTEN=localhost:1":                    {func(c *config.Config) any { return c.Admin.Listen }, "localhost:1"},
		"MINTMARK_KEYRING=/k=v.yaml":                           {func(c *config.Config) any { return c.Keyring }, "/k=v.yaml"},
		"MINTMARK_STORE_SQLITE=/db":                            {func(c *config.Config) any { return c.Store.SQLite }, "/db"},
		"MINTMARK_PUSH_PROVISIONING_TEST_ROOT_FILE=/r.pem":     {func(c *config.Config) any { return c.PushProvisioning.TestRootFile }, "/r.pem"},
		"MINTMARK_PUSH_PROVISIONING_NONCE_LEASE=5m":            {func(c *config.Config) any { return c.PushProvisioning.NonceLease }, 5 * time.Minute},
		"MINTMARK_PUSH_PROVISIONING_NONCE_LENGTH=8":            {func(c *config.Config) any { return c.PushProvisioning.NonceLength }, 8},
		"MINTMARK_PUSH_PROVISIONING_NONCE_SIGNATURE_LENGTH=96": {func(c *config.Config) any { return c.PushProvisioning.NonceSignatureLength }, 96},
		"MINTMARK_PUSH_PROVISIONING_TAV_VERSION=3":             {func(c *config.Config) any { return c.PushProvisioning.TAV.Version }, "3"},
		"MINTMARK_PUSH_PROVISIONING_TAV_VALIDITY=1h":           {func(c *config.Config) any { return c.PushProvisioning.TAV.Validity }, time.Hour},
		"MINTMARK_LOG_LEVEL=debug":                             {func(c *config.Config) any { return c.Log.Level }, "debug"},
		"MINTMARK_LOG_FORMAT=text":                             {func(c *config.Config) any { return c.Log.Format }, "text"},
		"MINTMARK_LOG_LEVEL=":                                  {func(c *config.Config) any { return c.Log.Level }, "info"},
		"mintmark_log_level=debug":                             {func(c *config.Config) any { return c.Log.Level }, "warn"},
		"XMINTMARK_LOG_LEVEL=debug":                            {func(c *config.Config) any { return c.Log.Level }, "warn"},
	} {
		t.Run(variable, func(t *testing.T) {
			c := load(t, least+"log: {level: warn}\n", "PATH=/bin", variable, "HOME=/")
			if got := test.get(c); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if len(c.Ignored()) != 0 {
				t.Errorf("ignored %v", c.Ignored())
			}
		})
	}
}

// TLS is often where containers differ: its files can be named by the environment
// alone, and what is not named there stays what it was.
func TestTLSCanBeSetByTheEnvironment(t *testing.T) {
	c := load(t, least, "MINTMARK_API_LISTEN=0.0.0.0:443", "MINTMARK_API_TLS_CERTIFICATE_FILE=/c.pem", "MINTMARK_API_TLS_KEY_FILE=k.pem")
	if c.API.TLS == nil || c.API.TLS.CertificateFile != "/c.pem" || !filepath.IsAbs(c.API.TLS.KeyFile) {
		t.Errorf("TLS %+v", c.API.TLS)
	}
	c = load(t, least+"api: {tls: {certificateFile: /a.pem, keyFile: /b.pem}}\n", "MINTMARK_API_TLS_KEY_FILE=/k.pem")
	if diff := cmp.Diff(&config.TLS{CertificateFile: "/a.pem", KeyFile: "/k.pem", MinVersion: "1.3"}, c.API.TLS); diff != "" {
		t.Error(diff)
	}
	if c := load(t, least, "MINTMARK_LOG_LEVEL=warn"); c.API.TLS != nil {
		t.Errorf("TLS %+v out of nothing", c.API.TLS)
	}
	if got := refused(t, least+"api: {tls: {}}\n"); len(got) != 2 {
		t.Errorf("an empty section is refused with %q", got)
	}
	if diff := cmp.Diff([]string{"api.tls.keyFile is missing"}, refused(t, least, "MINTMARK_API_TLS_CERTIFICATE_FILE=/c.pem")); diff != "" {
		t.Error(diff)
	}
}

func TestBadValuesInTheEnvironmentAreRefused(t *testing.T) {
	got := refused(t, least,
		"MINTMARK_API_REQUEST_TIMEOUT=15", "MINTMARK_PUSH_PROVISIONING_NONCE_LEASE=", "MINTMARK_PUSH_PROVISIONING_NONCE_LENGTH=4.0",
		"MINTMARK_PUSH_PROVISIONING_NONCE_SIGNATURE_LENGTH=99999999999999999999", "MINTMARK_LOG_LEVEL=loud")
	want := []string{
		"environment: MINTMARK_API_REQUEST_TIMEOUT: must be a duration, such as 15s",
		"environment: MINTMARK_PUSH_PROVISIONING_NONCE_LEASE: must be a duration, such as 15s",
		"environment: MINTMARK_PUSH_PROVISIONING_NONCE_LENGTH: must be a whole number",
		"environment: MINTMARK_PUSH_PROVISIONING_NONCE_SIGNATURE_LENGTH: must be a whole number",
		"log.level must be debug, info, warn or error",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refusal (-want +got):\n%s", diff)
	}
}

// Orchestrators set variables of this prefix by themselves. They are listed, so that a
// mistyped one is found, and change nothing.
func TestUnknownVariablesAreListedAndChangeNothing(t *testing.T) {
	c := load(t, least, "MINTMARK_SERVICE_HOST=10.0.0.1", "MINTMARK_API_LISTN=x", "MINTMARK_=x", "MINTMARK_HSM_MEMBERS=x", "MINTMARK_HSM_ENVIRONMENT=x", "MINTMARK_DIGEST=x", "MINTMARK_CLIENTS=x", "MINTMARK", "MINTMARK_API=x")
	want := []string{"MINTMARK_", "MINTMARK_API", "MINTMARK_API_LISTN", "MINTMARK_CLIENTS", "MINTMARK_DIGEST", "MINTMARK_HSM_ENVIRONMENT", "MINTMARK_HSM_MEMBERS", "MINTMARK_SERVICE_HOST"}
	if diff := cmp.Diff(want, c.Ignored()); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if c.API.Listen != "127.0.0.1:8080" || len(c.Clients) != 0 {
		t.Errorf("configuration %+v", c)
	}
}

func TestRelativePathsAreTakenFromTheFolderOfTheFile(t *testing.T) {
	text := strings.NewReplacer("/lib/pkcs11.so", "lib/p.so", "/run/pin", "../pin").Replace(least+client) +
		"  - {issuer: desk, tenant: t, certificate: {caFile: ca.pem, dns: d, crlFile: crl.pem}}\n" +
		"api: {tls: {certificateFile: tls/c.pem, keyFile: /abs/k.pem, clientCertificates: {issuer: request}}}\n" +
		"roles: [issuer, merchant]\nmerchantAPI: {tls: {certificateFile: m.pem, keyFile: ../m.key}}\nmerchant: {audFingerprints: [f]}\noutbound: {caFile: roots.pem}\n"
	path := file(t, text)
	t.Chdir(filepath.Dir(filepath.Dir(path)))
	relative := filepath.Join(filepath.Base(filepath.Dir(path)), "mintmark.yaml")
	for _, name := range []string{path, relative} {
		c, err := config.Load(name, []string{"MINTMARK_STORE_SQLITE=var/db"})
		if err != nil {
			t.Fatal(err)
		}
		in := func(elem string) string { return filepath.Join(filepath.Dir(path), elem) }
		got := []string{
			c.Keyring, c.Store.SQLite, c.PushProvisioning.TestRootFile, c.API.TLS.CertificateFile, c.API.TLS.KeyFile,
			c.HSM.Members[0].Module, c.HSM.Members[0].PINFile, c.Clients[0].Keys[0].PublicKeyFile,
			c.Clients[1].Certificate.CAFile, c.Clients[1].Certificate.CRLFile, c.MerchantAPI.TLS.CertificateFile, c.MerchantAPI.TLS.KeyFile, c.Outbound.CAFile,
		}
		want := []string{
			in("keyring.yaml"), in("var/db"), in("root.pem"), in("tls/c.pem"), "/abs/k.pem",
			in("lib/p.so"), in("../pin"), in("issuer.pem"),
			in("ca.pem"), in("crl.pem"), in("m.pem"), in("../m.key"), in("roots.pem"),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
