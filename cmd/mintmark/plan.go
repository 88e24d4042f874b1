package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
)

// plan is a configuration with everything loaded that it names, and nothing opened yet.
type plan struct {
	cfg      *config.Config
	keyring  *hsm.Keyring
	verifier *access.Verifier
	anchor   provisioning.Anchor
	tls      *tls.Config // nil for plain HTTP
	log      *slog.Logger
}

// loadPlan reads a configuration file and what it names. The error names all that is
// wrong at once, and has the exit status of configuration errors.
func loadPlan(path string) (*plan, error) {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	p, err := newPlan(cfg)
	if err != nil {
		return nil, exit(exitConfiguration, fmt.Errorf("configuration %s: %w", path, err))
	}
	return p, nil
}

func newPlan(cfg *config.Config) (*plan, error) {
	p := &plan{cfg: cfg, log: newLogger(os.Stderr, cfg.Log)}
	var errs [4]error
	p.keyring, errs[0] = loadKeyring(cfg)
	p.verifier, errs[1] = loadClients(cfg.Clients)
	p.anchor, errs[2] = loadAnchor(cfg)
	p.tls, errs[3] = loadTLS(cfg.API.TLS)
	return p, errors.Join(errs[:]...)
}

// newLogger writes to w, with the net for card numbers under it.
func newLogger(w io.Writer, cfg config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // checked with the configuration
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if cfg.Format == "text" {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(secret.Redact(h))
}

func loadKeyring(cfg *config.Config) (*hsm.Keyring, error) {
	ring, err := hsm.LoadKeyring(cfg.Keyring)
	if err != nil {
		return nil, err
	}
	if ring.Environment != cfg.Environment {
		return nil, fmt.Errorf("keyring %s is for %s, the configuration for %s", cfg.Keyring, ring.Environment, cfg.Environment)
	}
	return ring, nil
}

func loadAnchor(cfg *config.Config) (provisioning.Anchor, error) {
	if cfg.Environment == config.Production {
		return provisioning.AppleProduction(), nil
	}
	root, err := os.ReadFile(cfg.PushProvisioning.TestRootFile)
	if err != nil {
		return provisioning.Anchor{}, fmt.Errorf("pushProvisioning.testRootFile: %w", err)
	}
	a, err := provisioning.TestAnchor(root)
	if err != nil {
		return a, fmt.Errorf("pushProvisioning.testRootFile: %w", err)
	}
	return a, nil
}

func loadTLS(cfg *config.TLS) (*tls.Config, error) {
	if cfg == nil {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.CertificateFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("api.tls: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, nil
}

func loadClients(list []config.Client) (*access.Verifier, error) {
	var wrong []error
	clients := make([]access.Client, len(list))
	for i, c := range list {
		clients[i] = access.Client{Issuer: c.Issuer, Tenant: c.Tenant, Audience: c.Audience, MaxLifetime: c.MaxLifetime, Leeway: c.Leeway}
		for _, name := range c.Rights {
			right, err := access.ParseRight(name)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("clients[%d].rights: %w", i, err))
			}
			clients[i].Rights = append(clients[i].Rights, right)
		}
		for j, k := range c.Keys {
			pub, err := loadPublicKey(k.PublicKeyFile)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("clients[%d].keys[%d].publicKeyFile: %w", i, j, err))
			}
			clients[i].Keys = append(clients[i].Keys, access.Key{ID: k.ID, Algorithm: access.RS256, Public: pub})
		}
	}
	if len(wrong) != 0 {
		return nil, errors.Join(wrong...)
	}
	return access.NewVerifier(clients, time.Now)
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
