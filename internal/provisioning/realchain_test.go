package provisioning

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"
)

// The real certificates, by the SHA-256 of their DER. The leaf was handed out by iOS in
// 2018 and stands in stripe/stripe-ios, STPPushProvisioningDetailsFunctionalTest.swift;
// the two intermediates are from https://www.apple.com/certificateauthority/.
var real = map[string]string{
	"apple-leaf-2018.pem": "e423b9ce27fbf4a07c8ccca4550fa9a944fea7d89c191b8f72b90fc5c45c3dd6",
	"apple-wwdrca-g2.pem": "9ed4b3b88c6a339cf1387895bda9ca6ea31a6b5ce9edf7511845923b0c8ac94c",
	"apple-wwdrca-g6.pem": "bdd4ed6e74691f0c2bfd01be0296197af1379e0418e2d300efa9c3bef642ca30",
}

func realCertificate(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil || hexSHA256(block.Bytes) != real[name] {
		t.Fatalf("testdata/%s is not the certificate it is named for", name)
	}
	return block.Bytes
}

func realChain(t testing.TB) [][]byte {
	return [][]byte{realCertificate(t, "apple-leaf-2018.pem"), realCertificate(t, "apple-wwdrca-g2.pem")}
}

func TestRealAppleLeafVerifiesInItsDays(t *testing.T) {
	policy := NewChainPolicy(AppleProduction(), at("2019-06-01T00:00:00Z"))
	for range 2 { // the second time with the intermediate known
		recipient, err := policy.Verify(realChain(t))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(realChain(t)[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(recipient.Point()); !strings.HasPrefix(got, "04b3095c90197deccb") || len(got) != 130 {
			t.Errorf("point is %s", got)
		}
		if recipient.SPKISHA256() != sha256.Sum256(leaf.RawSubjectPublicKeyInfo) {
			t.Error("SPKI digest is not the leaf's")
		}
		if recipient.Serial() != "18cd82a624bd5b26" || !recipient.NotAfter().Equal(leaf.NotAfter) {
			t.Errorf("serial %s, not after %s", recipient.Serial(), recipient.NotAfter())
		}
		if !recipient.ECDSA().Equal(leaf.PublicKey) || !bytes.Equal(recipient.PublicKey().Bytes(), recipient.Point()) {
			t.Error("the forms of the key differ")
		}
	}
}

func TestRealAppleLeafIsHeldToItsDates(t *testing.T) {
	for _, tc := range []struct {
		when   string
		reason ChainReason // empty: accepted
	}{
		{"2014-04-30T18:19:05Z", ReasonRootNotYetValid},
		{"2014-05-06T23:43:23Z", ReasonIntermediateNotYetValid},
		{"2018-06-01T22:14:14Z", ReasonLeafNotYetValid},
		{"2018-06-01T22:14:15Z", ""},
		{"2020-06-30T22:14:15Z", ""},
		{"2020-06-30T22:14:16Z", ReasonLeafExpired},
		{"2026-03-01T00:00:00Z", ReasonLeafExpired},
		{"2029-05-06T23:43:25Z", ReasonIntermediateExpired},
		{"2039-04-30T18:19:07Z", ReasonRootExpired},
	} {
		_, err := NewChainPolicy(AppleProduction(), at(tc.when)).Verify(realChain(t))
		if tc.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.when, err)
			}
			continue
		}
		wantReason(t, err, tc.reason)
	}
	_, err := NewChainPolicy(AppleProduction(), nil).Verify(realChain(t))
	if err == nil {
		t.Error("accepted today")
	}
}

// The same chain through the standard library's path validation, with exactly the
// marker taken off: an answer that does not depend on our steps.
func TestStandardLibraryAgreesOnTheRealChain(t *testing.T) {
	chain := realChain(t)
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	sub, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	roots, subs := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(AppleProduction().root)
	subs.AddCert(sub)
	options := x509.VerifyOptions{Roots: roots, Intermediates: subs, CurrentTime: at("2019-06-01T00:00:00Z")(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := leaf.Verify(options); err == nil {
		t.Error("accepted with the marker unhandled")
	}
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions, func(o asn1.ObjectIdentifier) bool { return o.Equal(oidMarker) })
	if _, err := leaf.Verify(options); err != nil {
		t.Error(err)
	}
}
