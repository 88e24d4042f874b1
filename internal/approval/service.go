package approval

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
)

// Separation says what makes two persons of two callers.
type Separation string

// The separations.
const (
	ByClient  Separation = "client"  // two clients, and two subjects: a client could write any sub
	BySubject Separation = "subject" // two subjects: each client vouches for its own
)

// MaxDocument bounds a document in bytes.
const MaxDocument = 64 << 10

// Config says what a Service works with.
type Config struct {
	Recorder record.Recorder
	Store    Store
	Kinds    []Kind
	Now      func() time.Time
	// Within is how long a change can be approved.
	Within time.Duration
	// Lease is how long an approval has the change to itself. A kind must be done by then.
	Lease      time.Duration
	Separation Separation
}

// Service has changes proposed, approved and made. It is safe for concurrent use.
type Service struct {
	cfg   Config
	kinds map[string]Kind
}

// New gives the service.
func New(cfg Config) (*Service, error) {
	if cfg.Recorder == nil || cfg.Store == nil || cfg.Now == nil || cfg.Within <= 0 || cfg.Lease <= 0 {
		return nil, errors.New("approval: recorder, store, now, within and lease are all needed")
	}
	if cfg.Separation != ByClient && cfg.Separation != BySubject {
		return nil, errors.New("approval: separation must be client or subject")
	}
	s := &Service{cfg: cfg, kinds: map[string]Kind{}}
	for _, k := range cfg.Kinds {
		if _, twice := s.kinds[k.Name()]; twice {
			return nil, fmt.Errorf("approval: two kinds are called %s", k.Name())
		}
		s.kinds[k.Name()] = k
	}
	return s, nil
}

// A Caller is a person with one request.
type Caller struct {
	Person
	RequestID string
	Claims    record.Claims // what the request uses up
}

func (c Caller) intent(op record.Operation, of Change) record.Intent {
	return record.Intent{
		Operation: op, Tenant: c.Tenant, Issuer: c.Issuer, Subject: c.logged().Subject, RequestID: c.RequestID,
		Refs: map[string]string{"change": of.ID, "kind": of.Kind, "sha256": of.SHA256},
	}
}

// logged is the person as rows and records have it.
func (c Caller) logged() Person {
	return Person{Tenant: c.Tenant, Issuer: c.Issuer, Subject: secret.Reference(c.Subject)}
}

// Propose puts a change up for approval.
//
// Errors: ErrKind, *DocumentError, or one with RetryAfter.
func (s *Service) Propose(ctx context.Context, who Caller, kind string, document []byte) (Change, error) {
	k, ok := s.kinds[kind]
	if !ok {
		return Change{}, ErrKind
	}
	if len(document) > MaxDocument {
		return Change{}, &DocumentError{fmt.Sprintf("it has more than %d bytes", MaxDocument)}
	}
	canonical, err := k.Canonical(ctx, document)
	if err != nil {
		return Change{}, err
	}
	id, err := uuid.NewV7() // ordered by time
	if err != nil {
		return Change{}, err
	}
	now := s.cfg.Now().UTC().Truncate(time.Millisecond) // as rows keep it
	c := Change{
		ID: id.String(), Kind: kind, Document: canonical, SHA256: digestOf(canonical),
		Proposer: who.logged(), Proposed: now, Expires: now.Add(s.cfg.Within), State: Open,
	}
	return c, s.write(ctx, who, who.intent(record.ProposeChange, c), Proposal{c})
}

// digestOf is a document's digest, as an approver names it.
func digestOf(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// write records an operation that is one change of a row.
func (s *Service) write(ctx context.Context, who Caller, in record.Intent, row record.Change) error {
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, in)
	if err != nil {
		return err
	}
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(), who.Claims.End(true, row)...)
	if record.Refused(err) {
		refused := record.Result{Outcome: record.OutcomeRefused, Reason: reasonOf(err)}
		return errors.Join(err, record.Fail(ctx, s.cfg.Recorder, ticket, refused, who.Claims.End(false)...))
	}
	return err
}

// Approve makes a change that somebody else proposed. digest is the SHA-256, in hex, of the
// document that the approver looked at.
//
// Errors: ErrUnknown; ErrSamePerson, ErrOtherDocument and ErrNotOpen, which are on record; the
// kind's own, after which the change is open as before; or one with RetryAfter.
func (s *Service) Approve(ctx context.Context, who Caller, id, digest string) (Change, error) {
	c, err := s.Change(ctx, id)
	if err != nil {
		return Change{}, err
	}
	in := who.intent(record.ApproveChange, c)
	if err := s.mayDecide(c, who.Person, digest); err != nil {
		return Change{}, errors.Join(err, s.cfg.Recorder.Refuse(ctx, in, reasonOf(err)))
	}
	k, ok := s.kinds[c.Kind] // a process with other roles may have proposed it
	if !ok {
		return Change{}, ErrKind
	}
	now := s.cfg.Now()
	claim := &Claim{ID: c.ID, SHA256: c.SHA256, By: who.logged(), Now: now, Until: now.Add(s.cfg.Lease)}
	ticket, err := s.cfg.Recorder.Begin(ctx, in, who.Claims.Take(claim)...)
	if err != nil {
		if errors.Is(err, ErrNotOpen) {
			err = errors.Join(err, s.cfg.Recorder.Refuse(ctx, in, reasonOf(err)))
		}
		return Change{}, err
	}
	// A crash from here on leaves a lease that runs out, and a change that may be made. What is
	// approved is made also when the approver has gone, and ends before the lease does.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Lease/2)
	defer cancel()
	if err := k.Apply(work, c.Document); err != nil {
		failed := record.Result{Outcome: record.OutcomeFailed, Reason: reasonOf(err)}
		return Change{}, errors.Join(err, record.Fail(ctx, s.cfg.Recorder, ticket, failed, who.Claims.End(true, claim.End(false))...))
	}
	if _, err := record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(), who.Claims.End(true, claim.End(true))...); err != nil {
		return Change{}, err
	}
	c.State, c.Decider, c.Decided = Applied, claim.By, now
	return c, nil
}

// mayDecide reports why a person cannot approve a change, if so.
func (s *Service) mayDecide(c Change, who Person, digest string) error {
	switch {
	case c.State != Open:
		return fmt.Errorf("%w: it is %s", ErrNotOpen, c.State)
	case digest != c.SHA256, digest != digestOf(c.Document): // of the bytes that the kind gets, too
		return ErrOtherDocument
	case who.Subject == "" || secret.Reference(who.Subject) != who.Subject: // withheld from the row: two would look alike
		return ErrSamePerson
	case who.Subject == c.Proposer.Subject, s.cfg.Separation == ByClient && who.Issuer == c.Proposer.Issuer:
		return ErrSamePerson
	default:
		return nil
	}
}

// Reject ends an open change without making it. The proposer may reject, too.
//
// Errors: ErrUnknown, ErrNotOpen, or one with RetryAfter.
func (s *Service) Reject(ctx context.Context, who Caller, id string) (Change, error) {
	c, err := s.Change(ctx, id)
	if err != nil {
		return Change{}, err
	}
	now := s.cfg.Now().UTC().Truncate(time.Millisecond)
	if err := s.write(ctx, who, who.intent(record.RejectChange, c), Rejection{ID: c.ID, By: who.logged(), Now: now}); err != nil {
		return Change{}, err
	}
	c.State, c.Decider, c.Decided = Rejected, who.logged(), now
	return c, nil
}

// Change gives a change by its id; ErrUnknown.
func (s *Service) Change(ctx context.Context, id string) (Change, error) {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return Change{}, err
	}
	return s.asOfNow(c), nil
}

// Changes gives the newest changes, newest first.
func (s *Service) Changes(ctx context.Context, limit int) ([]Change, error) {
	all, err := s.cfg.Store.Changes(ctx, limit)
	for i := range all {
		all[i] = s.asOfNow(all[i])
	}
	return all, err
}

// asOfNow is a change as the clock has it: an approval that never ended lets go of it, and an
// open one expires.
func (s *Service) asOfNow(c Change) Change {
	now := s.cfg.Now()
	if c.State == Applying && !now.Before(c.Lease) {
		c.State, c.Decider, c.Decided = Open, Person{}, time.Time{}
	}
	if c.State == Open && !now.Before(c.Expires) {
		c.State = Expired
	}
	return c
}

// reasonOf is an error's code in the log.
func reasonOf(err error) string {
	var document *DocumentError
	switch {
	case errors.Is(err, ErrSamePerson):
		return "same-person"
	case errors.Is(err, ErrOtherDocument):
		return "other-document"
	case errors.Is(err, ErrNotOpen):
		return "not-open"
	case errors.As(err, &document):
		return "document"
	default:
		return "not-applied"
	}
}
