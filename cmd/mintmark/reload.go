package main

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"

	"github.com/mintmark/mintmark/internal/config"
)

// watch takes up what changes while the service runs, until the context ends: certificates
// when their files change, and on SIGHUP these and what the configuration calls reloaded.
func (s *service) watch(ctx context.Context, running *sync.WaitGroup) {
	for _, l := range s.listeners {
		if l.cert != nil {
			running.Go(func() { l.cert.watch(ctx) })
		}
	}
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.hup:
				s.supervised(func() { s.reload(ctx) })
			}
		}
	})
}

// reload reads the configuration again and takes up what may change under way. One with
// something wrong, or that needs an approval, changes nothing, but that certificates are read
// again.
func (s *service) reload(ctx context.Context) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	next, files, err := s.readNext()
	if err == nil && s.plan.cfg.DualControl.Required && !slices.Equal(files, *s.inUse.Load()) {
		err = errors.Join(errNotApproved, s.noteRefused(ctx, next))
		next.clients.close(s.callers.current.Load())
	} else if err == nil {
		err = s.takePlan(ctx, next, files)
	}
	if err != nil {
		s.plan.log.Error("configuration not reloaded; the old one stays in use", "error", err)
		s.askCertificates(ctx)
	}
}

// noteRefused records that a reload was asked for and needs an approval.
func (s *service) noteRefused(ctx context.Context, next *plan) error {
	return s.audit.Note(ctx, next.lifecycle("reload-refused"))
}

// takePlan takes up a plan that readNext gave. Its error says that nothing was changed. Whoever
// calls holds reloading.
func (s *service) takePlan(ctx context.Context, next *plan, files []takenFile) error {
	if s.merchant != nil {
		if err := s.merchant.Use(next.merchant); err != nil {
			next.clients.close(s.callers.current.Load())
			return err
		}
	}
	if err := s.takeUp(ctx, next.keyring, func() error { return s.turn(next) }); err != nil { // checked before
		s.plan.log.Error("configuration reloaded in part", "error", err)
	}
	s.callers.use(next)
	s.inUse.Store(&files)
	s.plan.level.Set(levelOf(next.cfg.Log))
	life := next.lifecycle("reload")
	if life.PendingRestart = needsRestart(s.plan.cfg, next.cfg); life.PendingRestart {
		s.plan.log.Warn("the configuration also has changes that need a restart")
	}
	if err := s.audit.Note(ctx, life); err != nil {
		s.plan.log.Error("reload not recorded", "error", err)
	}
	s.plan.log.Info("configuration reloaded", "sha256", next.cfg.Digest(), "clients", len(next.cfg.Clients))
	return nil
}

// turn takes up what names keys.
func (s *service) turn(next *plan) error {
	err := s.turnSchemes(next.cards.schemes)
	if s.passes == nil {
		return err
	}
	next.warnOfPasses()
	settings := next.passes
	// Only the types change under way; whether there is a pusher was decided at the start.
	inUse := s.passes.Settings()
	settings.PublicURL, settings.Push = inUse.PublicURL, inUse.Push
	return errors.Join(err, s.passes.Use(settings))
}

// needsRestart reports whether two configurations differ in what is not reloaded.
func needsRestart(a, b *config.Config) bool {
	fixed := func(c config.Config) config.Config {
		c.Clients, c.Merchant, c.Outbound, c.Log.Level, c.Passes.Types, c.PushProvisioning.Schemes = nil, config.Merchant{}, config.Outbound{}, "", nil, nil
		return c.WithoutDigest()
	}
	return !reflect.DeepEqual(fixed(*a), fixed(*b))
}
