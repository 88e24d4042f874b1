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
	"slices"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/outbound"
)

// clients are who may call, as the configuration has them.
type clients struct {
	verifier *access.Verifier
	jwks     []*access.JWKS // whose fetching ends with close
	outbound *outbound.Client
}

// close ends what goes on in the background for these clients.
func (c *clients) close() {
	for _, set := range c.jwks {
		set.Close()
	}
	c.outbound.Close()
}

// loadClients reads the clients and the merchant issuers, whose keys are our own.
func loadClients(cfg *config.Config, own access.KeySet, now func() time.Time) (*clients, error) {
	fetch, err := newOutbound(cfg.Outbound)
	if err != nil {
		return nil, err
	}
	c := &clients{outbound: fetch}
	var all []access.Client
	var wrong []error
	for i, from := range cfg.Clients {
		client, err := c.load(from)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("clients[%d].%w", i, err))
		}
		all = append(all, client)
	}
	for _, from := range cfg.Merchant.Issuers {
		all = append(all, access.Client{
			Issuer: from.Issuer, Tenant: from.Tenant, Audience: cfg.Merchant.Audience,
			KeySet: own, Grants: grants(*from.Rights), Rate: rateOf(from.RateLimit),
			MaxLifetime: cfg.Merchant.MaxLifetime, Leeway: access.DefaultLeeway, RequireKeyID: true, RequireType: true,
		})
	}
	if len(wrong) == 0 {
		c.verifier, err = access.NewVerifier(all, now)
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// load reads one client and the files that it names. The error begins with the member.
func (c *clients) load(from config.Client) (access.Client, error) {
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
			return client, fmt.Errorf("keys[%d].publicKeyFile: %w", j, err)
		}
		client.Keys = append(client.Keys, key)
	}
	if from.JWKSURL != "" {
		if err := outbound.CheckURL(from.JWKSURL); err != nil {
			return client, fmt.Errorf("jwksURL: %w", err)
		}
		set := access.NewJWKS(from.JWKSURL, fetcher{c.outbound}, time.Now)
		c.jwks = append(c.jwks, set)
		client.KeySet = set
	}
	if from.Certificate != nil {
		rule, err := loadCertificateRule(*from.Certificate)
		if err != nil {
			return client, fmt.Errorf("certificate.%w", err)
		}
		client.Certificate = rule
	}
	return client, nil
}

func grants(list []config.Grant) []access.Grant {
	all := make([]access.Grant, len(list))
	for i, g := range list {
		all[i] = access.Grant{Right: access.Right(g.Right), Subjects: g.Subjects, Users: g.Users, KeyIDs: g.Keys, Tenants: g.Tenants, SingleUse: g.SingleUse}
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
	for i, pin := range from.SPKISHA256 {
		b, err := hex.DecodeString(pin)
		if err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("spkiSHA256[%d]: must be 64 hex digits", i)
		}
		rule.Pins = append(rule.Pins, [sha256.Size]byte(b))
	}
	return rule, nil
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

// loadCertificates reads a PEM file with certificates and nothing else.
func loadCertificates(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a PEM block %q; only CERTIFICATE is expected", path, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
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
		out.Roots = x509.NewCertPool()
		for _, c := range certs {
			out.Roots.AddCert(c)
		}
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
