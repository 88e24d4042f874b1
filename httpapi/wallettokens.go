package httpapi

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
)

// Wallets is what the API asks of the domain about cards in wallets. Its errors are those of
// provisioning.Service's methods; nothing is retried here.
type Wallets interface {
	PutToken(ctx context.Context, who provisioning.Caller, t provisioning.Token) (provisioning.Token, error)
	TokenHistory(ctx context.Context, who provisioning.Caller, reference string) ([]provisioning.Token, error)
	SearchTokens(ctx context.Context, who provisioning.Caller, q provisioning.TokenSearch) ([]provisioning.Token, error)
	ActivateToken(ctx context.Context, who provisioning.Caller, reference string) (provisioning.Activation, error)
	SearchCards(ctx context.Context, who provisioning.Caller, q provisioning.TokenSearch) ([]provisioning.WalletCard, error)
	Enablement(ctx context.Context, who provisioning.Caller) (provisioning.Enablement, error)
}

var _ Wallets = (*provisioning.Service)(nil)

// SearchTokens is POST /issuer/push-provisioning/tokens/searches.
func (s *server) SearchTokens(c *gin.Context, params SearchTokensParams) {
	who, ok := s.authorize(c, record.SearchTokens, access.SearchTokens)
	if !ok {
		return
	}
	q, err := walletSearch(c)
	if err == nil && params.GroupBy != nil && !params.GroupBy.Valid() {
		err = &provisioning.FieldError{Member: "groupBy", Problem: "must be card"}
	}
	q.GroupByCard = params.GroupBy != nil
	var found []provisioning.Token
	if err == nil {
		found, err = s.cfg.Wallets.SearchTokens(c.Request.Context(), s.cardCaller(c, who, access.SearchTokens), q)
	}
	if err != nil {
		s.failed(c, record.SearchTokens, who, err)
		return
	}
	answer := make([]WalletToken, len(found))
	for i, t := range found {
		answer[i] = WalletToken{
			TokenUniqueReference: orNull(t.Reference), PanUniqueReference: orNull(t.CardReference), ExternalCardId: orNull(t.ExternalCardID),
			TokenStatus: orNull(string(t.Status)), AuthorizationPath: orNull(t.Path), ProcessStatus: orNull(t.Process),
		}
	}
	writeJSON(c, http.StatusOK, "application/json", answer)
}

// walletSearch reads the body of the two searches.
func walletSearch(c *gin.Context) (provisioning.TokenSearch, error) {
	var body WalletSearchRequest
	err := decode(c, &body)
	return provisioning.TokenSearch{WalletType: body.WalletType, References: body.TokenUniqueReferences}, err
}

// orNull gives null for what there is none of.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// ActivateToken is POST /issuer/push-provisioning/tokens/activations.
func (s *server) ActivateToken(c *gin.Context) {
	who, ok := s.authorize(c, record.ActivateToken, access.ActivateTokens)
	if !ok {
		return
	}
	var body TokenActivationRequest
	if err := decode(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	out, err := s.cfg.Wallets.ActivateToken(c.Request.Context(), s.cardCaller(c, who, access.ActivateTokens), body.TokenUniqueReference)
	if err != nil {
		s.failed(c, record.ActivateToken, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", TokenActivation{
		TokenUniqueReference: orNull(out.Reference), CardLast4Digits: orNull(out.Last4), Comment: orNull(out.Comment),
		IssuerMobileAppAuthResponse: TokenActivationIssuerMobileAppAuthResponse(out.Response),
	})
}

// SearchCards is POST /issuer/push-provisioning/cards/searches.
func (s *server) SearchCards(c *gin.Context) {
	who, ok := s.authorize(c, record.SearchCards, access.SearchCards)
	if !ok {
		return
	}
	q, err := walletSearch(c)
	var found []provisioning.WalletCard
	if err == nil {
		found, err = s.cfg.Wallets.SearchCards(c.Request.Context(), s.cardCaller(c, who, access.SearchCards), q)
	}
	if err != nil {
		s.failed(c, record.SearchCards, who, err)
		return
	}
	answer := make([]WalletCard, len(found))
	for i, card := range found {
		answer[i] = walletCard(card)
	}
	writeJSON(c, http.StatusOK, "application/json", answer)
}

func walletCard(card provisioning.WalletCard) WalletCard {
	out := WalletCard{
		Identifier: card.ExternalCardID, Title: card.Title, PrimaryAccountSuffix: card.Last4, Network: string(card.Network),
		WalletStatus: WalletStatus(card.Status), Tokens: []WalletCardToken{},
	}
	card.Name.Reveal(func(name []byte) { out.CardholderName = string(name) })
	for _, t := range card.Tokens {
		out.Tokens = append(out.Tokens, WalletCardToken{TokenUniqueReference: t.Reference, WalletStatus: WalletStatus(t.WalletStatus())})
	}
	return out
}

// PutWalletToken is PUT /v1/wallet-tokens/{tokenUniqueReference}.
func (s *server) PutWalletToken(c *gin.Context, reference string) {
	who, ok := s.authorize(c, record.PutWalletToken, access.ManageWalletTokens)
	if !ok {
		return
	}
	var body PutWalletTokenRequest
	if err := decodeNullable(c, &body); err != nil {
		s.fail(c, err)
		return
	}
	if body.TokenUniqueReference != nil && *body.TokenUniqueReference != reference {
		s.fail(c, &provisioning.FieldError{Member: "tokenUniqueReference", Problem: "is another than that of the path"})
		return
	}
	put, err := s.cfg.Wallets.PutToken(c.Request.Context(), s.cardCaller(c, who, access.ManageWalletTokens), provisioning.Token{
		Owner:     provisioning.Owner{Tenant: who.Tenant, Issuer: body.Owner.Iss, Subject: body.Owner.Sub},
		Reference: reference, CardReference: optional(body.PanUniqueReference), ExternalCardID: optional(body.ExternalCardId), DeviceID: optional(body.DeviceId),
		Status: provisioning.TokenStatus(optional(body.TokenStatus)), Path: optional(body.AuthorizationPath), Process: optional(body.ProcessStatus),
	})
	if err != nil {
		s.failed(c, record.PutWalletToken, who, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", tokenState(put))
}

// GetWalletToken is GET /v1/wallet-tokens/{tokenUniqueReference}.
func (s *server) GetWalletToken(c *gin.Context, reference string) {
	who, ok := s.authorize(c, record.ReadWalletToken, access.ManageWalletTokens)
	if !ok {
		return
	}
	all, err := s.cfg.Wallets.TokenHistory(c.Request.Context(), s.cardCaller(c, who, access.ManageWalletTokens), reference)
	if err != nil {
		s.failed(c, record.ReadWalletToken, who, err)
		return
	}
	answer := make([]WalletTokenState, len(all))
	for i, t := range all {
		answer[i] = tokenState(t)
	}
	writeJSON(c, http.StatusOK, "application/json", answer)
}

// tokenState withholds of the owner what looks like a card number, which a caller chose.
func tokenState(t provisioning.Token) WalletTokenState {
	return WalletTokenState{
		TokenUniqueReference: t.Reference, PanUniqueReference: orNull(t.CardReference), ExternalCardId: orNull(t.ExternalCardID),
		TokenStatus: orNull(string(t.Status)), AuthorizationPath: orNull(t.Path), ProcessStatus: orNull(t.Process),
		Owner: CardOwner{Iss: secret.Reference(t.Issuer), Sub: secret.Reference(t.Subject)}, DeviceId: orNull(t.DeviceID), Revision: t.Revision, ChangedAt: t.Changed.UTC(),
	}
}
