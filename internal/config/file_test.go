package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/config"
)

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
