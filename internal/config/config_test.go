package config_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
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
