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
// those of provisioning.Service.SignCard; nothing is retried here.
type Provisioner interface {
	SignCard(ctx context.Context, who provisioning.Caller, req provisioning.SignCard) (provisioning.SignedCard, error)
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
	caller := provisioning.Caller{
		Owner:     provisioning.Owner{Tenant: who.Tenant, Issuer: who.Issuer, Subject: who.Subject},
		RequestID: requestID(c),
		Claims:    s.claims(who, access.SignCards),
	}
	out, err := s.cfg.Provisioning.SignCard(c.Request.Context(), caller, req)
	if err != nil {
		s.replayed(c, record.SignCard, who, err)
		s.fail(c, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", SignedCard{
		ActivationData:     out.ActivationData,
		EphemeralPublicKey: out.EphemeralPublicKey,
		EncryptedData:      out.EncryptedData,
	})
}

// signCardRequest resolves the members that have two names or two forms.
func signCardRequest(b SignCardRequest) (provisioning.SignCard, error) {
	req := provisioning.SignCard{Nonce: b.Nonce, NonceSignature: b.NonceSignature, WalletType: provisioning.ApplePay}
	if b.WalletType != nil {
		req.WalletType = *b.WalletType
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
