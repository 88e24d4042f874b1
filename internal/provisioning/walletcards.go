package provisioning

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
)

// WalletStatus is what an app has to offer for a card, or for one of its tokens.
type WalletStatus string

// The statuses, of the iOS guide's mapping.
const (
	RequiresActivation WalletStatus = "requiresActivation"
	Active             WalletStatus = "active"
	NotAdded           WalletStatus = "notAdded"
)

// walletStatus maps a network's status. One that is not ACTIVE or INACTIVE leaves a card that
// can be added anew.
func (s TokenStatus) walletStatus() WalletStatus {
	switch s {
	case TokenActive:
		return Active
	case TokenInactive:
		return RequiresActivation
	default:
		return NotAdded
	}
}

// before reports whether a status says more of a card than another: what waits for the
// cardholder comes first.
func (s WalletStatus) before(other WalletStatus) bool {
	order := []WalletStatus{RequiresActivation, Active, NotAdded}
	return slices.Index(order, s) < slices.Index(order, other)
}

// A WalletCard is a card that may be offered to a wallet, as a wallet extension shows it.
type WalletCard struct {
	ExternalCardID string
	Title          string
	Name           secret.Text // the cardholder's
	Last4          string
	Network        Network
	Status         WalletStatus
	Tokens         []Token // those that the device named
}

// WalletStatus is what an app has to offer for the token.
func (t Token) WalletStatus() WalletStatus { return t.Status.walletStatus() }

// MaxCards is how many cards an owner may have to be listed.
const MaxCards = 100

// SearchCards gives the caller's own cards that may be provisioned: those whose product is
// configured, that have not expired, are enabled and were not declined. Each has the status that the tokens give
// it that the device named. A card whose externalCardId looks like a card number is not
// listed, nor is one that was stored before the id was kept with it.
//
// Errors: *FieldError; ErrWalletType; ErrNotEnabled if none of them may be provisioned for
// that reason; ErrTooManyCards; or one with RetryAfter.
func (s *Service) SearchCards(ctx context.Context, who Caller, q TokenSearch) ([]WalletCard, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := s.wallet(ctx, who, record.SearchCards, q.WalletType); err != nil {
		return nil, err
	}
	who.AnyOwner = false
	enabled, err := s.anyEnabled(ctx, who, record.SearchCards)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Gate.Ready(record.SearchCards); err != nil {
		return nil, err
	}
	tokens, err := s.tokensOf(ctx, who, q.References)
	if err != nil {
		return nil, err
	}
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.SearchCards, nil))
	if err != nil {
		return nil, err
	}
	cards, ids, err := s.walletCards(ctx, ticket, who, enabled)
	if err != nil {
		return nil, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	result := record.Done() // what is shown of cards is no key's output: see GetCard
	result.Refs = map[string]string{"cards": strings.Join(ids, " ")}
	if _, err := record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true)...); err != nil {
		return nil, err
	}
	for i := range cards {
		cards[i].take(tokens)
	}
	return cards, nil
}

// walletCards opens the caller's cards and gives those that may be provisioned, with the ids
// of their rows.
func (s *Service) walletCards(ctx context.Context, t *record.Ticket, who Caller, enabled Enablement) (cards []WalletCard, ids []string, err error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	rows, err := s.cfg.Cards.CardsOf(ctx, who.Owner, MaxCards+1)
	switch {
	case err != nil:
		return nil, nil, err
	case len(rows) > MaxCards:
		return nil, nil, ErrTooManyCards
	}
	disabled := false
	for _, row := range rows {
		card, err := s.walletCard(ctx, t, row, enabled)
		var unfit *CardError
		var declined *DecisionError
		switch {
		case err == nil:
			cards, ids = append(cards, card), append(ids, row.ID)
		case errors.Is(err, ErrNotEnabled):
			disabled = true
		case !errors.As(err, &unfit) && !errors.As(err, &declined):
			return nil, nil, err
		}
	}
	if disabled && len(cards) == 0 {
		return nil, nil, ErrNotEnabled
	}
	return cards, ids, nil
}

// walletCard opens a row. Its error is a *CardError, a *DecisionError or ErrNotEnabled for a
// card that may not be provisioned.
func (s *Service) walletCard(ctx context.Context, t *record.Ticket, row CardRow, enabled Enablement) (WalletCard, error) {
	c, id, err := s.openStored(ctx, t, row)
	if err != nil {
		return WalletCard{}, err
	}
	defer c.Wipe()
	if id == "" || secret.LooksLikePAN(id) {
		return WalletCard{}, &CardError{Reason: CardData}
	}
	p, err := s.accept(c)
	if err == nil {
		err = enabled.allows(c, row.Lookup)
	}
	if err == nil {
		err = s.permitsCard(ctx, row.Lookup, ask{owner: row.Owner, use: ToSeal})
	}
	if err != nil {
		return WalletCard{}, err
	}
	w := WalletCard{ExternalCardID: id, Title: p.Title, Last4: c.PAN.Last4(), Network: p.Network, Status: NotAdded}
	c.Name.Reveal(func(name []byte) { w.Name = secret.NewText(string(name)) })
	return w, nil
}

// take gives the card its tokens, and the status that says most of them.
func (w *WalletCard) take(tokens []Token) {
	for _, t := range tokens {
		if t.ExternalCardID != w.ExternalCardID {
			continue
		}
		w.Tokens = append(w.Tokens, t)
		if status := t.WalletStatus(); status.before(w.Status) {
			w.Status = status
		}
	}
}
