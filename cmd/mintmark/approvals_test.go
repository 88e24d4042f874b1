package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
)

// What two people take up are the configuration, the keyring with its certificates, but not
// those of listeners, and the keys and lists of clients: by their digests, and whole.
func TestTakenFilesAreAllThatDecide(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write("proximity.crt", certificate)
	write("tls.crt", certificate)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	pin := fmt.Sprintf("{hsm: spki-sha256:%x}", sha256.Sum256(spki))
	write("keyring.yaml", strings.ReplaceAll(`environment: test
keys:
  - {name: a, purpose: proximity-token, algorithm: P-256, id: "01", provenance: generated, state: next, created: "2026-11-22", pins: PIN, certificate: proximity.crt}
  - {name: b, purpose: api-tls, algorithm: P-256, id: "02", provenance: generated, state: next, created: "2026-11-22", pins: PIN, certificate: tls.crt}
`, "PIN", pin))
	for _, name := range []string{"mintmark.yaml", "k.pem", "ca.pem", "crl.pem"} {
		write(name, name)
	}
	cfg := &config.Config{Environment: "test", Keyring: in("keyring.yaml"), Clients: []config.Client{{
		Keys:        []config.ClientKey{{PublicKeyFile: in("k.pem")}},
		Certificate: &config.ClientCertificate{CAFile: in("ca.pem"), CRLFile: in("crl.pem")},
	}}}
	files, err := takenFiles(in("mintmark.yaml"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.Path))
	}
	if want := []string{"ca.pem", "crl.pem", "k.pem", "keyring.yaml", "mintmark.yaml", "proximity.crt"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	ring, err := hsm.LoadKeyring(cfg.Keyring)
	if err != nil {
		t.Fatal(err)
	}
	// A configuration that was read as it stood for a moment, between two looks at the file.
	if err := madeFrom(&plan{path: in("mintmark.yaml"), cfg: cfg, keyring: ring}, files); err == nil || !strings.Contains(err.Error(), "mintmark.yaml changed while it was read") {
		t.Errorf("%v", err)
	}
	if err := os.Truncate(in("crl.pem"), maxTaken+1); err != nil {
		t.Fatal(err)
	}
	if _, err := takenFiles(in("mintmark.yaml"), cfg); err == nil || !strings.Contains(err.Error(), "crl.pem is larger") {
		t.Errorf("a file of which only the beginning is looked at: %v", err)
	}
}
