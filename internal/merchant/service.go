package merchant

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// Gate is what merchant asks of the keys; *signer.Gate is it. Errors with a method
// RetryAfter say that a later try may succeed; nothing is retried here.
type Gate interface {
	// Ready reports, without asking any token, whether an operation has a chance.
	Ready(op record.Operation) error
	SignMerchantJWT(ctx context.Context, t *record.Ticket, claims jwt.Claims) (signer.SignedJWT, error)
	SignProximityToken(ctx context.Context, t *record.Ticket, claims jwt.Claims) (signer.SignedJWT, error)
}

var _ Gate = (*signer.Gate)(nil)

// Config says what a Service works with.
type Config struct {
	Recorder record.Recorder
	Gate     Gate
	Now      func() time.Time
}

// Service signs and checks for all tenants. It is safe for concurrent use.
type Service struct {
	cfg       Config
	settings  atomic.Pointer[Settings]
	exhausted exhausted
}

// New gives the service, or all that is wrong with the settings.
func New(cfg Config, settings Settings) (*Service, error) {
	if cfg.Recorder == nil || cfg.Gate == nil || cfg.Now == nil {
		return nil, errors.New("merchant: recorder, gate and now are all needed")
	}
	s := &Service{cfg: cfg}
	return s, s.Use(settings)
}

// Use has the service go by other settings from the next request on. Settings with
// something wrong are refused, and the old ones stay.
func (s *Service) Use(settings Settings) error {
	if err := settings.check(); err != nil {
		return fmt.Errorf("merchant: %w", err)
	}
	s.settings.Store(&settings)
	return nil
}

// Caller is who asks, and under which request id.
type Caller struct {
	Tenant, Issuer, Subject string
	RequestID               string
	// Claims are what the request itself uses up, such as a bearer token that is good for
	// one. They are taken before the token is asked for anything.
	Claims record.Claims
}

func (c Caller) intent(op record.Operation, refs map[string]string) record.Intent {
	return record.Intent{Operation: op, Tenant: c.Tenant, Issuer: c.Issuer, Subject: secret.Reference(c.Subject), RequestID: c.RequestID, Refs: refs}
}

// sign takes one JWT from the intent to its release: the intent and what the caller uses up,
// the signature, the result with further changes. A crash before the result leaves no
// token outside, and a claim that ends with its lease.
func (s *Service) sign(ctx context.Context, who Caller, in record.Intent,
	work func(context.Context, *record.Ticket) (signer.SignedJWT, error), changes ...record.Change,
) (token, kid string, err error) {
	if err := s.cfg.Gate.Ready(in.Operation); err != nil {
		return "", "", err
	}
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, in)
	if err != nil {
		return "", "", err
	}
	working, cancel := record.Working(ctx)
	defer cancel()
	signed, err := work(working, ticket)
	if err != nil {
		return "", "", errors.Join(err, s.fail(ctx, ticket, "failed", who))
	}
	result := record.Done(signed.Token.Digest())
	result.Refs = map[string]string{"kid": signed.KeyID}
	receipt, err := record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true, changes...)...)
	switch {
	case errors.Is(err, ErrQuota):
		return "", "", errors.Join(err, s.fail(ctx, ticket, "quota", who))
	case record.Refused(err):
		return "", "", errors.Join(err, s.fail(ctx, ticket, "claim-lost", who))
	case err != nil:
		return "", "", err
	}
	token, err = signed.Token.Release(receipt)
	return token, signed.KeyID, err
}

// fail records that an operation ended without output.
func (s *Service) fail(ctx context.Context, t *record.Ticket, reason string, who Caller) error {
	outcome := record.OutcomeRefused
	if reason == "failed" {
		outcome = record.OutcomeFailed
	}
	return record.Fail(ctx, s.cfg.Recorder, t, record.Result{Outcome: outcome, Reason: reason}, who.Claims.End(false)...)
}

// refuse records a refusal before anything was begun, and gives why back.
func (s *Service) refuse(ctx context.Context, in record.Intent, reason string, why error) error {
	return errors.Join(why, s.cfg.Recorder.Refuse(ctx, in, reason))
}
