package provisioning

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
)

// DecisionRules are what an issuer decides for itself.
type DecisionRules struct {
	path.Thresholds
	Life    time.Duration // how long a decision counts
	Session time.Duration // how long a session's Yellow has the second device go Green
	Within  time.Duration // how long the network waits
}

// DefaultDecisionRules are the rules unless configured.
func DefaultDecisionRules() DecisionRules {
	return DecisionRules{Thresholds: path.Defaults(), Life: 24 * time.Hour, Session: 30 * time.Minute, Within: 500 * time.Millisecond}
}

// maxEvidence bounds the statements and the passcodes of one request, each.
const maxEvidence = 8

// DecisionRequest is the network's approval check.
type DecisionRequest struct {
	ExternalCardID string
	Owner          *Owner // of a card that is not in the vault; nil for one that is
	DeviceID       string // may be empty
	SessionID      string // of the app, in which the card was added; may be empty
	ConversationID string // Apple's; may be empty
	Apple          path.Color
	ReasonCodes    []string // Apple's
	Source         path.Source
	Statements     []string // what the issuer's systems state, as JWS
	Passcodes      []string // ids of passcodes that were verified
	Unproven       int      // how many things were said without either
}

// Decided is the answer.
type Decided struct {
	ID       string
	Path     path.Color
	Score    int
	Reasons  []string // names of rules, and of evidence that does not count
	Required []path.Requirement
	Until    time.Time
}

// Reasons beside those of the rules.
const (
	ReasonUnproven  = "evidence-unproven"  // something was said, and neither a record nor a signature proves it
	ReasonStatement = "evidence-statement" // a statement does not hold, or is about something else
	ReasonPasscode  = "evidence-passcode"  // a passcode was not verified for this card, its owner and device
)

// Decide answers the network's approval check (guide, 6.2.1, step 5), and keeps the decision.
// It ends when the network no longer waits: then nothing was decided that anybody heard of.
//
// Errors: *FieldError; ErrUnknownCard; or one with RetryAfter.
func (s *Service) Decide(ctx context.Context, who Caller, req DecisionRequest) (Decided, error) {
	if err := req.check(); err != nil {
		return Decided{}, err
	}
	if err := s.cfg.Gate.Ready(record.DecideProvisioning); err != nil {
		return Decided{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Rules.Within)
	defer cancel()
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.DecideProvisioning, nil))
	if err != nil {
		return Decided{}, err
	}
	made, score, err := s.decide(ctx, ticket, who, req)
	if err != nil {
		return Decided{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	out := Decided{ID: made.ID, Path: made.Path, Score: score, Reasons: made.Reasons, Required: made.Required, Until: made.Until}
	wire, err := json.Marshal(out, json.Deterministic(true))
	if err != nil {
		return Decided{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	held := record.Hold(ticket, "decision", out, wire)
	result := record.Done(held.Digest())
	result.Refs = made.refs(req)
	// Not record.Conclude: a decision that comes too late for the network is as good as none.
	receipt, err := s.cfg.Recorder.Conclude(ctx, ticket, result, who.Claims.End(true, made.Decision)...)
	if err != nil {
		return Decided{}, err
	}
	return held.Release(receipt)
}

// decided is a decision that was made, with its reasons.
type decided struct {
	Decision
	Reasons []string
}

// decide gathers what is known and has the rules decide.
func (s *Service) decide(ctx context.Context, t *record.Ticket, who Caller, req DecisionRequest) (decided, int, error) {
	card, err := s.cardOf(ctx, t, who, req.ExternalCardID, req.Owner)
	if err != nil {
		return decided{}, 0, err
	}
	now, tenant := s.cfg.Now().Truncate(time.Millisecond), card.owner.Tenant
	d := decided{Decision: Decision{
		ID: uuid.NewString(), Owner: card.owner, Card: card.lookup, Apple: req.Apple,
		Device: deviceRef(tenant, req.DeviceID), Session: refOf("session", tenant, req.SessionID),
		At: now, Until: now.Add(s.cfg.Rules.Life),
	}}
	attempt := path.Attempt{Apple: req.Apple, ReasonCodes: req.ReasonCodes, Source: req.Source, Now: now}
	unproved, err := s.gather(ctx, &attempt, d.Decision, req)
	if err != nil {
		return decided{}, 0, err
	}
	got := path.Decide(attempt, s.cfg.Rules.Thresholds)
	d.Path, d.Required, d.Reasons = got.Path, got.Required, append(got.Reasons, unproved...)
	return d, got.Score, nil
}

// gather has the attempt know what records and signatures prove. It gives the reasons why
// something else does not count.
func (s *Service) gather(ctx context.Context, a *path.Attempt, d Decision, req DecisionRequest) (unproved []string, err error) {
	if req.Unproven > 0 {
		unproved = append(unproved, ReasonUnproven)
	}
	for _, compact := range req.Statements {
		st, ok := s.cfg.Statements.verify(compact, about{owner: d.Owner, externalCardID: req.ExternalCardID, deviceID: req.DeviceID, now: d.At})
		if ok {
			st.add(a, d.Owner.Tenant)
		} else if !slices.Contains(unproved, ReasonStatement) {
			unproved = append(unproved, ReasonStatement)
		}
	}
	ids := slices.DeleteFunc(slices.Clone(req.Passcodes), func(id string) bool { return !isPasscodeID(id) })
	verified, err := s.cfg.Verified.VerifiedPasscodes(ctx, d.Owner, d.Card, ids)
	if err != nil {
		return nil, err
	}
	for _, p := range verified {
		if p.Device == (Ref{}) || p.Device == d.Device {
			a.Passcodes = append(a.Passcodes, path.Passcode{VerifiedAt: p.Verified, Channel: p.Channel, Since: p.Since})
		}
	}
	if len(a.Passcodes) < len(req.Passcodes) {
		unproved = append(unproved, ReasonPasscode)
	}
	earlier, err := s.cfg.Decisions.LatestDecisions(ctx, d.Owner, d.Card, d.At)
	if err != nil {
		return nil, err
	}
	a.AfterYellow = slices.ContainsFunc(earlier, func(e Decision) bool { return d.follows(e, s.cfg.Rules.Session) })
	return unproved, nil
}

// follows reports whether a decision is about the second device of a session in which Apple
// recommended Yellow for the first, and it was not declined.
func (d Decision) follows(first Decision, within time.Duration) bool {
	none := Ref{}
	return d.Session != none && d.Session == first.Session && d.Device != none && first.Device != none && d.Device != first.Device &&
		first.Apple == path.Yellow && first.Path != path.Red && d.At.Sub(first.At) < within
}

// refs are what the record says of a decision beside the digest of the answer.
func (d decided) refs(req DecisionRequest) map[string]string {
	refs := map[string]string{"decision": d.ID, "stateSha256": d.StateSHA256(), "path": string(d.Path), "apple": string(d.Apple)}
	if len(d.Required) > 0 {
		refs["required"] = fmt.Sprint(len(d.Required))
	}
	if req.ConversationID != "" {
		refs["conversation"] = secret.Reference(req.ConversationID)
	}
	return refs
}

// reasonCode is what Apple's codes look like. One that is written otherwise is refused, and so
// no 0G passes for another code.
var reasonCode = regexp.MustCompile(`^[A-Z0-9]{1,8}$`)

func (r DecisionRequest) check() error {
	wrong := []error{
		checkExternalCardID(r.ExternalCardID), checkOwner(r.Owner), checkDeviceID(r.DeviceID),
		checkIdentifier("sessionId", r.SessionID), checkIdentifier("apple.conversationId", r.ConversationID),
	}
	if !r.Apple.Known() {
		wrong = append(wrong, &FieldError{Member: "apple.recommendation", Problem: "must be GREEN, YELLOW, ORANGE or RED"})
	}
	if r.Source != path.InApp && r.Source != path.Wallet {
		wrong = append(wrong, &FieldError{Member: "source", Problem: "must be in-app or wallet"})
	}
	if len(r.ReasonCodes) > 16 || slices.ContainsFunc(r.ReasonCodes, func(c string) bool { return !reasonCode.MatchString(c) }) {
		wrong = append(wrong, &FieldError{Member: "apple.reasonCodes", Problem: "must be at most 16 codes of 1 to 8 characters of A-Z, 0-9"})
	}
	if len(r.Statements) > maxEvidence || len(r.Passcodes) > maxEvidence {
		wrong = append(wrong, &FieldError{Member: "evidence", Problem: fmt.Sprintf("must have at most %d statements and %d passcodes", maxEvidence, maxEvidence)})
	}
	return errors.Join(wrong...)
}

// aCard is a card as decisions and passcodes know it.
type aCard struct {
	owner  Owner
	lookup []byte
}

// cardOf finds a card's owner and look-up value, if the caller may use it. owner is whose it
// is, also where it is not in the vault; nil where the vault is to tell.
func (s *Service) cardOf(ctx context.Context, t *record.Ticket, who Caller, externalID string, owner *Owner) (aCard, error) {
	lookup, err := s.cfg.Gate.CardIndex(ctx, t, who.Tenant, externalID)
	if err != nil {
		return aCard{}, err
	}
	if owner == nil {
		row, err := s.findRow(ctx, who, lookup)
		return aCard{row.Owner, lookup}, err
	}
	if !who.owns(*owner) {
		return aCard{}, ErrUnknownCard
	}
	return aCard{*owner, lookup}, nil
}

// checkOwner refuses an owner that none can be; nil is none.
func checkOwner(o *Owner) error {
	if o != nil && !(isIdentifier(o.Issuer) && isIdentifier(o.Subject)) {
		return &FieldError{Member: "owner", Problem: fmt.Sprintf("must have iss and sub, each 1 to %d bytes without control characters", maxIdentifier)}
	}
	return nil
}
