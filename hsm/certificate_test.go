package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// issue makes a certificate for pub, signed by a parent; by itself if there is none.
func issue(t *testing.T, name string, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: strings.HasSuffix(name, "CA"),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if template.IsCA {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func inPEM(certificates ...*x509.Certificate) (text []byte) {
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// certified is a leaf for key, and the two intermediates above it.
func certified(t *testing.T, key *ecdsa.PublicKey) []*x509.Certificate {
	t.Helper()
	root, upper, lower := freshEC(t), freshEC(t), freshEC(t)
	top := issue(t, "root CA", nil, root.Public(), root)
	second := issue(t, "upper CA", top, upper.Public(), root)
	first := issue(t, "lower CA", second, lower.Public(), upper)
	return []*x509.Certificate{issue(t, "leaf", first, key, lower), first, second}
}

// write saves a keyring beside a file with certificates and gives the keyring's path.
func write(t *testing.T, ring *Keyring, certificates string, text []byte) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, certificates)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keyring.yaml")
	if err := ring.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tlsEntry is an api-tls key that two members have, with a certificate.
func tlsEntry(t *testing.T, pub crypto.PublicKey) Key {
	t.Helper()
	k := entry("tls", APITLS)
	k.Pins = map[string]Pin{"a": pinOf(t, pub), "b": pinOf(t, pub)}
	k.Certificate = "certificates/tls.pem"
	return k
}

func TestCertificatesComeWithTheKeyring(t *testing.T) {
	key := freshEC(t)
	all := certified(t, &key.PublicKey)
	for name, tc := range map[string]struct {
		text []byte
		want []*x509.Certificate
	}{
		"a leaf":                         {inPEM(all[0]), all[:1]},
		"a leaf and an intermediate":     {inPEM(all[:2]...), all[:2]},
		"a leaf and both intermediates":  {inPEM(all...), all},
		"a leaf that certifies itself":   {inPEM(issue(t, "self", nil, &key.PublicKey, key)), nil},
		"white space around and between": {[]byte("\n \r\n" + strings.ReplaceAll(string(inPEM(all...)), "\n-----BEGIN", "\r\n\n-----BEGIN") + "\n\t\n"), all},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, ringOf(tlsEntry(t, &key.PublicKey), entry("proximity", ProximityToken)), "certificates/tls.pem", tc.text)
			ring, err := LoadKeyring(path)
			if err != nil {
				t.Fatal(err)
			}
			found, _ := ring.Find("tls")
			active, err := ring.Active(APITLS)
			if err != nil {
				t.Fatal(err)
			}
			viewed, err := ring.Only(APITLS).Active(APITLS)
			if err != nil {
				t.Fatal(err)
			}
			for how, k := range map[string]Key{"found": found, "active": active, "active in a view": viewed} {
				if k.Certificate != "certificates/tls.pem" || len(k.Chain()) == 0 || !key.PublicKey.Equal(k.Chain()[0].PublicKey) {
					t.Errorf("%s: certificate %q, chain %v", how, k.Certificate, k.Chain())
				}
				if tc.want != nil && !reflect.DeepEqual(k.Chain(), tc.want) {
					t.Errorf("%s: a chain of %d, want %d", how, len(k.Chain()), len(tc.want))
				}
			}
			if k, _ := ring.Find("proximity"); k.Chain() != nil {
				t.Errorf("a key without certificate has the chain %v", k.Chain())
			}

			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := ring.Save(path); err != nil {
				t.Fatal(err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("saved again it is\n%s\nand was\n%s(%v)", after, before, err)
			}
			again, err := LoadKeyring(path)
			if err != nil || !reflect.DeepEqual(again, ring) {
				t.Errorf("loaded again it is %+v, %v", again, err)
			}
		})
	}
}

// A chain is its holder's own: what one does to it is not seen by the next.
func TestChainIsACopy(t *testing.T) {
	key := freshEC(t)
	ring, err := LoadKeyring(write(t, ringOf(tlsEntry(t, &key.PublicKey)), "certificates/tls.pem", inPEM(certified(t, &key.PublicKey)...)))
	if err != nil {
		t.Fatal(err)
	}
	k, _ := ring.Find("tls")
	k.Chain()[0] = nil
	if k, _ := ring.Find("tls"); k.Chain()[0] == nil {
		t.Error("the keyring's chain was changed")
	}
}

func TestCertificateFaultsAreNamed(t *testing.T) {
	key, other := freshEC(t), freshEC(t)
	all := certified(t, &key.PublicKey)
	leaf, lower, upper := all[0], all[1], all[2]
	headed := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: leaf.Raw})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyBlock := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	broken := strings.Replace(string(inPEM(leaf)), "\nMI", "\n!!", 1)
	for _, tc := range []struct {
		name string
		text []byte
		want string
	}{
		{"nothing", nil, "it holds no certificate"},
		{"white space", []byte(" \n"), "it holds no certificate"},
		{"DER", leaf.Raw, "no PEM certificate"},
		{"a line before", join([]byte("subject=leaf\n"), inPEM(leaf)), "follows 0 certificates is no PEM"},
		{"a line between", join(inPEM(leaf), []byte("issuer\n"), inPEM(lower)), "follows 1 certificates is no PEM"},
		{"a line after", join(inPEM(leaf), []byte("end\n")), "follows 1 certificates is no PEM"},
		{"a block that is broken", []byte(broken), "no PEM certificate"},
		{"a broken block before a good one", join([]byte(broken), inPEM(leaf)), "no PEM certificate"},
		{"a block cut off", inPEM(leaf)[:200], "no PEM certificate"},
		{"a block with headers", headed, "no PEM certificate"},
		{"the private key", keyBlock, "no PEM certificate"},
		{"the private key behind", join(inPEM(leaf), keyBlock), "follows 1 certificates is no PEM"},
		{"no X.509 in the block", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}), "certificate 1 cannot be parsed"},
		{"bytes after the X.509", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(bytes.Clone(leaf.Raw), 0)}), "certificate 1 cannot be parsed"},
		{"two leaves", inPEM(leaf, issue(t, "twin", nil, &key.PublicKey, key)), "certificate 1 is not issued by"},
		{"the leaf twice", inPEM(leaf, leaf, lower), "certificate 1 is not issued by"},
		{"intermediates in the other order", inPEM(leaf, upper, lower), "certificate 1 is not issued by"},
		{"an intermediate left out", inPEM(leaf, upper), "certificate 1 is not issued by"},
		{"the leaf last", inPEM(lower, upper, leaf), "certificate 2 is not issued by"},
		{"the intermediates alone", inPEM(lower, upper), "it is not for the key that pins.a is for"},
		{"another's leaf", inPEM(certified(t, &other.PublicKey)...), "it is not for the key that pins.a is for"},
		{"too much", bytes.Repeat(inPEM(leaf), 1+maxCertificate/len(inPEM(leaf))), "larger than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := LoadKeyring(write(t, ringOf(tlsEntry(t, &key.PublicKey)), "certificates/tls.pem", tc.text))
			if err == nil || !strings.Contains(err.Error(), "keys[0] (tls): certificate certificates/tls.pem: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want it to say %q of the certificate", err, tc.want)
			}
		})
	}
}

// A certificate is for the key of every member that has a pin, and for one at least.
func TestCertificateAnswersToEveryPin(t *testing.T) {
	key, other := freshEC(t), freshEC(t)
	for _, tc := range []struct {
		name string
		pins map[string]Pin
		want string
	}{
		{"another key on one member", map[string]Pin{"a": pinOf(t, &key.PublicKey), "b": pinOf(t, &other.PublicKey)}, "pins.b"},
		{"another key on the other", map[string]Pin{"a": pinOf(t, &other.PublicKey), "b": pinOf(t, &key.PublicKey)}, "pins.a"},
		{"no pin", nil, "no pin to compare it with"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := tlsEntry(t, &key.PublicKey)
			k.Pins = tc.pins
			_, err := LoadKeyring(write(t, ringOf(k), "certificates/tls.pem", inPEM(certified(t, &key.PublicKey)...)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func TestCertificateThatIsNotThereIsSaidWithAllOtherFaults(t *testing.T) {
	dir := t.TempDir()
	text := strings.Replace(goodRing, "    id: 6f1c", "    certificate: missing.pem\n    id: 6f1c", 1)
	text = strings.Replace(text, "environment: production", "environment: prod", 1)
	path := filepath.Join(dir, "keyring.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadKeyring(path)
	for _, want := range []string{"environment is", "keys[0] (tav-2026): certificate missing.pem: ", filepath.Join(dir, "missing.pem")} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}
