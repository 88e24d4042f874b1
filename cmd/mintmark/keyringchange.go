package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/signer"
)

// keyringWithin bounds the taking up of a keyring: every member proves every key twice.
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
// that is away takes the keyring up when it is back, before it does anything else.
func (s *service) takeUp(ctx context.Context, ring *hsm.Keyring, turn func() error) error {
	before := s.keyring.Load()
	same := ring.Digest() == before.Digest()
	ctx, cancel := context.WithTimeout(ctx, keyringWithin)
	defer cancel()
	bound := ring.Only(s.plan.bound()...)
	if !same {
		if err := s.hsm.Use(ctx, bound.Handover(before)); err != nil {
			s.plan.log.Error("keyring not taken up by every member yet", "error", err)
		}
		s.keyring.Store(ring)
	}
	err := turn()
	for _, l := range s.listeners {
		if l.cert != nil {
			l.cert.ask(ctx)
		}
	}
	if same || err != nil {
		return err
	}
	if err := s.hsm.Drain(ctx); err != nil {
		s.plan.log.Warn("calls begun before the keyring changed are still under way", "error", err)
	}
	if err := s.hsm.Use(ctx, bound); err != nil {
		s.plan.log.Error("keyring not taken up by every member yet", "error", err)
	}
	s.plan.log.Info("keyring taken up", "sha256", ring.Digest(), "before", before.Digest())
	return nil
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
