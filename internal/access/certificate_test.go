package access_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

// certificate says how a certificate is to be made; zero members mean what an honest
// client's has.
type certificate struct {
	issuer   *issued // nil: it signs itself
	ca       bool
	dns      string
	uri      string
	email    string
	validity time.Duration // from noon; negative: until noon
	usage    x509.KeyUsage
	extended []x509.ExtKeyUsage // nil: clientAuth; empty: none
	key      crypto.Signer
	extra    []pkix.Extension
}

// issued is a certificate with its key, and what it was issued by.
type issued struct {
	leaf *x509.Certificate
	key  crypto.Signer
	by   *issued
}

// chain is what a client presents: the certificate and those above it without the root.
func (i *issued) chain() []*x509.Certificate {
	all := []*x509.Certificate{i.leaf}
	for c := i.by; c != nil && c.by != nil; c = c.by {
		all = append(all, c.leaf)
	}
	return all
}

func newCertificate(c certificate) *issued {
	if c.key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		c.key = k
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "desk.bank.example"},
		NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		KeyUsage: c.usage, ExtKeyUsage: c.extended, BasicConstraintsValid: true, IsCA: c.ca, ExtraExtensions: c.extra,
	}
	switch {
	case c.validity > 0:
		template.NotBefore = noon.Add(c.validity)
	case c.validity < 0:
		template.NotAfter = noon.Add(c.validity)
	}
	if c.usage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if c.ca {
		template.KeyUsage |= x509.KeyUsageCertSign
		template.Subject.CommonName = "CA " + serial.String()
	} else if c.extended == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if c.dns != "" {
		template.DNSNames = strings.Split(c.dns, ",")
	}
	if c.email != "" {
		template.EmailAddresses = []string{c.email}
	}
	if c.uri != "" {
		u, err := url.Parse(c.uri)
		if err != nil {
			panic(err)
		}
		template.URIs = []*url.URL{u}
	}
	parent, signer := template, c.key
	if c.issuer != nil {
		parent, signer = c.issuer.leaf, c.issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, c.key.Public(), signer)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &issued{leaf, c.key, c.issuer}
}

const deskName = "desk.bank.example"

var (
	bankCA          = sync.OnceValue(func() *issued { return newCertificate(certificate{ca: true}) })
	deskCertificate = sync.OnceValue(func() *issued { return newCertificate(certificate{issuer: bankCA(), dns: deskName}) })
)

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return b64(sum[:])
}

func pin(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// desk is a client that proves itself by its CA's certificate alone.
func desk() access.Client {
	return access.Client{
		Issuer: "bank-desk", Tenant: "bank-a", Grants: []access.Grant{{Right: access.SignCards}},
		Certificate: &access.CertificateRule{CAs: []*x509.Certificate{bankCA().leaf}, Name: access.AlternativeName{DNS: deskName}},
	}
}

// pinned is a client that proves itself by these keys alone.
func pinned(issuer string, keys ...[32]byte) access.Client {
	return access.Client{Issuer: issuer, Tenant: "bank-a", Certificate: &access.CertificateRule{Pins: keys}}
}

func connected(i *issued) access.Proof { return access.Proof{Certificates: i.chain()} }

func TestCertificateProvesItsClient(t *testing.T) {
	self := newCertificate(certificate{extended: []x509.ExtKeyUsage{}})
	below := newCertificate(certificate{issuer: newCertificate(certificate{issuer: bankCA(), ca: true}), dns: deskName})
	sum := pin(self.leaf)
	named := func(n access.AlternativeName, c certificate) (access.Client, *issued) {
		client := desk()
		client.Certificate.Name = n
		c.issuer = bankCA()
		return client, newCertificate(c)
	}
	uri, uriLeaf := named(access.AlternativeName{URI: "spiffe://bank.example/desk"}, certificate{uri: "spiffe://bank.example/desk"})
	email, emailLeaf := named(access.AlternativeName{Email: "desk@bank.example"}, certificate{email: "desk@bank.example"})
	configured := desk()
	configured.Certificate.Subject = "desk 7"
	for _, tc := range []struct {
		name    string
		client  access.Client
		leaf    *issued
		subject string
	}{
		{"DNS name", desk(), deskCertificate(), deskName},
		{"an intermediate CA", desk(), below, deskName},
		{"several names", desk(), newCertificate(certificate{issuer: bankCA(), dns: "a.example," + deskName, email: "x@a.example"}), deskName},
		{"URI", uri, uriLeaf, "spiffe://bank.example/desk"},
		{"e-mail", email, emailLeaf, "desk@bank.example"},
		{"configured subject", configured, deskCertificate(), "desk 7"},
		{"pinned key, silent on its use", pinned("p", sum), self, "spki-sha256:" + hex.EncodeToString(sum[:])},
		{"one of two pinned keys", pinned("p", [32]byte{1}, sum), self, "spki-sha256:" + hex.EncodeToString(sum[:])},
		{"pinned key with a CA's certificate", pinned("p", pin(deskCertificate().leaf)), deskCertificate(), "spki-sha256:" + hex.EncodeToString(sha(deskCertificate().leaf))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := verifierOf(t, bank(), tc.client)
			caller, err := v.Authenticate(t.Context(), connected(tc.leaf))
			if err != nil {
				t.Fatal(err)
			}
			if caller.Subject != tc.subject || caller.Tenant != "bank-a" || caller.Issuer != tc.client.Issuer ||
				caller.TokenID+caller.KeyID+caller.User != "" || caller.Payload() != nil || !caller.Expires.IsZero() {
				t.Fatalf("caller is %+v", caller)
			}
			if granted := caller.May(access.SignCards) == nil; granted != (len(tc.client.Grants) == 1) {
				t.Fatalf("granted: %v", granted)
			}
		})
	}
}

func sha(c *x509.Certificate) []byte {
	sum := pin(c)
	return sum[:]
}

func TestHostileCertificatesAreRefused(t *testing.T) {
	otherCA := newCertificate(certificate{ca: true})
	foreign := newCertificate(certificate{ca: true})
	selfSigned := newCertificate(certificate{dns: deskName})
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	anyUse := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	fromCA := func(c certificate) *issued { c.issuer = bankCA(); c.dns = deskName; return newCertificate(c) }
	ownCA := func(c *issued) access.Client { // a client whose pinned key has this certificate
		return pinned("pinned", pin(c.leaf))
	}
	both := bank()
	both.Certificate = desk().Certificate
	caPinned := desk()
	twin := newCertificate(certificate{issuer: otherCA, dns: deskName, key: deskCertificate().key})
	for _, tc := range []struct {
		name   string
		client access.Client
		proof  access.Proof
		want   access.Reason
	}{
		{"another CA's, same name", desk(), connected(newCertificate(certificate{issuer: otherCA, dns: deskName})), access.ReasonUnknownCertificate},
		{"another CA's, same name and key", desk(), connected(twin), access.ReasonUnknownCertificate},
		{"self-signed, same name", desk(), connected(selfSigned), access.ReasonUnknownCertificate},
		{"self-signed, the CA in the chain", desk(), access.Proof{Certificates: []*x509.Certificate{selfSigned.leaf, bankCA().leaf}}, access.ReasonUnknownCertificate},
		{"another client's of the CA", desk(), connected(newCertificate(certificate{issuer: bankCA(), dns: "other.bank.example"})), access.ReasonUnknownCertificate},
		{"name in capitals", desk(), connected(newCertificate(certificate{issuer: bankCA(), dns: "DESK.bank.example"})), access.ReasonUnknownCertificate},
		{"name with a dot behind", desk(), connected(newCertificate(certificate{issuer: bankCA(), dns: deskName + "."})), access.ReasonUnknownCertificate},
		{"a wildcard that covers it", desk(), connected(newCertificate(certificate{issuer: bankCA(), dns: "*.bank.example"})), access.ReasonUnknownCertificate},
		{"common name only", desk(), connected(newCertificate(certificate{issuer: bankCA()})), access.ReasonUnknownCertificate},
		{"the name as e-mail", desk(), connected(newCertificate(certificate{issuer: bankCA(), email: deskName})), access.ReasonUnknownCertificate},
		{"the name as URI", desk(), connected(newCertificate(certificate{issuer: bankCA(), uri: deskName})), access.ReasonUnknownCertificate},
		{"below a certificate that is no CA's", desk(), connected(newCertificate(certificate{issuer: deskCertificate(), dns: deskName})), access.ReasonUnknownCertificate},
		{"intermediate missing", desk(), access.Proof{Certificates: newCertificate(certificate{issuer: newCertificate(certificate{issuer: bankCA(), ca: true}), dns: deskName}).chain()[:1]}, access.ReasonUnknownCertificate},
		{"below a CA that signed itself", desk(), access.Proof{Certificates: []*x509.Certificate{newCertificate(certificate{issuer: foreign, dns: deskName}).leaf, foreign.leaf}}, access.ReasonUnknownCertificate},
		{"the name as a number", desk(), connected(newCertificate(certificate{issuer: bankCA(), extra: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: slices.Concat([]byte{0x30, byte(len(deskName) + 2), 2, byte(len(deskName))}, []byte(deskName))},
		}})), access.ReasonUnknownCertificate},
		{"below a CA for servers", desk(), connected(newCertificate(certificate{issuer: newCertificate(certificate{issuer: bankCA(), ca: true, extended: server}), dns: deskName})), access.ReasonCertificateUsage},
		{"with a critical extension that nobody knows", desk(), connected(fromCA(certificate{extra: unknown})), access.ReasonUnknownCertificate},
		{"expired", desk(), connected(fromCA(certificate{validity: -time.Second})), access.ReasonCertificateTime},
		{"not valid yet", desk(), connected(fromCA(certificate{validity: time.Second})), access.ReasonCertificateTime},
		{"for servers", desk(), connected(fromCA(certificate{extended: server})), access.ReasonCertificateUsage},
		{"for any use", desk(), connected(fromCA(certificate{extended: anyUse})), access.ReasonCertificateUsage},
		{"silent on its use", desk(), connected(fromCA(certificate{extended: []x509.ExtKeyUsage{}})), access.ReasonCertificateUsage},
		{"a CA's own", desk(), connected(fromCA(certificate{ca: true, extended: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})), access.ReasonCertificateUsage},
		{"not for signing", desk(), connected(fromCA(certificate{usage: x509.KeyUsageKeyEncipherment})), access.ReasonCertificateUsage},
		{"a chain too long", desk(), access.Proof{Certificates: append(deskCertificate().chain(), make([]*x509.Certificate, 9)...)}, access.ReasonUnknownCertificate},

		{"another key than the pinned", pinned("p", pin(selfSigned.leaf)), connected(deskCertificate()), access.ReasonUnknownCertificate},
		{"pinned key behind another leaf", pinned("p", pin(selfSigned.leaf)), access.Proof{Certificates: []*x509.Certificate{deskCertificate().leaf, selfSigned.leaf}}, access.ReasonUnknownCertificate},
		{"pinned, expired", ownCA(newExpired()), connected(newExpired()), access.ReasonCertificateTime},
		{"pinned, for servers", ownCA(newServer()), connected(newServer()), access.ReasonCertificateUsage},
		{"pinned, with a critical extension that nobody knows", ownCA(newCritical()), connected(newCritical()), access.ReasonCertificateUsage},
		{"pinned, a CA's", ownCA(otherCA), connected(otherCA), access.ReasonCertificateUsage},

		{"nobody has certificates", bank(), connected(deskCertificate()), access.ReasonUnknownCertificate},
		{"its client needs a token too", both, connected(deskCertificate()), access.ReasonMissing},
		{"an empty header, and a good certificate", caPinned, access.Proof{Authorization: []string{""}, Certificates: deskCertificate().chain()}, access.ReasonScheme},
		{"nothing at all", desk(), access.Proof{}, access.ReasonMissing},
	} {
		t.Run(tc.name, func(t *testing.T) { mustRefuseProof(t, verifierOf(t, tc.client), tc.proof, tc.want) })
	}
}

var (
	newExpired  = sync.OnceValue(func() *issued { return newCertificate(certificate{validity: -time.Second}) })
	unknown     = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
	newCritical = sync.OnceValue(func() *issued { return newCertificate(certificate{extra: unknown}) })
	newServer   = sync.OnceValue(func() *issued {
		return newCertificate(certificate{extended: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	})
)

// A certificate is good from its first to its last second, by our clock.
func TestCertificateClockEdges(t *testing.T) {
	for _, client := range []access.Client{desk(), pinned("p", pin(deskCertificate().leaf))} {
		for at, want := range map[time.Duration]access.Reason{
			-time.Hour - time.Second: access.ReasonCertificateTime,
			-time.Hour:               "",
			time.Hour:                "",
			time.Hour + time.Second:  access.ReasonCertificateTime,
		} {
			v, err := access.NewVerifier([]access.Client{client}, clockAt(noon.Add(at)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Authenticate(t.Context(), connected(deskCertificate())); access.ReasonOf(err) != want {
				t.Errorf("%s at noon%+v: %v, want %q", client.Issuer, at, err, want)
			}
		}
	}
}

func TestOneCertificateIsOneClients(t *testing.T) {
	second := pinned("second", pin(deskCertificate().leaf))
	second.Tenant = "bank-b"
	v := verifierOf(t, desk(), second)
	mustRefuseProof(t, v, connected(deskCertificate()), access.ReasonAmbiguousCertificate)

	// A client that needs a token beside it is told apart by that.
	both := bank()
	both.Certificate = desk().Certificate
	caller, err := verifierOf(t, both, desk()).Authenticate(t.Context(), connected(deskCertificate()))
	if err != nil || caller.Issuer != "bank-desk" {
		t.Fatalf("%+v, %v", caller, err)
	}
}

func TestClientWithKeysAndCertificateNeedsBoth(t *testing.T) {
	both := bank()
	both.Certificate = desk().Certificate
	v := verifierOf(t, both)
	proof := func(token string, chain []*x509.Certificate) access.Proof {
		return access.Proof{Authorization: []string{"Bearer " + token}, Certificates: chain}
	}
	caller, err := v.Authenticate(t.Context(), proof(signed(with()), deskCertificate().chain()))
	if err != nil || caller.Subject != "user-1" {
		t.Fatalf("%+v, %v", caller, err)
	}
	mustRefuseProof(t, v, proof(signed(with()), nil), access.ReasonNoCertificate)
	mustRefuseProof(t, v, proof(signed(with()), newCertificate(certificate{dns: deskName}).chain()), access.ReasonUnknownCertificate)
	mustRefuseProof(t, v, proof(signed(with()), newCertificate(certificate{issuer: bankCA(), dns: deskName, validity: -time.Second}).chain()), access.ReasonCertificateTime)
	mustRefuseProof(t, v, proof(spoil(2, func(s string) string { return "AAAA" + s[4:] }), deskCertificate().chain()), access.ReasonSignature)

	// Its certificate does not let another client's token pass, nor one of a client that has none.
	only := verifierOf(t, desk(), bank())
	mustRefuseProof(t, only, proof(signed(with("iss", `"bank-desk"`)), deskCertificate().chain()), access.ReasonUnknownKey)
}

func TestBoundTokens(t *testing.T) {
	leaf := newCertificate(certificate{issuer: newCertificate(certificate{issuer: bankCA(), ca: true}), dns: deskName})
	bound := `{"x5t#S256":"` + thumbprint(leaf.leaf) + `"}`
	good := leaf.chain()
	// The same key and names in another certificate are another certificate.
	renewed := newCertificate(certificate{issuer: leaf.by, dns: deskName, key: leaf.key}).chain()
	must := bank()
	must.BoundTokens = true
	for _, tc := range []struct {
		name   string
		client access.Client
		cnf    string
		chain  []*x509.Certificate
		want   access.Reason
	}{
		{"bound, on its connection", bank(), bound, good, ""},
		{"bound, on another", bank(), bound, renewed, access.ReasonBinding},
		{"bound, the certificate behind another leaf", bank(), bound, append(renewed[:1:1], good...), access.ReasonBinding},
		{"bound, without a certificate", bank(), bound, nil, access.ReasonNoCertificate},
		{"not bound, and need not be", bank(), "", good, ""},
		{"must be bound, and is", must, bound, good, ""},
		{"must be bound, on another", must, bound, renewed, access.ReasonBinding},
		{"must be bound, and is not", must, "", good, access.ReasonConfirmation},
		{"must be bound, and neither is nor has a certificate", must, "", nil, access.ReasonConfirmation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := access.Proof{Authorization: []string{"Bearer " + signed(with("cnf", tc.cnf))}, Certificates: tc.chain}
			if tc.want != "" {
				mustRefuseProof(t, verifierOf(t, tc.client), p, tc.want)
				return
			}
			if _, err := verifierOf(t, tc.client).Authenticate(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestMisconfiguredCertificateRulesAreRefused(t *testing.T) {
	rule := func(change func(*access.Client)) access.Client {
		c := desk()
		change(&c)
		return c
	}
	for _, tc := range []struct {
		name   string
		client access.Client
		says   string
	}{
		{"empty rule", rule(func(c *access.Client) { c.Certificate = &access.CertificateRule{} }), "needs a CA and a name, or pinned keys"},
		{"CA without name", rule(func(c *access.Client) { c.Certificate.Name = access.AlternativeName{} }), "needs a CA and a name"},
		{"name without CA", rule(func(c *access.Client) { c.Certificate.CAs = nil }), "needs a CA and a name"},
		{"CA and pins", rule(func(c *access.Client) { c.Certificate.Pins = [][32]byte{{1}} }), "one or the other"},
		{"two names", rule(func(c *access.Client) { c.Certificate.Name.URI = "x:y" }), "more than one of DNS name, URI and e-mail"},
		{"wildcard", rule(func(c *access.Client) { c.Certificate.Name.DNS = "*.bank.example" }), "wildcard"},
		{"name that does not print", rule(func(c *access.Client) { c.Certificate.Name.DNS = "a\x00b" }), "does not print"},
		{"a leaf for a CA", rule(func(c *access.Client) { c.Certificate.CAs = []*x509.Certificate{deskCertificate().leaf} }), "certificate 1 of its CA is not that of a CA"},
		{"nil for a CA", rule(func(c *access.Client) { c.Certificate.CAs = []*x509.Certificate{bankCA().leaf, nil} }), "certificate 2 of its CA"},
		{"subject that does not print", rule(func(c *access.Client) { c.Certificate.Subject = "a\n" }), "subject is longer"},
		{"subject beside keys", rule(func(c *access.Client) {
			c.Keys, c.Audience, c.MaxLifetime, c.Certificate.Subject = bank().Keys, "a", time.Minute, "desk"
		}), "names a subject, which the client's tokens do"},
		{"bound tokens without keys", rule(func(c *access.Client) { c.BoundTokens = true }), "has no key to verify a token"},
		{"single use without keys", rule(func(c *access.Client) { c.Grants[0].SingleUse = true }), "the client has no tokens"},
		{"users without keys", rule(func(c *access.Client) { c.Grants[0].Users = []string{"*"} }), "the client has no tokens"},
		{"kids without keys", rule(func(c *access.Client) { c.Grants[0].KeyIDs = []string{"k"} }), "the client has no tokens"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := access.NewVerifier([]access.Client{tc.client}, time.Now)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("says %v, want %q", err, tc.says)
			}
		})
	}
	first, second := desk(), desk()
	second.Issuer = "other"
	if _, err := access.NewVerifier([]access.Client{first, second}, time.Now); err == nil || !strings.Contains(err.Error(), "the same certificate rule") {
		t.Errorf("two clients with one rule: %v", err)
	}
	if _, err := access.NewVerifier([]access.Client{pinned("a", [32]byte{1}), pinned("b", [32]byte{2}, [32]byte{1})}, time.Now); err == nil || !strings.Contains(err.Error(), "the same certificate rule") {
		t.Errorf("two clients with one pin: %v", err)
	}
}
