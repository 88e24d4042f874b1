package provisioning

import (
	"context"
	"crypto/ecdh"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// ApplePay is the one wallet type supported.
const ApplePay = "APPLE_PAY"

// Gate is what provisioning asks of the keys; *signer.Gate is it. Errors with a method
// RetryAfter say that a later try may succeed; nothing is retried here.
type Gate interface {
	// Ready reports, without asking any token, whether an operation has a chance.
	Ready(op record.Operation) error
	SealECCv2(ctx context.Context, t *record.Ticket, to *ecdh.PublicKey, payload []byte) (signer.SealedECCv2, error)
	SignTAV(ctx context.Context, t *record.Ticket, v signer.TAV) (record.Held[[]byte], error)
	SealVault(ctx context.Context, t *record.Ticket, tenant, id string, data []byte) (signer.VaultRow, error)
	OpenVault(ctx context.Context, t *record.Ticket, tenant, id string, row signer.VaultRow) ([]byte, error)
	CardIndex(ctx context.Context, t *record.Ticket, tenant, externalCardID string) ([]byte, error)
}

var _ Gate = (*signer.Gate)(nil)

// Config says what a Service works with.
type Config struct {
	Chain    *ChainPolicy
	Nonces   NonceRules
	Recorder record.Recorder
	Gate     Gate
	Cards    Cards
	// Now is the clock.
	Now func() time.Time
	// Lease is how long a nonce stays claimed by a request that never ends: longer
	// than any request may take.
	Lease time.Duration
	// TAV says how Mastercard activation data are made.
	TAV TAVConfig
}

// TAVConfig says how Mastercard activation data are made.
type TAVConfig struct {
	Version  signer.TAVVersion
	KeyAlias string        // for version 4
	Validity time.Duration // at most signer.MaxTAVLife; 30 minutes are recommended
}

// Service is push provisioning for all tenants. It is safe for concurrent use.
type Service struct{ cfg Config }

// New checks the configuration and gives the service.
func New(cfg Config) (*Service, error) {
	var wrong []error
	if cfg.Chain == nil || cfg.Recorder == nil || cfg.Gate == nil || cfg.Cards == nil || cfg.Now == nil {
		wrong = append(wrong, errors.New("chain, recorder, gate, cards and now are all needed"))
	}
	if cfg.Lease <= 0 {
		wrong = append(wrong, errors.New("nonce lease must be positive"))
	}
	switch {
	case cfg.TAV.Version != signer.TAVv3 && cfg.TAV.Version != signer.TAVv4:
		wrong = append(wrong, fmt.Errorf("TAV version %q is not supported; use 3 or 4", cfg.TAV.Version))
	case cfg.TAV.Version == signer.TAVv4 && cfg.TAV.KeyAlias == "":
		wrong = append(wrong, errors.New("TAV version 4 needs a key alias"))
	}
	if cfg.TAV.Validity <= 0 || cfg.TAV.Validity > signer.MaxTAVLife {
		wrong = append(wrong, fmt.Errorf("TAV validity must be positive and at most %v", signer.MaxTAVLife))
	}
	if len(wrong) != 0 {
		return nil, fmt.Errorf("push provisioning: %w", errors.Join(wrong...))
	}
	return &Service{cfg: cfg}, nil
}

// Caller is who asks, and under which request id.
type Caller struct {
	Owner
	RequestID string
	// Claims are what the request itself uses up, such as a bearer token that is good for
	// one. They are taken with the operation's intent.
	Claims []record.Claim
}

// claim gives the changes that take the caller's claims, after own.
func (c Caller) claim(own ...record.Change) []record.Change {
	for _, cl := range c.Claims {
		own = append(own, cl)
	}
	return own
}

// end gives the changes that end them, after own.
func (c Caller) end(used bool, own ...record.Change) []record.Change {
	for _, cl := range c.Claims {
		own = append(own, cl.End(used))
	}
	return own
}

func (c Caller) intent(op record.Operation, refs map[string]string) record.Intent {
	return record.Intent{Operation: op, Tenant: c.Tenant, Issuer: c.Issuer, Subject: secret.Reference(c.Subject), RequestID: c.RequestID, Refs: refs}
}

// StoreCard seals a card into the vault as the caller's, under externalCardID, in place
// of one that was there. It gives the row's id.
//
// Errors: *FieldError, ErrCardData, or one with RetryAfter.
func (s *Service) StoreCard(ctx context.Context, who Caller, externalID string, c Card) (string, error) {
	if err := checkExternalCardID(externalID); err != nil {
		return "", err
	}
	if err := c.check(); err != nil {
		return "", err
	}
	id := uuid.NewString()
	ticket, err := s.cfg.Recorder.Begin(ctx, who.intent(record.StoreCard, map[string]string{"card": id}))
	if err != nil {
		return "", err
	}
	row, err := s.sealCard(ctx, ticket, who.Owner, id, externalID, c)
	if err != nil {
		return "", s.fail(ctx, ticket, err)
	}
	if _, err := record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(), row); err != nil {
		return "", err
	}
	return id, nil
}

func (s *Service) sealCard(ctx context.Context, t *record.Ticket, owner Owner, id, externalID string, c Card) (CardRow, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	lookup, err := s.cfg.Gate.CardIndex(ctx, t, owner.Tenant, externalID)
	if err != nil {
		return CardRow{}, err
	}
	data, err := c.marshal()
	defer secret.Wipe(data)
	if err != nil {
		return CardRow{}, err
	}
	v, err := s.cfg.Gate.SealVault(ctx, t, owner.Tenant, id, data)
	if err != nil {
		return CardRow{}, err
	}
	return CardRow{Owner: owner, ID: id, Lookup: lookup, Key: v.Key, IV: v.IV, Sealed: v.Sealed, Created: s.cfg.Now()}, nil
}

// openCard finds a card by its external id and opens it, if it is the owner's. The
// caller wipes the card.
func (s *Service) openCard(ctx context.Context, t *record.Ticket, owner Owner, externalID string) (Card, string, error) {
	lookup, err := s.cfg.Gate.CardIndex(ctx, t, owner.Tenant, externalID)
	if err != nil {
		return Card{}, "", err
	}
	row, err := s.cfg.Cards.FindCard(ctx, owner.Tenant, lookup)
	if err != nil {
		return Card{}, "", err
	}
	if !sameOwner(row.Owner, owner) {
		return Card{}, "", ErrUnknownCard
	}
	data, err := s.cfg.Gate.OpenVault(ctx, t, owner.Tenant, row.ID, signer.VaultRow{Key: row.Key, IV: row.IV, Sealed: row.Sealed})
	defer secret.Wipe(data)
	if err != nil {
		return Card{}, "", err
	}
	c, err := unmarshalCard(data)
	if err != nil {
		return Card{}, "", &CardError{Reason: CardData}
	}
	return c, row.ID, nil
}

func sameOwner(a, b Owner) bool {
	return a.Tenant == b.Tenant && a.Issuer == b.Issuer && subtle.ConstantTimeCompare([]byte(a.Subject), []byte(b.Subject)) == 1
}

// fail records that an operation ended without output and returns why, with what could not
// be recorded of it.
func (s *Service) fail(ctx context.Context, t *record.Ticket, why error, changes ...record.Change) error {
	outcome, reason := outcomeOf(why)
	return errors.Join(why, record.Fail(ctx, s.cfg.Recorder, t, record.Result{Outcome: outcome, Reason: reason}, changes...))
}

// outcomeOf gives the stable code of an error for the record: never its text.
func outcomeOf(err error) (record.Outcome, string) {
	var card *CardError
	var chain *ChainError
	switch {
	case errors.Is(err, ErrUnknownCard):
		return record.OutcomeRefused, "unknown-card"
	case errors.Is(err, ErrNonceUsed):
		return record.OutcomeRefused, "nonce-used"
	case errors.Is(err, ErrWalletType):
		return record.OutcomeRefused, "wallet-type"
	case errors.As(err, &card):
		return record.OutcomeRefused, string(card.Reason)
	case errors.As(err, &chain):
		return record.OutcomeRefused, string(chain.Reason)
	default:
		return record.OutcomeFailed, "failed"
	}
}
