package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
)

// plan is a configuration with everything loaded that it names, and nothing opened yet.
type plan struct {
	path     string
	roles    []string // in place of the file's, unless nil
	cfg      *config.Config
	keyring  *hsm.Keyring // whole; a service uses its roles' part of it
	clients  *clients
	own      *ownKeys
	merchant merchant.Settings
	passes   passes.Settings
	anchor   provisioning.Anchor
	cards    cardPlan

	approvals approvalPlan
	level     *slog.LevelVar
	log       *slog.Logger
}

// loadPlan reads a configuration file and what it names. The error names all that is
// wrong at once, and has the exit status of configuration errors.
func loadPlan(path string) (*plan, error) {
	return loadPlanFor(path, nil, nil)
}

// loadPlanFor is loadPlan with other roles than the file's, unless nil, and in place of a
// plan that is in use, unless nil.
func loadPlanFor(path string, roles []string, before *clients) (*plan, error) {
	return readPlan(path, roles, func(p *plan) error { return p.load(before) })
}

// loadKeysPlan reads a configuration file and its keyring alone, for commands that make or
// change keys: what else the configuration names may need the very key, or its certificate,
// that such a command is to make.
func loadKeysPlan(path string) (*plan, error) {
	return readPlan(path, nil, func(p *plan) (err error) {
		p.keyring, err = loadKeyring(p.cfg)
		return err
	})
}

// readPlan reads a configuration file, and has load do with what it names.
func readPlan(path string, roles []string, load func(*plan) error) (*plan, error) {
	cfg, err := config.LoadFor(path, os.Environ(), roles)
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	if err := checkBuild(cfg.Environment); err != nil {
		return nil, err
	}
	p := &plan{path: path, roles: roles, cfg: cfg, own: &ownKeys{}, level: &slog.LevelVar{}}
	p.log = newLogger(os.Stderr, cfg.Log, p.level)
	if err := load(p); err != nil {
		return nil, exit(exitConfiguration, fmt.Errorf("configuration %s: %w", path, err))
	}
	return p, nil
}

// load loads all that the configuration names.
func (p *plan) load(before *clients) error {
	cfg := p.cfg
	var errs [9]error
	p.keyring, errs[0] = loadKeyring(cfg)
	p.clients, errs[1] = loadClients(cfg, clientSources{own: p.own, now: time.Now, before: before})
	p.merchant, errs[2] = merchantSettings(cfg)
	if cfg.HasRole(config.RoleIssuer) {
		p.anchor, errs[3] = loadAnchor(cfg)
		p.cards, errs[5] = loadCardPlan(cfg, p.keyring)
		p.approvals, errs[6] = loadApprovalPlan(cfg)
	}
	errs[4] = checkCertificates(cfg, p.keyring)
	errs[8] = checkTracing(cfg)
	if errs[0] == nil && cfg.HasRole(config.RolePasses) {
		p.passes, errs[7] = passSettings(cfg, p.keyring)
	}
	err := errors.Join(errs[:]...)
	if err != nil && p.clients != nil {
		p.clients.close(before)
	}
	return err
}

// bound are the purposes that the process's roles use keys for. Keys of other purposes
// cannot be used in it.
func (p *plan) bound() []hsm.Purpose {
	all := []hsm.Purpose{hsm.AuditCheckpoint}
	if p.cfg.HasRole(config.RoleIssuer) {
		all = append(all, p.cards.purposes()...)
		all = append(all, approvalPurposes(p.cfg)...)
	}
	if p.cfg.HasRole(config.RoleMerchant) {
		all = append(all, hsm.MerchantJWT, hsm.ProximityToken)
	}
	if p.cfg.HasRole(config.RolePasses) {
		all = append(all, hsm.Pass)
	}
	for _, l := range p.cfg.Listeners() {
		if l.TLS != nil && l.TLS.KeyInToken && !slices.Contains(all, hsm.APITLS) {
			all = append(all, hsm.APITLS)
		}
	}
	return all
}

// newLogger writes to w, with the net for card numbers under it.
func newLogger(w io.Writer, cfg config.Log, level *slog.LevelVar) *slog.Logger {
	level.Set(levelOf(cfg))
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if cfg.Format == "text" {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(secret.Redact(h))
}

// levelOf is the configured level.
func levelOf(cfg config.Log) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(cfg.Level)) // checked with the configuration
	return l
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
