package provisioning

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// SignCard is a request for a sealed card payload.
type SignCard struct {
	ExternalCardID string
	// EncryptedCard is the card itself, in place of one that is stored: a JWE whose header
	// carries the nonce's SHA-256. It is used once and not kept.
	EncryptedCard  string
	Certificates   [][]byte // DER, leaf first
	Nonce          string   // hex or Base64
	NonceSignature string   // hex or Base64
	WalletType     string
	DeviceID       string // narrows the decision that is looked for; may be empty
	// Trace asks for every step of the sealing, of a test card, in a build for it.
	Trace bool
}

// SignedCard is what the app hands to PKAddPaymentPassRequest, as bytes.
type SignedCard struct {
	ActivationData     []byte
	EphemeralPublicKey []byte // 65 bytes, uncompressed point
	EncryptedData      []byte // AES-256-GCM ciphertext and tag
	Trace              *signer.Trace
}

// SignCard seals a card of the caller to Apple's leaf (guide, 6.2.1, step 2.6).
//
// Errors: *FieldError and *NonceError for a malformed request; ErrWalletType,
// *ChainError, *CardError and *DecisionError for one that is refused; ErrUnknownCard; ErrNonceUsed; or
// one with RetryAfter when the token or the database did not answer. Whatever the
// error, nothing was released; unless it is ErrNonceUsed the nonce is free again, at
// the latest when its lease runs out.
func (s *Service) SignCard(ctx context.Context, who Caller, req SignCard) (SignedCard, error) {
	if req.Trace && s.cfg.Tracer == nil {
		return SignedCard{}, &FieldError{Member: "trace", Problem: "is for builds with the tag trace, in a test environment"}
	}
	// 1. What needs neither token nor database. Malformed input leaves no trace.
	nonce, err := s.check(req)
	if err != nil {
		return SignedCard{}, err
	}
	to, err := s.recipient(ctx, who, req)
	if err != nil {
		return SignedCard{}, err
	}
	source, message, err := s.source(ctx, who, req, nonce)
	if err != nil {
		return SignedCard{}, err
	}
	if source.enabled, err = s.anyEnabled(ctx, who, record.SignCard); err != nil {
		return SignedCard{}, err
	}

	// A token or a key known to be away is no reason to claim anything.
	if err := s.ready(source); err != nil {
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
	if message != nil {
		who.Claims = append(slices.Clone(who.Claims), message)
	}
	intent := who.intent(record.SignCard, map[string]string{"nonceClaim": hex.EncodeToString(claim.ID[:])})
	ticket, err := s.cfg.Recorder.Begin(ctx, intent, who.Claims.Take(claim)...)
	if err != nil {
		for _, used := range []error{ErrNonceUsed, ErrMessageUsed} {
			if errors.Is(err, used) {
				return SignedCard{}, refusedWith(ctx, s.cfg.Recorder, intent, used)
			}
		}
		return SignedCard{}, err
	}

	// 3. The token's work. A failure is recorded and frees the nonce.
	made, err := s.make(ctx, ticket, who, source, nonce, to)
	if err != nil {
		return SignedCard{}, s.fail(ctx, ticket, err, who.Claims.End(false, claim.End(false))...)
	}

	// 4. Transaction 2, fenced: nonce used, result on record. A crash before it released
	// nothing. Whoever was fenced out has that on record instead.
	result := record.Done(made.digests()...)
	if made.cardID != "" {
		result.Refs = map[string]string{"card": made.cardID}
	}
	receipt, err := record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true, claim.End(true))...)
	if record.Refused(err) {
		return SignedCard{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	if err != nil {
		return SignedCard{}, err
	}
	return made.release(receipt)
}

// check looks at the members that are not certificates.
func (s *Service) check(req SignCard) (Nonce, error) {
	if req.EncryptedCard == "" || req.ExternalCardID != "" {
		if err := checkExternalCardID(req.ExternalCardID); err != nil {
			return Nonce{}, err
		}
	}
	if err := checkDeviceID(req.DeviceID); err != nil {
		return Nonce{}, err
	}
	return s.cfg.Nonces.Canonical(req.Nonce, req.NonceSignature)
}

// recipient verifies the chain. Refusals are on record: they tell of an app, or an
// attacker, that would have card data sealed to somebody else.
func (s *Service) recipient(ctx context.Context, who Caller, req SignCard) (*Recipient, error) {
	if err := s.wallet(ctx, who, record.SignCard, req.WalletType); err != nil {
		return nil, err
	}
	to, err := s.cfg.Chain.Verify(req.Certificates)
	if err != nil {
		return nil, refusedWith(ctx, s.cfg.Recorder, who.intent(record.SignCard, nil), err)
	}
	return to, nil
}

// refusedWith records that a request is refused for why, and returns why.
func refusedWith(ctx context.Context, r record.Recorder, in record.Intent, why error) error {
	_, reason := outcomeOf(why)
	return errors.Join(why, r.Refuse(ctx, in, reason))
}

// cardSource is where a card comes from: the vault, or the request.
type cardSource struct {
	externalID string
	inline     signer.EncryptedCard
	isInline   bool
	deviceID   string
	trace      bool
	enabled    Enablement
}

// source reads where the card comes from. The claim is that of one that came with the
// request; refusals of it are on record.
func (s *Service) source(ctx context.Context, who Caller, req SignCard, nonce Nonce) (cardSource, *MessageClaim, error) {
	from := cardSource{externalID: req.ExternalCardID, deviceID: req.DeviceID, trace: req.Trace}
	if req.EncryptedCard == "" {
		return from, nil, nil
	}
	e, claim, err := s.receive(req.EncryptedCard, match{who: who, externalID: req.ExternalCardID, nonce: nonce.Bytes()})
	if err != nil {
		return from, nil, refusedWith(ctx, s.cfg.Recorder, who.intent(record.SignCard, nil), err)
	}
	from.inline, from.isInline = e, true
	return from, claim, nil
}

// ready reports whether the keys are there that a card from there needs.
func (s *Service) ready(from cardSource) error {
	if from.isInline {
		return s.cfg.Gate.ReadyInline()
	}
	return s.cfg.Gate.Ready(record.SignCard)
}

// card opens the card, if the latest decision about it permits. The row of one that came with
// the request has no id. The caller wipes the card.
func (s *Service) card(ctx context.Context, t *record.Ticket, who Caller, from cardSource) (Card, CardRow, error) {
	if !from.isInline {
		return s.openPermitted(ctx, t, who, ask{externalCardID: from.externalID, deviceID: from.deviceID, use: ToSeal})
	}
	e := from.inline
	row := CardRow{Owner: Owner{Tenant: e.Tenant, Issuer: e.Issuer, Subject: e.Subject}}
	var err error
	if row.Lookup, err = s.cfg.Gate.CardIndex(ctx, t, e.Tenant, e.ExternalCardID); err != nil {
		return Card{}, CardRow{}, err
	}
	if err := s.permitsCard(ctx, row.Lookup, ask{owner: row.Owner, deviceID: from.deviceID, use: ToSeal}); err != nil {
		return Card{}, CardRow{}, err
	}
	c, err := s.open(ctx, t, e)
	return c, row, err
}

// made is a card payload that has been made and is not out yet.
type made struct {
	cardID         string
	sealed         signer.SealedECCv2
	activationData record.Held[[]byte]
	trace          *record.Held[signer.Trace]
}

// digests are those of all outputs.
func (m made) digests() []record.Digest {
	all := []record.Digest{m.activationData.Digest(), m.sealed.EphemeralPublicKey.Digest(), m.sealed.EncryptedData.Digest()}
	if m.trace != nil {
		all = append(all, m.trace.Digest())
	}
	return all
}

// make opens the card, seals its payload and makes the activation data.
func (s *Service) make(ctx context.Context, t *record.Ticket, who Caller, from cardSource, nonce Nonce, to *Recipient) (made, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	card, row, err := s.card(ctx, t, who, from)
	if err != nil {
		return made{}, err
	}
	defer card.Wipe()
	product, err := s.accept(card)
	if err != nil {
		return made{}, err
	}
	if err := from.enabled.allows(card, row.Lookup); err != nil {
		return made{}, err
	}
	encrypted, err := s.encryptedPAN(ctx, t, product, card)
	if err != nil {
		return made{}, err
	}
	payload, err := product.payload(card, nonce, encrypted)
	defer secret.Wipe(payload)
	if err != nil {
		return made{}, &CardError{Reason: CardData}
	}
	out := made{cardID: row.ID}
	if err := s.seal(ctx, t, &out, sealing{to: to, payload: payload, test: product.Test, trace: from.trace}); err != nil {
		return made{}, err
	}
	out.activationData, err = s.activation(ctx, t, product, card, nonce.Hex(), "")
	return out, err
}

// sealing is a payload to be sealed, in the token or, of a test card, with a trace.
type sealing struct {
	to          *Recipient
	payload     []byte
	test, trace bool
}

func (s *Service) seal(ctx context.Context, t *record.Ticket, out *made, what sealing) (err error) {
	switch {
	case !what.trace:
		out.sealed, err = s.cfg.Gate.SealECCv2(ctx, t, what.to.PublicKey(), what.payload)
	case !what.test:
		return &CardError{Reason: CardNotTest}
	default:
		var trace record.Held[signer.Trace]
		out.sealed, trace, err = s.cfg.Tracer.SealTraced(t, what.to.PublicKey(), what.payload)
		out.trace = &trace
	}
	return err
}

// release opens the outputs with the receipt of their record.
func (m made) release(r *record.Receipt) (SignedCard, error) {
	activationData, err1 := m.activationData.Release(r)
	point, err2 := m.sealed.EphemeralPublicKey.Release(r)
	encrypted, err3 := m.sealed.EncryptedData.Release(r)
	if err := errors.Join(err1, err2, err3); err != nil {
		return SignedCard{}, err
	}
	out := SignedCard{ActivationData: activationData, EphemeralPublicKey: point, EncryptedData: encrypted}
	if m.trace != nil {
		trace, err := m.trace.Release(r)
		if err != nil {
			return SignedCard{}, err
		}
		out.Trace = &trace
	}
	return out, nil
}
