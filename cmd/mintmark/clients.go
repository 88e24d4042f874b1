package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/outbound"
)

// clients are who may call, as the configuration has them.
type clients struct {
	verifier *access.Verifier
	outbound config.Outbound
	client   *outbound.Client // what JWK sets are fetched with, unless from elsewhere
	fetch    access.Fetcher
	jwks     map[publisher]*access.JWKS // whose fetching ends with close
}

// A publisher is a client that publishes its keys, and where.
type publisher struct{ issuer, url string }

// close ends what goes on in the background for these clients, but for what the others
// have too; others is nil at the end.
func (c *clients) close(others *clients) {
	for who, set := range c.jwks {
		if others == nil || others.jwks[who] != set {
			set.Close()
		}
	}
	if c.client != nil && (others == nil || others.client != c.client) {
		c.client.Close()
	}
}

// clientSources are what clients are decided by beside the configuration.
type clientSources struct {
	own   access.KeySet  // the keys of merchant JWTs signed here
	fetch access.Fetcher // of JWK sets; nil for the network
	now   func() time.Time
	// before are the clients of the configuration that this one takes the place of; nil at
	// the start. Key sets that both have are kept, with the keys that were fetched.
	before *clients
}

// loadClients reads the clients and the merchant issuers.
func loadClients(cfg *config.Config, from clientSources) (*clients, error) {
	c := &clients{outbound: cfg.Outbound, fetch: from.fetch, jwks: map[publisher]*access.JWKS{}}
	before := from.before
	if before != nil && !reflect.DeepEqual(before.outbound, cfg.Outbound) {
		before = nil
	}
	var wrong []error
	var err error
	if before != nil {
		c.client = before.client
	} else if c.client, err = newOutbound(cfg.Outbound); err != nil {
		wrong = append(wrong, err)
	}
	if c.fetch == nil {
		c.fetch = fetcher{c.client}
	}
	var all []access.Client
	for i, cl := range cfg.Clients {
		client, faults := c.load(cl, before)
		for _, err := range faults {
			wrong = append(wrong, fmt.Errorf("clients[%d].%w", i, err))
		}
		if len(faults) == 0 { // of the others the verifier has nothing sensible to say
			all = append(all, client)
		}
	}
	for _, is := range cfg.Merchant.Issuers {
		all = append(all, access.Client{
			Issuer: is.Issuer, Tenant: is.Tenant, Audience: cfg.Merchant.Audience,
			KeySet: from.own, Grants: grants(*is.Rights), Rate: rateOf(is.RateLimit),
			MaxLifetime: cfg.Merchant.MaxLifetime, Leeway: access.DefaultLeeway, RequireKeyID: true, RequireType: true,
		})
	}
	c.verifier, err = access.NewVerifier(all, from.now)
	if err := errors.Join(append(wrong, err)...); err != nil {
		c.close(from.before)
		return nil, err
	}
	return c, nil
}

// keySet gives the key set that a client publishes: the one there is, if it was there
// before.
func (c *clients) keySet(from config.Client, before *clients) *access.JWKS {
	who := publisher{from.Issuer, from.JWKSURL}
	if before != nil && before.jwks[who] != nil {
		c.jwks[who] = before.jwks[who]
	} else {
		c.jwks[who] = access.NewJWKS(from.JWKSURL, c.fetch, time.Now)
	}
	return c.jwks[who]
}

// load reads one client and the files that it names. Each of the errors begins with the
// member.
func (c *clients) load(from config.Client, before *clients) (access.Client, []error) {
	var wrong []error
	client := access.Client{
		Issuer: from.Issuer, Tenant: from.Tenant, Audience: from.Audience,
		Grants: grants(from.Rights), Rate: rateOf(from.RateLimit), BoundTokens: from.BoundTokens,
		RequireKeyID:   slices.Contains(from.Require, "kid"),
		RequireType:    slices.Contains(from.Require, "typ"),
		RequireTokenID: slices.Contains(from.Require, "jti"),
	}
	if len(from.Keys) > 0 || from.JWKSURL != "" {
		client.MaxLifetime, client.Leeway = from.MaxLifetime, from.Leeway
	}
	for j, k := range from.Keys {
		key, err := loadClientKey(k)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("keys[%d].publicKeyFile: %w", j, err))
		}
		client.Keys = append(client.Keys, key)
	}
	if from.JWKSURL != "" {
		if err := outbound.CheckURL(from.JWKSURL); err != nil {
			wrong = append(wrong, fmt.Errorf("jwksURL: %w", err))
		}
		client.KeySet = c.keySet(from, before)
	}
	if from.Certificate != nil {
		rule, err := loadCertificateRule(*from.Certificate)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("certificate.%w", err))
		}
		client.Certificate = rule
	}
	for j, g := range from.Rights {
		if _, err := access.ParseRight(g.Right); err != nil {
			wrong = append(wrong, fmt.Errorf("rights[%d]: %w", j, err))
		}
	}
	return client, wrong
}

func grants(list []config.Grant) []access.Grant {
	all := make([]access.Grant, len(list))
	for i, g := range list {
		all[i] = access.Grant{Right: access.Right(g.Right), Subjects: g.Subjects, Users: g.Users, KeyIDs: g.Keys, AnyOwner: g.AnyOwner, Tenants: g.Tenants, SingleUse: g.SingleUse}
	}
	return all
}

func rateOf(r config.RateLimit) access.Rate {
	if r.Unlimited() {
		return access.Rate{}
	}
	return access.Rate{PerSecond: r.PerSecond, Burst: r.Burst}
}

func loadClientKey(k config.ClientKey) (access.Key, error) {
	pub, err := loadPublicKey(k.PublicKeyFile)
	if err != nil {
		return access.Key{}, err
	}
	algorithm := access.RS256
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		algorithm = access.ES256
	}
	return access.Key{ID: k.ID, Algorithm: algorithm, Public: pub}, nil
}

func loadCertificateRule(from config.ClientCertificate) (*access.CertificateRule, error) {
	rule := &access.CertificateRule{Name: access.AlternativeName{DNS: from.DNS, URI: from.URI, Email: from.Email}, Subject: from.Subject}
	if from.CAFile != "" {
		var err error
		if rule.CAs, err = loadCertificates(from.CAFile); err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
	}
	var err error
	if from.CRLFile != "" {
		if rule.Revocation.CRLs, err = loadCRLs(from.CRLFile); err != nil {
			return nil, fmt.Errorf("crlFile: %w", err)
		}
	}
	if rule.Revocation.Denied, err = parsePins("deniedSPKISHA256", from.DeniedSPKISHA256); err != nil {
		return nil, err
	}
	rule.Pins, err = parsePins("spkiSHA256", from.SPKISHA256)
	return rule, err
}

// parsePins reads digests in hex.
func parsePins(member string, texts []string) (all [][sha256.Size]byte, err error) {
	for i, pin := range texts {
		b, err := hex.DecodeString(pin)
		if err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("%s[%d]: must be 64 hex digits", member, i)
		}
		all = append(all, [sha256.Size]byte(b))
	}
	return all, nil
}

// loadCRLs reads a PEM file with revocation lists.
func loadCRLs(path string) (all []*x509.RevocationList, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("%s holds a PEM block %q; only X509 CRL is expected", path, block.Type)
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no revocation list in PEM", path)
	}
	return all, nil
}

// loadPublicKey reads a PEM file with a public key or a certificate.
func loadPublicKey(path string) (crypto.PublicKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil || len(rest) != 0 {
		return nil, fmt.Errorf("%s must hold exactly one PEM block", path)
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	default:
		return nil, fmt.Errorf("%s holds a PEM block %q; PUBLIC KEY or CERTIFICATE is needed", path, block.Type)
	}
}

// loadCertificates reads a PEM file with certificates.
func loadCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// poolOf has certificates trusted.
func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// parseCertificates reads PEM certificates; other blocks are refused, text between them is
// not read.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block %q; only CERTIFICATE is expected", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return all, nil
}

// maxFetched bounds what is fetched at once: a JWK set.
const maxFetched = 64 << 10

func newOutbound(cfg config.Outbound) (*outbound.Client, error) {
	out := outbound.Config{Timeout: cfg.Timeout, MaxBytes: maxFetched, UserAgent: "mintmark/" + version}
	for i, text := range cfg.AllowPrivate {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("outbound.allowPrivate[%d]: must be a network such as 10.1.0.0/16", i)
		}
		out.Private = append(out.Private, prefix)
	}
	if cfg.CAFile != "" {
		certs, err := loadCertificates(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("outbound.caFile: %w", err)
		}
		out.Roots = poolOf(certs)
	}
	return outbound.New(out), nil
}

// fetcher makes the outbound client one that access can use.
type fetcher struct{ *outbound.Client }

func (f fetcher) Get(ctx context.Context, url, etag string) (access.Fetched, error) {
	doc, err := f.Client.Get(ctx, url, etag)
	if err != nil {
		return access.Fetched{}, err
	}
	return access.Fetched{Body: doc.Body, ETag: doc.ETag, MaxAge: doc.MaxAge, NotModified: doc.NotModified}, nil
}
