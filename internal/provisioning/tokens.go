package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// PutToken takes what a network tells of a wallet token into the registry, for the owner that
// it names. What is there already is not written again.
//
// Errors: *FieldError; ErrUnknownToken where the token, or the owner that is named, is not
// the caller's; ErrTransition; or one with RetryAfter.
func (s *Service) PutToken(ctx context.Context, who Caller, next Token) (Token, error) {
	next.Tenant = who.Tenant
	if err := next.check(); err != nil {
		return Token{}, err
	}
	if !who.owns(next.Owner) {
		return Token{}, refusedWith(ctx, s.cfg.Recorder, who.intent(record.PutWalletToken, nil), ErrUnknownToken)
	}
	for range writeTries {
		put, err := s.putToken(ctx, who, next)
		if !errors.Is(err, ErrTokenChanged) {
			return put, err
		}
	}
	return Token{}, errBusyToken
}

// writeTries is how often a change is tried on a token that others change at the same time.
const writeTries = 4

// errBusyToken is returned for a token that others change all the time.
var errBusyToken = &busyToken{}

type busyToken struct{}

func (*busyToken) Error() string { return "wallet token is being changed by others" }

// RetryAfter is how long a caller should wait before it tries again.
func (*busyToken) RetryAfter() time.Duration { return time.Second }

// putToken is one try of PutToken; ErrTokenChanged if another was faster.
func (s *Service) putToken(ctx context.Context, who Caller, next Token) (Token, error) {
	old, err := s.findToken(ctx, who, next.Reference)
	if errors.Is(err, ErrUnknownToken) && old.Revision == 0 {
		old, err = Token{ID: uuid.NewString()}, nil
	}
	if err != nil {
		return Token{}, s.refuseUnknown(ctx, who, record.PutWalletToken, err)
	}
	put, err := old.follow(next, s.cfg.Now().UTC().Truncate(time.Millisecond))
	if err != nil {
		return Token{}, refusedWith(ctx, s.cfg.Recorder, who.intent(record.PutWalletToken, old.refs()), err)
	}
	if old.Revision > 0 && old.same(put) {
		return old, s.conclude(ctx, who, who.intent(record.PutWalletToken, old.refs()))
	}
	t, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.PutWalletToken, put.stateRefs()))
	if err != nil {
		return Token{}, err
	}
	changes, err := s.tokenChanges(ctx, t, put, old)
	if err != nil {
		return Token{}, s.fail(ctx, t, err, who.Claims.End(false)...)
	}
	return put, s.concludeWith(ctx, t, who, changes...)
}

// tokenChanges are what a token's next state is written with: where it is active for the first
// time, and there is somebody to tell its cardholder, a notice (guide, 4.2).
func (s *Service) tokenChanges(ctx context.Context, t *record.Ticket, put, old Token) ([]record.Change, error) {
	changes := []record.Change{TokenPut{Token: put, Was: old.Revision}}
	if put.Activated.IsZero() || !old.Activated.IsZero() || s.cfg.Connector == nil {
		return changes, nil
	}
	notice, err := s.activationNotice(ctx, t, Activated{Owner: put.Owner, TokenUniqueReference: put.Reference, ExternalCardID: put.ExternalCardID})
	return append(changes, notice), err
}

// conclude records an operation that uses no key, with its changes, in one transaction, or in
// two if the caller's request itself uses something up.
func (s *Service) conclude(ctx context.Context, who Caller, in record.Intent, changes ...record.Change) error {
	t, err := who.Claims.Begin(ctx, s.cfg.Recorder, in)
	if err != nil {
		return err
	}
	return s.concludeWith(ctx, t, who, changes...)
}

// concludeWith records that an operation is done, with its changes.
func (s *Service) concludeWith(ctx context.Context, t *record.Ticket, who Caller, changes ...record.Change) error {
	_, err := record.Conclude(ctx, s.cfg.Recorder, t, record.Done(), who.Claims.End(true, changes...)...)
	if record.Refused(err) {
		return s.fail(ctx, t, err, who.Claims.End(false)...)
	}
	return err
}

// findToken finds a wallet token that the caller may use. With ErrUnknownToken comes the row
// all the same, of somebody else; a row without revision is none.
func (s *Service) findToken(ctx context.Context, who Caller, reference string) (Token, error) {
	found, err := s.cfg.Tokens.FindTokens(ctx, who.Tenant, []string{reference})
	switch {
	case err != nil:
		return Token{}, err
	case len(found) == 0:
		return Token{}, ErrUnknownToken
	case !who.owns(found[0].Owner):
		return found[0], ErrUnknownToken
	}
	return found[0], nil
}

// refuseUnknown records a request for a token that is not the caller's.
func (s *Service) refuseUnknown(ctx context.Context, who Caller, op record.Operation, err error) error {
	if !errors.Is(err, ErrUnknownToken) {
		return err
	}
	return refusedWith(ctx, s.cfg.Recorder, who.intent(op, nil), err)
}

// TokenHistory gives all states of a wallet token that the caller may use, the first first.
//
// Errors: ErrUnknownToken, or one with RetryAfter.
func (s *Service) TokenHistory(ctx context.Context, who Caller, reference string) ([]Token, error) {
	t, err := s.findToken(ctx, who, reference)
	if err != nil {
		return nil, s.refuseUnknown(ctx, who, record.ReadWalletToken, err)
	}
	all, err := s.cfg.Tokens.TokenHistory(ctx, who.Tenant, reference)
	if err != nil {
		return nil, err
	}
	return all, s.conclude(ctx, who, who.intent(record.ReadWalletToken, t.refs()))
}

// MaxReferences is how many wallet tokens a search may name.
const MaxReferences = 100

// TokenSearch asks for wallet tokens by what a device told of its passes.
type TokenSearch struct {
	WalletType string
	References []string
	// GroupByCard leaves one of the tokens of each card: one that waits for activation, or
	// else one that is active, or else the first. An app may key the answer by card.
	GroupByCard bool
}

func (q TokenSearch) check() error {
	switch {
	case q.WalletType == "":
		return &FieldError{Member: "walletType", Problem: "is missing"}
	case q.References == nil:
		return &FieldError{Member: "tokenUniqueReferences", Problem: "is missing"}
	case len(q.References) > MaxReferences:
		return &FieldError{Member: "tokenUniqueReferences", Problem: fmt.Sprintf("has more than %d", MaxReferences)}
	}
	return nil
}

// SearchTokens gives those of the wallet tokens that are the caller's, in the order in which
// they were named. What is unknown, or somebody else's, is absent.
//
// Errors: *FieldError, ErrWalletType, or one with RetryAfter.
func (s *Service) SearchTokens(ctx context.Context, who Caller, q TokenSearch) ([]Token, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := s.wallet(ctx, who, record.SearchTokens, q.WalletType); err != nil {
		return nil, err
	}
	found, err := s.tokensOf(ctx, who, q.References)
	if err != nil {
		return nil, err
	}
	if q.GroupByCard {
		found = onePerCard(found)
	}
	return found, s.conclude(ctx, who, who.intent(record.SearchTokens, nil))
}

// tokensOf gives those of the tokens that the caller may use, each once, in order.
func (s *Service) tokensOf(ctx context.Context, who Caller, references []string) ([]Token, error) {
	rows, err := s.cfg.Tokens.FindTokens(ctx, who.Tenant, knowable(references))
	if err != nil {
		return nil, err
	}
	byReference := map[string]Token{}
	for _, t := range rows {
		if who.owns(t.Owner) {
			byReference[t.Reference] = t
		}
	}
	var found []Token
	for _, r := range references {
		if t, ok := byReference[r]; ok {
			found = append(found, t)
			delete(byReference, r) // named twice, it is still one
		}
	}
	return found, nil
}

// knowable leaves out references that the registry takes no token under: they are unknown
// without being looked for.
func knowable(references []string) []string {
	var all []string
	for _, r := range references {
		if r != "" && signer.CheckReference(r) {
			all = append(all, r)
		}
	}
	return all
}

// onePerCard leaves one token of each card, in the place of the card's first. Those of no
// known card stay.
func onePerCard(tokens []Token) []Token {
	var all []Token
	place := map[string]int{}
	for _, t := range tokens {
		i, seen := place[t.ExternalCardID]
		switch {
		case t.ExternalCardID == "" || !seen:
			place[t.ExternalCardID] = len(all)
			all = append(all, t)
		case t.Status.walletStatus().before(all[i].Status.walletStatus()):
			all[i] = t
		}
	}
	return all
}
