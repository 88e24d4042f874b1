package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/signer"
)

// keyringWithin bounds each of the two steps in which the members take up a keyring.
const keyringWithin = time.Minute

// takeUp has the service work by another keyring, in steps of which none leaves a request
// without a key:
//
//  1. The members take up the new keyring with the old keys still usable by name. New work
//     of a purpose uses the new key from here on.
//  2. turn and the listeners' certificates take up what names keys.
//  3. What was begun before is over.
//  4. The members take up the new keyring itself: retired keys make nothing more.
//
// A crash in between leaves nothing behind: the next start takes the file as it is. A member
// that is away takes the keyring up when it is back, before it does anything else. Where turn
// fails, which names keys that it was checked with, the last two steps wait for the next
// reload. The caller holds reloading.
func (s *service) takeUp(ctx context.Context, ring *hsm.Keyring, turn func() error) error {
	before := s.keyring.Load()
	lasting := context.WithoutCancel(ctx) // a keyring that is half taken up is neither
	bound := ring.Only(s.plan.bound()...)
	if ring.Digest() != before.Digest() {
		s.use(lasting, bound.Handover(before))
		s.keyring.Store(ring)
		s.handingOver = true
	}
	err := turn()
	s.askCertificates(ctx)
	if err != nil || !s.handingOver {
		return err
	}
	draining, cancel := context.WithTimeout(lasting, drainWithin)
	defer cancel()
	if err := s.hsm.Drain(draining); err != nil {
		s.plan.log.Warn("calls begun before the keyring changed are still under way", "error", err)
	}
	s.use(lasting, bound)
	s.handingOver = false
	s.plan.log.Info("keyring taken up", "sha256", ring.Digest(), "before", before.Digest())
	return nil
}

// askCertificates has the listeners' certificates read again. Who reads them ends with the
// service, so that the wait for it does too.
func (s *service) askCertificates(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, l := range s.listeners {
		if l.cert != nil {
			l.cert.ask(ctx)
		}
	}
}

// use has every member take up a keyring. One that cannot has ceased to work, and takes it up
// before it does again.
func (s *service) use(ctx context.Context, ring *hsm.Keyring) {
	ctx, cancel := context.WithTimeout(ctx, keyringWithin)
	defer cancel()
	if err := s.hsm.Use(ctx, ring); err != nil {
		s.plan.log.Error("keyring not taken up by every member yet", "error", err)
	}
}

// mayTakeUp reports what keeps a plan's keyring from being taken up under way.
func (s *service) mayTakeUp(next *plan) error {
	if err := next.keyring.Follows(s.keyring.Load()); err != nil {
		return fmt.Errorf("keyring %s: %w", next.cfg.Keyring, err)
	}
	if s.provisioning == nil {
		return nil
	}
	for name, scheme := range next.cards.schemes {
		if scheme.Key != "" && !slices.Contains(s.plan.bound(), hsm.NetworkOTP) {
			return fmt.Errorf("pushProvisioning.schemes: %s is the first that has a key, which needs a restart", name)
		}
	}
	return s.provisioning.CheckSchemes(next.cards.schemes)
}

// turnSchemes takes up the activation schemes, which name keys.
func (s *service) turnSchemes(schemes map[string]signer.Scheme) error {
	if s.provisioning == nil {
		return nil
	}
	return s.provisioning.UseSchemes(schemes)
}
