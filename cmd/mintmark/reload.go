package main

import (
	"context"
	"reflect"
	"sync"

	"github.com/mintmark/mintmark/internal/config"
)

// watch takes up what changes while the service runs, until the context ends: certificates
// when their files change, and on SIGHUP these and what the configuration calls reloaded.
func (s *service) watch(ctx context.Context, running *sync.WaitGroup) {
	var asked []chan struct{}
	for _, l := range s.listeners {
		if l.cert == nil {
			continue
		}
		ask := make(chan struct{}, 1)
		asked = append(asked, ask)
		running.Go(func() { l.cert.watch(ctx, ask) })
	}
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.hup:
			}
			s.reload(ctx)
			for _, ask := range asked {
				select {
				case ask <- struct{}{}:
				default: // it is about to read already
				}
			}
		}
	})
}

// reload reads the configuration again and takes up what may change under way. One with
// something wrong changes nothing.
func (s *service) reload(ctx context.Context) {
	log := s.plan.log
	next, err := loadPlanFor(s.plan.path, s.plan.roles, s.callers.current.Load())
	if err != nil {
		log.Error("configuration not reloaded; the old one stays in use", "error", err)
		return
	}
	if s.merchant != nil {
		if err := s.merchant.Use(next.merchant); err != nil {
			log.Error("configuration not reloaded; the old one stays in use", "error", err)
			next.clients.close(s.callers.current.Load())
			return
		}
	}
	if s.passes != nil {
		settings := next.passes
		// Only the types change under way; whether there is a pusher was decided at the start.
		inUse := s.passes.Settings()
		settings.PublicURL, settings.Push = inUse.PublicURL, inUse.Push
		if err := s.passes.Use(settings); err != nil { // checked with the configuration
			log.Error("pass types not reloaded", "error", err)
		}
	}
	s.callers.use(next)
	s.plan.level.Set(levelOf(next.cfg.Log))
	life := next.lifecycle("reload")
	if life.PendingRestart = needsRestart(s.plan.cfg, next.cfg); life.PendingRestart {
		log.Warn("the configuration also has changes that need a restart")
	}
	if life.KeyringSHA256 != s.plan.keyring.Digest() {
		log.Warn("the keyring has changes that need a restart, but for certificates of the listeners")
		life.KeyringSHA256 = s.plan.keyring.Digest() // the one that is in use
	}
	if err := s.audit.Note(ctx, life); err != nil {
		log.Error("reload not recorded", "error", err)
	}
	log.Info("configuration reloaded", "sha256", next.cfg.Digest(), "clients", len(next.cfg.Clients))
}

// needsRestart reports whether two configurations differ in what is not reloaded.
func needsRestart(a, b *config.Config) bool {
	fixed := func(c config.Config) config.Config {
		c.Clients, c.Merchant, c.Outbound, c.Log.Level, c.Passes.Types = nil, config.Merchant{}, config.Outbound{}, "", nil
		return c.WithoutDigest()
	}
	return !reflect.DeepEqual(fixed(*a), fixed(*b))
}
