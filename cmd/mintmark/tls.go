package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/signer"
)

// suites12 are TLS 1.2's suites with forward secrecy and authenticated encryption (RFC 9325,
// 4.2). TLS 1.3 has no others.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// A certificate is a listener's certificate, which may be another one tomorrow. Sessions are
// resumed across the change.
type certificate struct {
	name string // of the listener
	log  *slog.Logger
	// load reads the certificate, and says from which files, also where it cannot.
	load  func() (cert *tls.Certificate, files []string, err error)
	shown shown
	// asked has watch read again, and close the channel when it has.
	asked chan chan<- struct{}

	// Owned by newCertificate, and then by watch.
	files []string
	seen  []os.FileInfo // of files, before they were last read
}

// newCertificate reads a listener's certificate, with its key in a file or behind the gate.
func newCertificate(s *service, name string, cfg *config.TLS) (*certificate, error) {
	c := &certificate{name: name, log: s.plan.log, asked: make(chan chan<- struct{})}
	if cfg.KeyInToken {
		c.load = func() (*tls.Certificate, []string, error) {
			// The key that the service may use, which the file may be ahead of.
			key, err := s.keyring.Load().Active(hsm.APITLS)
			if err != nil {
				return nil, []string{s.plan.cfg.Keyring}, err
			}
			return tokenCertificate(s.plan.cfg.Keyring, key.Name, s.gate)
		}
	} else {
		c.load = func() (*tls.Certificate, []string, error) {
			pair, err := tls.LoadX509KeyPair(cfg.CertificateFile, cfg.KeyFile)
			return &pair, []string{cfg.CertificateFile, cfg.KeyFile}, err
		}
	}
	if err := c.reload(); err != nil {
		return nil, fmt.Errorf("%s.tls: %w", name, err)
	}
	return c, nil
}

// tokenCertificate is the keyring's certificate for a key in the token.
func tokenCertificate(keyring, name string, gate *signer.Gate) (cert *tls.Certificate, files []string, err error) {
	files = []string{keyring}
	ring, err := hsm.LoadKeyring(keyring)
	if err != nil {
		return nil, files, err
	}
	key, _ := ring.Find(name)
	chain := key.Chain()
	if len(chain) == 0 {
		return nil, files, uncertified(name)
	}
	files = append(files, filepath.Join(filepath.Dir(keyring), key.Certificate))
	cert = &tls.Certificate{PrivateKey: gate.TLSKey(name, chain[0].PublicKey), Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, files, nil
}

// uncertified says that a key has no certificate yet, and how it gets one.
func uncertified(name string) error {
	return fmt.Errorf("the keyring names no certificate for key %s; mintmark keys csr and import-certificate give it a CA's, or keys certify its own", name)
}

// reload reads the files again. What is wrong with them leaves the old certificate in use.
func (c *certificate) reload() error {
	for {
		before := c.stat() // what changes while it is read is read again
		cert, files, err := c.load()
		if err == nil && !slices.Equal(files, c.files) {
			c.files = files // others than were looked at
			continue
		}
		c.seen = before // also of a fault: the same one is told once
		if err == nil {
			c.shown.show(cert)
		}
		return err
	}
}

func (c *certificate) stat() []os.FileInfo {
	all := make([]os.FileInfo, len(c.files))
	for i, f := range c.files {
		all[i], _ = os.Stat(f) // nil while the file is not there
	}
	return all
}

// watchEvery is how often a certificate's files are looked at.
const watchEvery = 2 * time.Second

// ask has watch read the files again, and waits until it has, and until no handshake has still
// to sign with the key of a certificate before.
func (c *certificate) ask(ctx context.Context) {
	done := make(chan struct{})
	select {
	case c.asked <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	c.shown.settled(ctx)
}

// watch reads the files again when they change or when asked, until the context ends.
func (c *certificate) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !slices.EqualFunc(c.seen, c.stat(), sameFile) {
				c.readAgain()
			}
		case done := <-c.asked:
			c.readAgain()
			close(done)
		}
	}
}

// readAgain reads the files again, and says so.
func (c *certificate) readAgain() {
	if err := c.reload(); err != nil {
		c.log.Error("certificate not read again; the old one stays in use", "listener", c.name, "error", err)
		return
	}
	c.log.Info("certificate read again", "listener", c.name, "notAfter", c.shown.leaf().Leaf.NotAfter)
}

// sameFile reports whether a file looks untouched.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// tlsConfig is a listener's TLS. Callers' certificates are asked for where a role looks at
// them, and are judged for each request: which CA is right depends on the client.
func (c *certificate) tlsConfig(cfg *config.TLS) *tls.Config {
	t := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		CipherSuites:   suites12,
		GetCertificate: c.shown.certificate,
	}
	if cfg.MinVersion == "1.2" {
		t.MinVersion = tls.VersionTLS12
	}
	for _, mode := range cfg.ClientCertificates {
		if mode != "off" {
			t.ClientAuth = tls.RequestClientCert
		}
	}
	return t
}

// checkCertificates reads the listeners' certificates as far as that can be done without
// the token, and without the keyring if that could not be read.
func checkCertificates(cfg *config.Config, ring *hsm.Keyring) error {
	var wrong []error
	for _, l := range cfg.Listeners() {
		switch {
		case l.TLS == nil, l.TLS.KeyInToken && ring == nil:
		case l.TLS.KeyInToken:
			key, err := ring.Active(hsm.APITLS)
			if err == nil && len(key.Chain()) == 0 {
				err = uncertified(key.Name)
			}
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s.tls.keyInToken: %w", l.Name, err))
			}
		default:
			if _, err := tls.LoadX509KeyPair(l.TLS.CertificateFile, l.TLS.KeyFile); err != nil {
				wrong = append(wrong, fmt.Errorf("%s.tls: %w", l.Name, err))
			}
		}
	}
	return errors.Join(wrong...)
}
