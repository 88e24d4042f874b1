package provisioning

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// SignCard is a request for a sealed card payload.
type SignCard struct {
	ExternalCardID string
	Certificates   [][]byte // DER, leaf first
	Nonce          string   // hex or Base64
	NonceSignature string   // hex or Base64
	WalletType     string
}

// SignedCard is what the app hands to PKAddPaymentPassRequest, as bytes.
type SignedCard struct {
	ActivationData     []byte
	EphemeralPublicKey []byte // 65 bytes, uncompressed point
	EncryptedData      []byte // AES-256-GCM ciphertext and tag
}

// SignCard seals a card of the caller to Apple's leaf (guide, 6.2.1, step 2.6).
//
// Errors: *FieldError and *NonceError for a malformed request; ErrWalletType,
// *ChainError and *CardError for one that is refused; ErrUnknownCard; ErrNonceUsed; or
// one with RetryAfter when the token or the database did not answer. Whatever the
// error, nothing was released; unless it is ErrNonceUsed the nonce is free again, at
// the latest when its lease runs out.
func (s *Service) SignCard(ctx context.Context, who Caller, req SignCard) (SignedCard, error) {
	// 1. What needs neither token nor database. Malformed input leaves no trace.
	nonce, err := s.check(req)
	if err != nil {
		return SignedCard{}, err
	}
	to, err := s.recipient(ctx, who, req)
	if err != nil {
		return SignedCard{}, err
	}

	// A token or a key known to be away is no reason to claim anything.
	if err := s.cfg.Gate.Ready(record.SignCard); err != nil {
		return SignedCard{}, err
	}

	// 2. Transaction 1: the nonce is claimed and the intent on record. Losers end here,
	// without token work. A crash from here on leaves a lease that runs out.
	now := s.cfg.Now()
	claim := &NonceClaim{
		Tenant: who.Tenant,
		ID:     ClaimID(who.Tenant, to.SPKISHA256(), nonce.Bytes(), nonce.SignatureBytes()),
		Now:    now,
		Until:  now.Add(s.cfg.Lease),
	}
	intent := who.intent(record.SignCard, map[string]string{"nonceClaim": hex.EncodeToString(claim.ID[:])})
	ticket, err := s.cfg.Recorder.Begin(ctx, intent, who.claim(claim)...)
	if err != nil {
		if errors.Is(err, ErrNonceUsed) {
			return SignedCard{}, errors.Join(ErrNonceUsed, s.cfg.Recorder.Refuse(ctx, intent, "nonce-used"))
		}
		return SignedCard{}, err
	}

	// 3. The token's work. A failure is recorded and frees the nonce.
	made, err := s.make(ctx, ticket, who, req.ExternalCardID, nonce, to)
	if err != nil {
		return SignedCard{}, s.fail(ctx, ticket, err, who.end(false, claim.End(false))...)
	}

	// 4. Transaction 2, fenced: nonce used, result on record. A crash before it released
	// nothing. Whoever was fenced out has that on record instead.
	result := record.Done(made.activationData.Digest(), made.sealed.EphemeralPublicKey.Digest(), made.sealed.EncryptedData.Digest())
	result.Refs = map[string]string{"card": made.cardID}
	receipt, err := record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.end(true, claim.End(true))...)
	if record.Refused(err) {
		return SignedCard{}, s.fail(ctx, ticket, err)
	}
	if err != nil {
		return SignedCard{}, err
	}
	return made.release(receipt)
}

// check looks at the members that are not certificates.
func (s *Service) check(req SignCard) (Nonce, error) {
	if err := checkExternalCardID(req.ExternalCardID); err != nil {
		return Nonce{}, err
	}
	return s.cfg.Nonces.Canonical(req.Nonce, req.NonceSignature)
}

// recipient verifies the chain. Refusals are on record: they tell of an app, or an
// attacker, that would have card data sealed to somebody else.
func (s *Service) recipient(ctx context.Context, who Caller, req SignCard) (*Recipient, error) {
	var to *Recipient
	err := ErrWalletType
	if req.WalletType == ApplePay {
		to, err = s.cfg.Chain.Verify(req.Certificates)
	}
	if err == nil {
		return to, nil
	}
	_, reason := outcomeOf(err)
	return nil, errors.Join(err, s.cfg.Recorder.Refuse(ctx, who.intent(record.SignCard, nil), reason))
}

// made is a card payload that has been made and is not out yet.
type made struct {
	cardID         string
	sealed         signer.SealedECCv2
	activationData record.Held[[]byte]
}

// make opens the card, seals its payload and makes the activation data.
func (s *Service) make(ctx context.Context, t *record.Ticket, who Caller, externalID string, nonce Nonce, to *Recipient) (made, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	card, cardID, err := s.openCard(ctx, t, who.Owner, externalID)
	if err != nil {
		return made{}, err
	}
	defer card.Wipe()
	if card.expired(s.cfg.Now()) {
		return made{}, &CardError{Reason: CardExpired}
	}
	payload, err := configuration1(card, nonce, productTypeMastercard)
	defer secret.Wipe(payload)
	if err != nil {
		return made{}, &CardError{Reason: CardData}
	}
	out := made{cardID: cardID}
	if out.sealed, err = s.cfg.Gate.SealECCv2(ctx, t, to.PublicKey(), payload); err != nil {
		return made{}, err
	}
	expiry := card.mmyy()
	defer expiry.Wipe()
	out.activationData, err = s.cfg.Gate.SignTAV(ctx, t, signer.TAV{
		Version:    s.cfg.TAV.Version,
		KeyAlias:   s.cfg.TAV.KeyAlias,
		PAN:        card.PAN,
		Expiry:     expiry,
		ValidUntil: s.cfg.Now().Add(s.cfg.TAV.Validity),
	})
	return out, err
}

// release opens the three outputs with the receipt of their record.
func (m made) release(r *record.Receipt) (SignedCard, error) {
	activationData, err1 := m.activationData.Release(r)
	point, err2 := m.sealed.EphemeralPublicKey.Release(r)
	encrypted, err3 := m.sealed.EncryptedData.Release(r)
	if err := errors.Join(err1, err2, err3); err != nil {
		return SignedCard{}, err
	}
	return SignedCard{ActivationData: activationData, EphemeralPublicKey: point, EncryptedData: encrypted}, nil
}
