package provisioning

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// ActivationRequest asks for activation data alone, for In-App Verification (guide, 6.3.1,
// method A).
type ActivationRequest struct {
	ExternalCardID       string
	TokenUniqueReference string // of the token to be activated; may be empty
	WalletType           string
	DeviceID             string // narrows the decision that is looked for; may be empty
}

// ActivationData makes the activation data of a card of the caller.
//
// Errors: *FieldError; ErrWalletType; *CardError; *DecisionError; ErrUnknownCard; or one with RetryAfter.
func (s *Service) ActivationData(ctx context.Context, who Caller, req ActivationRequest) ([]byte, error) {
	if err := checkExternalCardID(req.ExternalCardID); err != nil {
		return nil, err
	}
	if !signer.CheckReference(req.TokenUniqueReference) {
		return nil, &FieldError{Member: "tokenUniqueReference", Problem: "must be 1 to 128 characters of A-Z, a-z, 0-9, '_', '-'"}
	}
	if err := checkDeviceID(req.DeviceID); err != nil {
		return nil, err
	}
	if err := s.wallet(ctx, who, record.ActivationData, req.WalletType); err != nil {
		return nil, err
	}
	if err := s.cfg.Gate.Ready(record.ActivationData); err != nil {
		return nil, err
	}
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.ActivationData, nil))
	if err != nil {
		return nil, err
	}
	held, id, err := s.activate(ctx, ticket, who, req)
	if err != nil {
		return nil, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	result := record.Done(held.Digest())
	result.Refs = map[string]string{"card": id}
	receipt, err := record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true)...)
	if err != nil {
		return nil, err
	}
	return held.Release(receipt)
}

func (s *Service) activate(ctx context.Context, t *record.Ticket, who Caller, req ActivationRequest) (record.Held[[]byte], string, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	var none record.Held[[]byte]
	card, row, err := s.openPermitted(ctx, t, who, ask{externalCardID: req.ExternalCardID, deviceID: req.DeviceID, use: ToVerify})
	if err != nil {
		return none, "", err
	}
	defer card.Wipe()
	product, err := s.accept(card)
	if err != nil {
		return none, "", err
	}
	// There is no nonce of Apple's here. Where a network's form has one, it is ours [C].
	nonce := make([]byte, orDefault(s.cfg.Nonces.NonceLength, defaultNonceLength))
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	held, err := s.activation(ctx, t, product, card, hex.EncodeToString(nonce), req.TokenUniqueReference)
	return held, row.ID, err
}

// activation makes a product's activation data: the network's cryptographic OTP.
func (s *Service) activation(ctx context.Context, t *record.Ticket, p Product, c Card, nonce, reference string) (record.Held[[]byte], error) {
	expiry := c.mmyy()
	defer expiry.Wipe()
	now := s.cfg.Now()
	switch p.Activation {
	case ActivationTAV:
		return s.cfg.Gate.SignTAV(ctx, t, signer.TAV{
			Version: s.cfg.TAV.Version, KeyAlias: s.cfg.TAV.KeyAlias,
			PAN: c.PAN, Expiry: expiry, ValidUntil: now.Add(s.cfg.TAV.Validity),
		})
	case ActivationVisa:
		return s.cfg.Gate.MakeVisaCode(ctx, t, signer.VisaCode{KeySet: s.cfg.Visa.KeySet, Nonce: nonce})
	default:
		return s.cfg.Gate.MakeSchemeData(ctx, t, (*s.schemes.Load())[p.Activation], signer.SchemeInput{
			PAN: c.PAN, Expiry: expiry, Nonce: nonce, Reference: reference, At: now,
		})
	}
}

// encryptedPAN gives what stands for the PAN in configuration 3, in Base64; empty in others.
func (s *Service) encryptedPAN(ctx context.Context, t *record.Ticket, p Product, c Card) (string, error) {
	switch p.EncryptedPAN {
	case FromZoneKey:
		expiry := c.mmyy()
		defer expiry.Wipe()
		block, err := s.cfg.Gate.SealPANBlock(ctx, t, signer.PANBlock{
			KeySet: s.cfg.Visa.KeySet, Layout: s.cfg.Visa.Layout, PAN: c.PAN, Expiry: expiry, At: s.cfg.Now()})
		return base64.StdEncoding.EncodeToString(block), err
	case FromCardData:
		var text string
		c.EncryptedPAN.Reveal(func(e []byte) { text = string(e) })
		return text, nil
	default:
		return "", nil
	}
}

// wallet refuses wallets that are not supported: the one place where others will come in.
// Refusals are on record.
func (s *Service) wallet(ctx context.Context, who Caller, op record.Operation, walletType string) error {
	if walletType == ApplePay {
		return nil
	}
	return refusedWith(ctx, s.cfg.Recorder, who.intent(op, nil), ErrWalletType)
}
