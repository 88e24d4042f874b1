package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/webservice"
)

// passSettings reads the passes section, with the certificates that the keyring names.
func passSettings(cfg *config.Config, ring *hsm.Keyring) (passes.Settings, error) {
	s := passes.Settings{PublicURL: cfg.Passes.PublicURL, Types: map[passes.TypeID]passes.TypeSetting{}, Push: !cfg.Passes.Push.Disabled}
	var wrong []error
	for i, t := range cfg.Passes.Types {
		key, ok := ring.Find(t.Key)
		if !ok || key.Purpose != hsm.Pass {
			wrong = append(wrong, fmt.Errorf("passes.types[%d].key: the keyring has no key for pass of this name", i))
			continue
		}
		if key.State == hsm.Retired {
			wrong = append(wrong, fmt.Errorf("passes.types[%d].key: %s is retired and signs nothing", i, key.Name))
		}
		chain := key.Chain()
		if len(chain) > 0 {
			if marks := passkit.ReadMarks(chain[0]); marks.PassTypeIdentifier != t.PassTypeIdentifier {
				wrong = append(wrong, fmt.Errorf("passes.types[%d].passTypeIdentifier: the keyring's certificate of %s is for %q", i, key.Name, marks.PassTypeIdentifier))
			}
		}
		s.Types[passes.TypeID{Tenant: t.Tenant, Type: t.PassTypeIdentifier}] = passes.TypeSetting{Key: t.Key, Chain: chain}
	}
	return s, errors.Join(wrong...)
}

// passWarnings say which certificates of the keyring no pass can be signed with, or none that a
// device takes. A service runs nevertheless: a tenant may have given the pass type another.
func (p *plan) passWarnings() (all []error) {
	var roots *x509.CertPool
	if p.cfg.Environment == config.Production { // elsewhere anybody's are good enough
		roots = passkit.AppleRoots()
	}
	for i, t := range p.cfg.Passes.Types {
		chain := p.passes.Types[passes.TypeID{Tenant: t.Tenant, Type: t.PassTypeIdentifier}].Chain
		if len(chain) == 0 {
			continue
		}
		if err := passkit.CheckCertificates(chain, passkit.AppleIntermediates(), roots); err != nil {
			all = append(all, fmt.Errorf("passes.types[%d].key: the keyring's certificate of %s: %w", i, t.Key, err))
		}
	}
	return all
}

// warnOfPasses logs them.
func (p *plan) warnOfPasses() {
	for _, err := range p.passWarnings() {
		p.log.Warn("pass certificate", "error", err)
	}
}

// openPasses makes the pass service and, unless it is disabled, the pusher.
func (s *service) openPasses() (err error) {
	cfg := s.plan.cfg.Passes
	settings := s.plan.passes
	if settings.PublicURL == "" { // development: the listener says where it is
		settings.PublicURL = "http://unknown.invalid"
	}
	s.passes, err = passes.New(passes.Config{
		Recorder: s.audit, Gate: s.gate, Rows: s.store, Devices: s.store, Observer: s.metrics, Now: time.Now,
		BundleCache: int64(cfg.BundleCacheMiB) << 20, FileCache: int64(cfg.FileCacheMiB) << 20, Lease: cfg.PersonalizationLease,
		Limits: passes.Limits{Files: cfg.MaxFiles, FileBytes: int64(cfg.MaxFilesMiB) << 20, Registrations: cfg.MaxRegistrations},
	}, settings)
	if err != nil || cfg.Push.Disabled {
		return err
	}
	s.pusher, err = s.newPusher(cfg.Push)
	return err
}

func (s *service) newPusher(cfg config.PassPush) (*passes.Pusher, error) {
	out, err := newOutbound(s.plan.cfg.Outbound)
	if err != nil {
		return nil, err
	}
	pc := passes.PushConfig{
		Service: s.passes, Outbox: s.store, Host: cfg.Host, PushType: cfg.PushType, Lease: cfg.Lease, Dial: out.Dial,
		Endpoints: map[webservice.ClientKind]passes.Endpoint{}, Post: pushPoster{out}, Log: s.plan.log,
	}
	switch cfg.MaxTLSVersion {
	case "1.2":
		pc.MaxTLS = tls.VersionTLS12
	case "1.3":
		pc.MaxTLS = tls.VersionTLS13
	}
	if cfg.CAFile != "" {
		certs, err := loadCertificates(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("passes.push.caFile: %w", err)
		}
		pc.Roots = poolOf(certs)
	}
	for i, e := range cfg.Endpoints {
		if err := outbound.CheckURL(e.URL); err != nil {
			return nil, fmt.Errorf("passes.push.endpoints[%d].url: %w", i, err)
		}
		to := passes.Endpoint{URL: e.URL}
		if e.AuthorizationFile != "" {
			b, err := os.ReadFile(e.AuthorizationFile)
			if err != nil {
				return nil, fmt.Errorf("passes.push.endpoints[%d].authorizationFile: %w", i, err)
			}
			to.Authorization = strings.TrimSpace(string(b))
		}
		pc.Endpoints[webservice.ClientKind(e.Client)] = to
	}
	return passes.NewPusher(pc)
}

// pushPoster makes the outbound client one that passes can use.
type pushPoster struct{ *outbound.Client }

func (p pushPoster) Post(ctx context.Context, address string, body []byte, header http.Header) (int, error) {
	a, err := p.Client.Post(ctx, address, "application/json", body, header)
	return a.Status, err
}

// locatePasses has passes name the listener as their web service, where the configuration
// names none, as in development.
func (s *service) locatePasses(l *listener, address string) error {
	if s.passes == nil || s.plan.cfg.Passes.PublicURL != "" {
		return nil
	}
	settings := s.passes.Settings()
	settings.PublicURL = "http://" + address
	if l.cert != nil {
		settings.PublicURL = "https://" + address
	}
	return s.passes.Use(settings)
}
