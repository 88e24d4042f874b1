package provisioning

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// ActivationResponse is what came of an activation, in the words of the iOS guide.
type ActivationResponse string

// The responses.
const (
	Approved ActivationResponse = "APPROVED" // the token is active
	Declined ActivationResponse = "DECLINED" // its state, a decision or the network forbids it
	Failed   ActivationResponse = "FAILED"   // it is unknown, or the network did not do it
)

// An Activation is what came of one.
type Activation struct {
	Reference string // empty for one that no token can have
	Last4     string // of a stored card, when it is active
	Response  ActivationResponse
	Comment   string // why: a stable code, or what the network said
}

// The comments that are codes, beside the reasons of decisions.
const (
	commentUnknown  = "unknown-wallet-token"
	commentState    = "wallet-token-state" // neither waiting for activation nor active
	commentNoWay    = "no-connector"
	commentNetwork  = "network-unavailable"
	commentDeclined = "network-declined"
	commentFailed   = "network-failed"
)

// TokenAttempt is the change that ends an attempt at activating a token: the next is another
// to the network. Nothing is changed if it has ended already.
type TokenAttempt struct {
	Tenant, Reference string
	Attempt           int64
}

// IsChange marks TokenAttempt as a record.Change.
func (TokenAttempt) IsChange() {}

// idempotencyKey names the present attempt to the network. It stays while the network's
// answer is not known, so that asking again asks for the same, and ends with an answer that
// is no approval, so that asking again asks anew.
func (t Token) idempotencyKey() string { return t.ID + "-" + strconv.FormatInt(t.Attempt, 10) }

// ActivateToken has the network activate a token of the caller that waits for it, if the
// latest decision about its card permits (guide, 6.3.1, method B). What is active already is
// approved again without the network being asked.
//
// The answer follows the state, and so is the same for the same request until that changes:
// APPROVED stays; DECLINED stays for as long as its cause; FAILED leaves nothing behind.
//
// Errors: *FieldError, or one with RetryAfter where the trouble is ours.
func (s *Service) ActivateToken(ctx context.Context, who Caller, reference string) (Activation, error) {
	if reference == "" {
		return Activation{}, &FieldError{Member: "tokenUniqueReference", Problem: "is missing"}
	}
	t, err := s.activatable(ctx, who, reference)
	if t.Response != "" || err != nil {
		return t.Activation, err
	}
	if err := s.cfg.Gate.Ready(record.ActivateToken); err != nil {
		return Activation{}, err
	}
	// Transaction 1: that the network may be asked is on record before it is. A crash from
	// here on leaves a token that may be active at the network and is not here: the same
	// request again has the same key, and brings the two together.
	refs := t.refs()
	maps.Copy(refs, map[string]string{"idempotencyKey": t.idempotencyKey()})
	ticket, err := s.cfg.Recorder.Begin(ctx, who.intent(record.ActivateToken, refs), who.Claims.Take()...)
	if err != nil {
		return Activation{}, err
	}
	v, err := s.askNetwork(ctx, ticket, who, t.Token)
	if err != nil {
		return Activation{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	v.Reference = reference
	// Transaction 2: the answer, the token's new state, and the notice to its cardholder.
	if v.Response != Approved {
		return v.Activation, record.Fail(ctx, s.cfg.Recorder, ticket, v.result(), who.Claims.End(false, v.changes...)...)
	}
	return s.approve(ctx, ticket, who, t.Token, v)
}

// A verdict is what came of an activation, or is to come of it when its changes are made.
type verdict struct {
	Activation
	reason  string          // for the record; empty: the comment
	changes []record.Change // beside the answer
	notice  *Notice         // of an approval
}

func verdictOf(r ActivationResponse, comment string) verdict {
	return verdict{Activation: Activation{Response: r, Comment: comment}}
}

// result is the record of a verdict that is no approval.
func (v verdict) result() record.Result {
	outcome, reason := record.OutcomeRefused, v.Comment
	if v.reason != "" {
		reason = v.reason
	}
	if v.Response == Failed {
		outcome = record.OutcomeFailed
	}
	return record.Result{Outcome: outcome, Reason: reason}
}

// candidate is a token that may be activated, unless it has a response already.
type candidate struct {
	Token
	Activation
}

// refs name the candidate's token in the log.
func (c candidate) refs() map[string]string { return c.Token.refs() }

// activatable finds a token of the caller that is active or waits for it. For any other the
// response is set, and on record.
func (s *Service) activatable(ctx context.Context, who Caller, reference string) (candidate, error) {
	refuse := func(r ActivationResponse, comment string, refs map[string]string) (candidate, error) {
		a := Activation{Response: r, Comment: comment}
		if signer.CheckReference(reference) && !isPAN(reference) {
			a.Reference = reference
		}
		return candidate{Activation: a}, s.cfg.Recorder.Refuse(ctx, who.intent(record.ActivateToken, refs), comment)
	}
	if !signer.CheckReference(reference) {
		return refuse(Failed, commentUnknown, nil)
	}
	t, err := s.findToken(ctx, who, reference)
	switch {
	case errors.Is(err, ErrUnknownToken):
		return refuse(Failed, commentUnknown, nil)
	case err != nil:
		return candidate{}, err
	case t.Status != TokenActive && t.Status != TokenInactive:
		return refuse(Declined, commentState, t.refs())
	case t.Status == TokenInactive && s.cfg.Connector == nil:
		return refuse(Failed, commentNoWay, t.refs())
	}
	return candidate{Token: t}, nil
}

// askNetwork consults the decision and asks the network. The error is one with RetryAfter.
func (s *Service) askNetwork(ctx context.Context, ticket *record.Ticket, who Caller, t Token) (verdict, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	lookup, last4, err := s.cardOfToken(ctx, ticket, t)
	if err != nil {
		return verdict{}, err
	}
	v := verdictOf(Approved, "")
	v.Last4 = last4
	if t.Status == TokenActive {
		return v, nil
	}
	var forbids *DecisionError
	switch err := s.permitsCard(ctx, lookup, ask{owner: t.Owner, deviceID: t.DeviceID, use: ToActivate}); {
	case errors.As(err, &forbids):
		return verdictOf(Declined, string(forbids.Reason)), nil
	case err != nil:
		return verdict{}, err
	}
	notice, err := s.activationNotice(ctx, ticket, Activated{Owner: t.Owner, TokenUniqueReference: t.Reference, ExternalCardID: t.ExternalCardID, Last4: last4})
	if err != nil {
		return verdict{}, err
	}
	v.notice = &notice
	answer, err := s.cfg.Connector.Activate(ctx, who, TokenActivation{IdempotencyKey: t.idempotencyKey(), TokenUniqueReference: t.Reference})
	var ours interface{ RetryAfter() time.Duration }
	switch {
	case errors.As(err, &ours):
		return verdict{}, err
	case err != nil: // it may be active all the same: the attempt goes on
		return verdictOf(Failed, commentNetwork), nil
	case answer.Outcome == ActivationApproved:
		v.Comment = answer.Comment
		return v, nil
	}
	return refusal(answer, t), nil
}

// refusal is the verdict on a network's answer that is no approval. The attempt is over.
func refusal(answer ActivationAnswer, t Token) verdict {
	v := verdict{Activation: Activation{Response: Failed}, reason: commentFailed}
	if answer.Outcome == ActivationDeclined {
		v.Response, v.reason = Declined, commentDeclined
	}
	if v.Comment = answer.Comment; v.Comment == "" {
		v.Comment = v.reason
	}
	v.changes = []record.Change{TokenAttempt{Tenant: t.Tenant, Reference: t.Reference, Attempt: t.Attempt}}
	return v
}

// cardOfToken gives the look-up value of a token's card and, if it is stored and the owner's, its
// last four digits. The value of no card is empty: there is no decision about it.
func (s *Service) cardOfToken(ctx context.Context, ticket *record.Ticket, t Token) (lookup []byte, last4 string, err error) {
	if t.ExternalCardID == "" {
		return nil, "", nil
	}
	lookup, err = s.cfg.Gate.CardIndex(ctx, ticket, t.Tenant, t.ExternalCardID)
	if err != nil {
		return nil, "", err
	}
	row, err := s.cfg.Cards.FindCard(ctx, t.Owner, lookup)
	switch {
	case errors.Is(err, ErrUnknownCard):
		return lookup, "", nil
	case err != nil:
		return nil, "", err
	}
	c, _, err := s.openRow(ctx, ticket, row, t.ExternalCardID)
	var unfit *CardError
	if errors.As(err, &unfit) { // what is wrong with stored data is nothing to a network that has its own
		return lookup, "", nil
	}
	defer c.Wipe()
	return lookup, c.PAN.Last4(), err
}

// approve writes that a token is active. The network may have told so meanwhile; then that is
// what is there, with the notice, and this says the same.
func (s *Service) approve(ctx context.Context, ticket *record.Ticket, who Caller, t Token, v verdict) (Activation, error) {
	for range writeTries {
		var changes []record.Change
		done := record.Done()
		if t.Status == TokenInactive {
			next := t
			next.Status = TokenActive
			put, err := t.follow(next, s.cfg.Now().UTC().Truncate(time.Millisecond))
			if err != nil {
				return Activation{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
			}
			done.Refs = put.stateRefs()
			changes = []record.Change{TokenPut{Token: put, Was: t.Revision}, *v.notice}
		}
		_, err := record.Conclude(ctx, s.cfg.Recorder, ticket, done, who.Claims.End(true, changes...)...)
		if !errors.Is(err, ErrTokenChanged) {
			if record.Refused(err) {
				err = s.fail(ctx, ticket, err, who.Claims.End(false)...)
			}
			return v.Activation, err
		}
		if t, err = s.findToken(ctx, who, t.Reference); err != nil {
			return Activation{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
		}
		if t.Status != TokenActive && t.Status != TokenInactive {
			declined := verdictOf(Declined, commentState)
			declined.Reference = t.Reference
			return declined.Activation, record.Fail(ctx, s.cfg.Recorder, ticket, declined.result(), who.Claims.End(false)...)
		}
	}
	return Activation{}, s.fail(ctx, ticket, errBusyToken, who.Claims.End(false)...)
}
