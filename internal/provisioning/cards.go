package provisioning

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// Masked is what is shown of a stored card (PCI DSS 4.0.1, 3.4.1): the last four digits, and
// neither expiry nor name.
type Masked struct {
	ExternalCardID string
	Product        string
	Network        Network
	Last4          string
	Stored         time.Time
}

func (s *Service) mask(externalID string, c Card, stored time.Time) Masked {
	return Masked{ExternalCardID: externalID, Product: c.Product, Network: s.products[c.Product].Network, Last4: c.PAN.Last4(), Stored: stored}
}

// StoreCard seals a card into the vault as the caller's, under externalCardID, in place of
// one of the same owner that was there. It gives the row's id. It is for card data that are
// here already; what comes from outside comes through PutCard.
//
// Errors: *FieldError, ErrCardData, *CardError, or one with RetryAfter.
func (s *Service) StoreCard(ctx context.Context, who Caller, externalID string, c Card) (string, error) {
	if err := checkExternalCardID(externalID); err != nil {
		return "", err
	}
	if err := c.check(); err != nil {
		return "", err
	}
	if _, err := s.accept(c); err != nil {
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

// PutCard opens an encrypted card and stores it under externalCardID, in place of one of the
// same owner that was there. The owner is the one that the message names.
//
// Errors: *FieldError; ErrEncryptedCard, ErrMessageUsed and *CardError for one that is
// refused; or one with RetryAfter.
func (s *Service) PutCard(ctx context.Context, who Caller, externalID, compact string) (Masked, error) {
	if err := checkExternalCardID(externalID); err != nil {
		return Masked{}, err
	}
	id := uuid.NewString()
	intent := who.intent(record.StoreCard, map[string]string{"card": id})
	e, claim, err := s.receive(compact, match{who: who, externalID: externalID})
	if err != nil {
		return Masked{}, errors.Join(err, s.cfg.Recorder.Refuse(ctx, intent, "encrypted-card"))
	}
	if err := s.cfg.Gate.Ready(record.StoreCard); err != nil {
		return Masked{}, err
	}
	// Transaction 1: the message is claimed, the intent on record. A crash from here on
	// leaves a lease that runs out.
	ticket, err := s.cfg.Recorder.Begin(ctx, intent, who.Claims.Take(claim)...)
	if err != nil {
		if errors.Is(err, ErrMessageUsed) {
			return Masked{}, errors.Join(ErrMessageUsed, s.cfg.Recorder.Refuse(ctx, intent, "encrypted-card-used"))
		}
		return Masked{}, err
	}
	row, masked, err := s.take(ctx, ticket, id, e)
	if err != nil {
		return Masked{}, s.fail(ctx, ticket, err, who.Claims.End(false, claim.End(false))...)
	}
	// Transaction 2, fenced: the message is used, the card stored.
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(), who.Claims.End(true, claim.End(true), row)...)
	if record.Refused(err) {
		return Masked{}, s.fail(ctx, ticket, err, who.Claims.End(false, claim.End(false))...)
	}
	if err != nil {
		return Masked{}, err
	}
	return masked, nil
}

// ImportCard stores an encrypted card of a tenant as PutCard does, for whoever it names, in
// one transaction: what a crash leaves is either nothing, or the card stored and its message
// used, so that an import can be run again from its beginning.
//
// Errors as PutCard's. ErrMessageUsed says that a message of this jti for this card has been
// used for good; while another request has it, the error has RetryAfter.
func (s *Service) ImportCard(ctx context.Context, tenant, requestID, compact string) error {
	who := Caller{Owner: Owner{Tenant: tenant}, AnyOwner: true, RequestID: requestID}
	e, claim, err := s.receive(compact, match{who: who})
	if err != nil { // nothing of what it says about itself is proved
		return refusedWith(ctx, s.cfg.Recorder, who.intent(record.StoreCard, nil), err)
	}
	used, err := s.cfg.Cards.MessageUsed(ctx, tenant, claim.ID)
	switch {
	case err != nil:
		return err
	case used:
		return ErrMessageUsed
	}
	id := uuid.NewString()
	who.Issuer, who.Subject = e.Issuer, e.Subject
	ticket, err := s.cfg.Recorder.Open(who.intent(record.StoreCard, map[string]string{"card": id}))
	if err != nil {
		return err
	}
	row, _, err := s.take(ctx, ticket, id, e)
	if err != nil {
		return s.fail(ctx, ticket, err)
	}
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(), MessageUse{Claim: *claim}, row)
	switch {
	case errors.Is(err, ErrMessageUsed):
		return s.usedOrBusy(ctx, claim)
	case record.Refused(err):
		return s.fail(ctx, ticket, err)
	}
	return err
}

// usedOrBusy tells a message that has been used from one that a request under way has.
func (s *Service) usedOrBusy(ctx context.Context, claim *MessageClaim) error {
	used, err := s.cfg.Cards.MessageUsed(ctx, claim.Tenant, claim.ID)
	switch {
	case err != nil:
		return err
	case used:
		return ErrMessageUsed
	default:
		return &busyMessage{after: s.cfg.Lease}
	}
}

// take opens an encrypted card and seals it into a row.
func (s *Service) take(ctx context.Context, t *record.Ticket, id string, e signer.EncryptedCard) (CardRow, Masked, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	c, err := s.open(ctx, t, e)
	if err != nil {
		return CardRow{}, Masked{}, err
	}
	defer c.Wipe()
	if _, err := s.accept(c); err != nil {
		return CardRow{}, Masked{}, err
	}
	row, err := s.sealCard(ctx, t, Owner{Tenant: e.Tenant, Issuer: e.Issuer, Subject: e.Subject}, id, e.ExternalCardID, c)
	return row, s.mask(e.ExternalCardID, c, row.Created), err
}

// open opens an encrypted card. The caller wipes it.
func (s *Service) open(ctx context.Context, t *record.Ticket, e signer.EncryptedCard) (Card, error) {
	data, err := s.cfg.Gate.OpenCard(ctx, t, e)
	defer secret.Wipe(data)
	if err != nil {
		return Card{}, err
	}
	c, err := unmarshalCard(data)
	if err != nil {
		return Card{}, &CardError{Reason: CardData}
	}
	return c, nil
}

func (s *Service) sealCard(ctx context.Context, t *record.Ticket, owner Owner, id, externalID string, c Card) (CardRow, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	lookup, err := s.cfg.Gate.CardIndex(ctx, t, owner.Tenant, externalID)
	if err != nil {
		return CardRow{}, err
	}
	data, err := c.marshal(externalID)
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

// GetCard shows a card that the caller may use, masked.
//
// Errors: *FieldError, ErrUnknownCard, *CardError, or one with RetryAfter.
func (s *Service) GetCard(ctx context.Context, who Caller, externalID string) (Masked, error) {
	if err := checkExternalCardID(externalID); err != nil {
		return Masked{}, err
	}
	if err := s.cfg.Gate.Ready(record.ReadCard); err != nil {
		return Masked{}, err
	}
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.ReadCard, nil))
	if err != nil {
		return Masked{}, err
	}
	work, cancel := record.Working(ctx)
	defer cancel()
	c, row, err := s.openCard(work, ticket, who, externalID)
	if err != nil {
		return Masked{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	defer c.Wipe()
	// The masked card is no key's output, and a digest of it would be one of a PAN's digits.
	result := record.Done()
	result.Refs = map[string]string{"card": row.ID}
	if _, err := record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true)...); err != nil {
		return Masked{}, err
	}
	return s.mask(externalID, c, row.Created), nil
}

// DeleteCard removes a card that the caller may use.
//
// Errors: *FieldError, ErrUnknownCard, or one with RetryAfter.
func (s *Service) DeleteCard(ctx context.Context, who Caller, externalID string) error {
	if err := checkExternalCardID(externalID); err != nil {
		return err
	}
	if err := s.cfg.Gate.Ready(record.DeleteCard); err != nil {
		return err
	}
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.DeleteCard, nil))
	if err != nil {
		return err
	}
	work, cancel := record.Working(ctx)
	defer cancel()
	row, err := s.findCard(work, ticket, who, externalID)
	if err != nil {
		return s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	result := record.Done()
	result.Refs = map[string]string{"card": row.ID}
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true, CardRemoval{Tenant: row.Owner.Tenant, ID: row.ID})...)
	if record.Refused(err) {
		return s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	return err
}

// A RekeyStep is one batch of a move to the active vault key.
type RekeyStep struct {
	Moved   int       // rows that are under the active key now
	Changed int       // rows that somebody else has replaced or removed meanwhile
	Stuck   []CardRow // rows that do not open: tenant and id
	Next    CardRow   // where the next batch begins: tenant and id of the last row looked at
	Done    bool      // there is no row behind it
}

// Rekey moves a batch of cards to the active vault key, row by row, beginning behind after.
// It may run beside anything: each row is sealed under the one key or the other. A row that
// somebody replaces meanwhile is left to whoever did, and one that does not open, whose error
// no later try would change, does not hold up the others.
func (s *Service) Rekey(ctx context.Context, after CardRow) (RekeyStep, error) {
	key, err := s.cfg.Gate.VaultKey()
	if err != nil {
		return RekeyStep{}, err
	}
	rows, err := s.cfg.Cards.CardsNotUnder(ctx, key, after, rekeyBatch)
	if err != nil {
		return RekeyStep{}, err
	}
	step := RekeyStep{Next: after, Done: len(rows) < rekeyBatch}
	for _, row := range rows {
		place := CardRow{Owner: Owner{Tenant: row.Owner.Tenant}, ID: row.ID}
		switch err := s.rekey(ctx, row); {
		case err == nil:
			step.Moved++
		case errors.Is(err, ErrCardChanged):
			step.Changed++
		case record.Refused(err):
			step.Stuck = append(step.Stuck, place)
		default:
			return step, err
		}
		step.Next = place
	}
	return step, nil
}

// rekeyBatch is how many rows are moved at once.
const rekeyBatch = 256

func (s *Service) rekey(ctx context.Context, from CardRow) error {
	intent := record.Intent{Operation: record.RekeyCard, Tenant: from.Owner.Tenant, Refs: map[string]string{"card": from.ID}}
	ticket, err := s.cfg.Recorder.Open(intent)
	if err != nil {
		return err
	}
	data, err := s.cfg.Gate.OpenVault(ctx, ticket, from.Owner.Tenant, from.ID, signer.VaultRow{Key: from.Key, IV: from.IV, Sealed: from.Sealed})
	defer secret.Wipe(data)
	if err != nil {
		return s.fail(ctx, ticket, err)
	}
	v, err := s.cfg.Gate.SealVault(ctx, ticket, from.Owner.Tenant, from.ID, data)
	if err != nil {
		return s.fail(ctx, ticket, err)
	}
	to := from
	to.Key, to.IV, to.Sealed = v.Key, v.IV, v.Sealed
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(), CardMove{CardRow: to, From: from.Key, FromIV: from.IV})
	return err
}
