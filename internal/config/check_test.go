package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
