package httpapi

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// Provisioner is what the push provisioning API asks of the domain. Its errors are
// those of provisioning.Service's methods; nothing is retried here.
type Provisioner interface {
	SignCard(ctx context.Context, who provisioning.Caller, req provisioning.SignCard) (provisioning.SignedCard, error)
	ActivationData(ctx context.Context, who provisioning.Caller, req provisioning.ActivationRequest) ([]byte, error)
	PutCard(ctx context.Context, who provisioning.Caller, externalID, encrypted string) (provisioning.Masked, error)
	GetCard(ctx context.Context, who provisioning.Caller, externalID string) (provisioning.Masked, error)
	DeleteCard(ctx context.Context, who provisioning.Caller, externalID string) error
}

var _ Provisioner = (*provisioning.Service)(nil)

// SignCard is POST /issuer/push-provisioning/signed-cards.
func (s *server) SignCard(c *gin.Context) {
	who, ok := s.authorize(c, record.SignCard, access.SignCards)
	if !ok {
		return
	}
	var body SignCardRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	req, err := signCardRequest(body)
	if err != nil {
		s.fail(c, err)
		return
	}
	out, err := s.cfg.Provisioning.SignCard(c.Request.Context(), s.cardCaller(c, who, access.SignCards), req)
	if err != nil {
		s.failed(c, record.SignCard, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", signedCard(out))
}

func signedCard(out provisioning.SignedCard) SignedCard {
	card := SignedCard{ActivationData: out.ActivationData, EphemeralPublicKey: out.EphemeralPublicKey, EncryptedData: out.EncryptedData}
	if t := out.Trace; t != nil {
		card.Trace = &Trace{
			AppleEnvironment: "test", ApplePublicKey: t.ApplePublicKey, Payload: t.Payload,
			EphemeralPublicKey: t.EphemeralPublicKey, EphemeralPrivateKey: t.EphemeralPrivateKey,
			KdfInput: t.KDFInput, AesKey: t.AESKey, EncryptedData: t.EncryptedData,
		}
	}
	return card
}

// cardCaller is the caller of an operation on a card, with what its right says of owners.
func (s *server) cardCaller(c *gin.Context, who access.Caller, right access.Right) provisioning.Caller {
	return provisioning.Caller{
		Owner:     provisioning.Owner{Tenant: who.Tenant, Issuer: who.Issuer, Subject: who.Subject},
		AnyOwner:  who.AnyOwner(right),
		RequestID: requestID(c),
		Claims:    s.claims(who, right),
	}
}

// CreateActivationData is POST /issuer/push-provisioning/activation-data.
func (s *server) CreateActivationData(c *gin.Context) {
	who, ok := s.authorize(c, record.ActivationData, access.CreateActivationData)
	if !ok {
		return
	}
	var body ActivationDataRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	req := provisioning.ActivationRequest{ExternalCardID: body.ExternalCardId, WalletType: provisioning.ApplePay}
	if body.WalletType != nil {
		req.WalletType = *body.WalletType
	}
	if body.DeviceId != nil {
		req.DeviceID = *body.DeviceId
	}
	if body.TokenUniqueReference != nil {
		req.TokenUniqueReference = *body.TokenUniqueReference
	}
	out, err := s.cfg.Provisioning.ActivationData(c.Request.Context(), s.cardCaller(c, who, access.CreateActivationData), req)
	if err != nil {
		s.failed(c, record.ActivationData, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", ActivationData{ActivationData: out})
}

// PutCard is PUT /v1/cards/{externalCardId}.
func (s *server) PutCard(c *gin.Context, externalCardID string) {
	who, ok := s.authorize(c, record.StoreCard, access.ManageCards)
	if !ok {
		return
	}
	var body PutCardRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	card, err := s.cfg.Provisioning.PutCard(c.Request.Context(), s.cardCaller(c, who, access.ManageCards), externalCardID, body.EncryptedCard)
	if err != nil {
		s.failed(c, record.StoreCard, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", maskedCard(card))
}

// GetCard is GET /v1/cards/{externalCardId}.
func (s *server) GetCard(c *gin.Context, externalCardID string) {
	who, ok := s.authorize(c, record.ReadCard, access.ReadCards)
	if !ok {
		return
	}
	card, err := s.cfg.Provisioning.GetCard(c.Request.Context(), s.cardCaller(c, who, access.ReadCards), externalCardID)
	if err != nil {
		s.failed(c, record.ReadCard, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", maskedCard(card))
}

// DeleteCard is DELETE /v1/cards/{externalCardId}.
func (s *server) DeleteCard(c *gin.Context, externalCardID string) {
	who, ok := s.authorize(c, record.DeleteCard, access.ManageCards)
	if !ok {
		return
	}
	if err := s.cfg.Provisioning.DeleteCard(c.Request.Context(), s.cardCaller(c, who, access.ManageCards), externalCardID); err != nil {
		s.failed(c, record.DeleteCard, who, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// maskedCard leaves out the external id, which the caller chose: it may be a card number.
func maskedCard(m provisioning.Masked) MaskedCard {
	return MaskedCard{Product: m.Product, Network: string(m.Network), Last4: m.Last4, StoredAt: m.Stored.UTC()}
}

// signCardRequest resolves the members that have two names or two forms.
func signCardRequest(b SignCardRequest) (provisioning.SignCard, error) {
	req := provisioning.SignCard{Nonce: b.Nonce, NonceSignature: b.NonceSignature, WalletType: provisioning.ApplePay}
	if b.WalletType != nil {
		req.WalletType = *b.WalletType
	}
	if b.DeviceId != nil {
		req.DeviceID = *b.DeviceId
	}
	req.Trace = b.Trace != nil && *b.Trace
	if b.EncryptedCard != nil {
		if req.EncryptedCard = *b.EncryptedCard; req.EncryptedCard == "" {
			return req, &provisioning.FieldError{Member: "encryptedCard", Problem: "is empty"}
		}
	}
	switch {
	case b.ExternalCardId != nil && b.CardId != nil:
		return req, &provisioning.FieldError{Member: "externalCardId", Problem: "and cardId are two names of one member; send one"}
	case b.ExternalCardId != nil:
		req.ExternalCardID = *b.ExternalCardId
	case b.CardId != nil:
		req.ExternalCardID = *b.CardId
	}
	var err error
	switch {
	case b.Certificates != nil && b.Certificate != nil:
		err = &provisioning.FieldError{Member: "certificates", Problem: "and certificate are two names of one member; send one"}
	case b.Certificates != nil:
		req.Certificates, err = provisioning.DecodeChain(*b.Certificates)
	case b.Certificate != nil:
		req.Certificates, err = decodeCertificate(*b.Certificate)
	default:
		err = &provisioning.FieldError{Member: "certificates", Problem: "is missing"}
	}
	return req, err
}

// decodeCertificate takes the member's two forms.
func decodeCertificate(u SignCardRequest_Certificate) ([][]byte, error) {
	if text, err := u.AsSignCardRequestCertificate0(); err == nil {
		return provisioning.DecodeChainText(text)
	}
	if list, err := u.AsSignCardRequestCertificate1(); err == nil {
		return provisioning.DecodeChain(list)
	}
	return nil, &provisioning.FieldError{Member: "certificate", Problem: "must be a string or an array of strings"}
}
