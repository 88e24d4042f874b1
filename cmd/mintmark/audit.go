package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/outbound"
)

// checkCheckpointKey refuses to serve a production that could sign no checkpoint. Commands
// that make the key do not ask.
func (p *plan) checkCheckpointKey() error {
	if p.cfg.Environment != config.Production {
		return nil
	}
	if _, err := p.keyring.Active(hsm.AuditCheckpoint); err != nil {
		return exit(exitConfiguration, fmt.Errorf("keyring %s: production needs an active key for %s (mintmark keys generate)", p.cfg.Keyring, hsm.AuditCheckpoint))
	}
	return nil
}

// openCheckpoints makes the checkpointer, and refuses a database that is not the one that
// its checkpoints and anchors know.
func (s *service) openCheckpoints(ctx context.Context) error {
	cfg := s.plan.cfg
	var err error
	if s.log, err = s.store.OwnLog(ctx); err != nil {
		return exit(exitStorage, err)
	}
	anchors, err := newAnchors(s.plan)
	if err != nil {
		return exit(exitConfiguration, err)
	}
	a := cfg.Audit
	s.checkpoints = audit.NewCheckpointer(s.audit, audit.CheckpointConfig{
		Origin:  audit.OriginOf(cfg.Origin(), s.log),
		Base:    cfg.Origin(),
		Signer:  s.gate,
		Store:   s.store,
		Limits:  audit.Limits{Entries: uint64(a.MaxUnsigned), Age: a.MaxUnsignedAge, Free: uint64(a.MinFree) << 20},
		Free:    freeAt(s.store.Path()),
		Pins:    spkiPins(s.plan.keyring, hsm.AuditCheckpoint),
		Strict:  cfg.Environment == config.Production,
		Anchors: anchors,
		Every:   a.Every,
		Log:     s.plan.log,
	})
	s.plan.log.Info("audit log", "log", s.log.String(), "origin", audit.OriginOf(cfg.Origin(), s.log))
	s.metrics.Audit(s.checkpoints.Stats)
	if err := s.checkpoints.Start(ctx); err != nil {
		return exit(exitStorage, fmt.Errorf("audit log: %w", err))
	}
	return nil
}

// freeAt gives the bytes that are free where a file is; nil for no file.
func freeAt(path string) func() (uint64, error) {
	if path == "" {
		return nil
	}
	return func() (uint64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
			return 0, err
		}
		return st.Bavail * uint64(st.Bsize), nil
	}
}

// newAnchors makes the configured anchors.
func newAnchors(p *plan) ([]audit.Anchor, error) {
	var all []audit.Anchor
	for i, a := range p.cfg.Audit.Anchors {
		switch {
		case a.File != "":
			all = append(all, &audit.FileAnchor{Path: a.File})
		case a.Syslog != "":
			s, err := newSyslogAnchor(a)
			if err != nil {
				return nil, fmt.Errorf("audit.anchors[%d]: %w", i, err)
			}
			all = append(all, s)
		default:
			client, err := newOutbound(p.cfg.Outbound)
			if err != nil {
				return nil, err
			}
			all = append(all, &audit.WebhookAnchor{URL: a.Webhook, Poster: poster{client}})
		}
	}
	return all, nil
}

func newSyslogAnchor(a config.Anchor) (*audit.SyslogAnchor, error) {
	u, err := url.Parse(a.Syslog)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	s := &audit.SyslogAnchor{Network: u.Scheme, Address: u.Host, Host: host}
	if u.Scheme == "unix" {
		s.Network, s.Address = "unixgram", u.Path
	}
	if u.Scheme == "tls" {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
		if a.CAFile != "" {
			pem, err := os.ReadFile(a.CAFile)
			if err != nil {
				return nil, fmt.Errorf("caFile: %w", err)
			}
			s.TLS.RootCAs = x509.NewCertPool()
			if !s.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, errors.New("caFile: it holds no certificate")
			}
		}
	}
	return s, nil
}

// poster makes the outbound client one that an anchor can use.
type poster struct{ *outbound.Client }

func (p poster) Post(ctx context.Context, url, contentType string, body []byte) error {
	answer, err := p.Client.Post(ctx, url, contentType, body, http.Header{})
	if err != nil {
		return err
	}
	if answer.Status/100 != 2 {
		return fmt.Errorf("the anchor answered %d", answer.Status)
	}
	return nil
}

// expireEvery is how often entries are looked at for their age.
const expireEvery = time.Hour

// expire empties the bodies of entries past their retention, until the context ends.
func (s *service) expire(ctx context.Context) {
	keep := s.plan.cfg.Audit.Retention
	if keep == 0 {
		return
	}
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		if err := s.audit.ExpireOlder(ctx, s.store, time.Now().Add(-keep)); err != nil && ctx.Err() == nil {
			s.plan.log.Error("entries past their retention not expired yet", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
