package config_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/config"
)

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
