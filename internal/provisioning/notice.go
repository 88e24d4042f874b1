package provisioning

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// NoticeKind says what a notice is about.
type NoticeKind string

// The kinds.
const (
	PasscodeNotice   NoticeKind = "one-time-passcode" // a passcode, to be given to a cardholder
	ActivationNotice NoticeKind = "token-activated"   // a token has become active, and its cardholder is to know
)

// A Notice is what the network, or whoever speaks to cardholders for the issuer, is to be
// told. It waits in the outbox until it is delivered. What it says is sealed under the token's
// vault key, with its place as associated data: it holds passcodes, and identifiers that
// callers chose.
//
// As a record.Change it puts itself into the outbox, in the transaction of the result that it
// tells of: what is on record is told, and nothing else is.
type Notice struct {
	ID      string // also the idempotency key that its receiver sees
	Tenant  string
	Kind    NoticeKind
	Body    signer.VaultRow
	Created time.Time
	Until   time.Time // it is of no use from then on, and dropped; zero: it is delivered however late
}

// IsChange marks Notice as a record.Change.
func (Notice) IsChange() {}

// A LeasedNotice is a notice that the caller holds under a lease.
type LeasedNotice struct {
	Notice
	Attempts int // that have failed
	Fence    int64
}

// A NoticeEnd says what is to become of a leased notice: tried again at RetryAt, or, if that
// is zero, removed.
type NoticeEnd struct {
	ID       string
	Fence    int64
	RetryAt  time.Time
	NotTried bool // with RetryAt: this does not count as an attempt
}

// Outbox keeps notices. A nil error means that the change is durable.
type Outbox interface {
	// LeaseNotices takes up to n notices that are due, until a time, the longest due first.
	// Nobody else is given them before. Those that are of no use any more are removed.
	LeaseNotices(ctx context.Context, now, until time.Time, n int) ([]LeasedNotice, error)
	// FreeNotices makes all notices due that this process's log leased last. A process that
	// begins does that, since it is the only one that writes the log: what the one before had
	// leased, that one can no longer deliver.
	FreeNotices(ctx context.Context, now time.Time) error
	// EndNotices writes what became of leased notices, all or none. One that was leased anew
	// meanwhile, which the fence shows, is left alone.
	EndNotices(ctx context.Context, ends []NoticeEnd) error
}

// Activated says which token has become active, and whose.
type Activated struct {
	Owner                Owner
	TokenUniqueReference string
	ExternalCardID       string // may be empty
	Last4                string // of the card; may be empty
}

// activatedBody is what its receiver reads.
type activatedBody struct {
	Issuer               string    `json:"iss"`
	Subject              string    `json:"sub"`
	TokenUniqueReference string    `json:"tokenUniqueReference"`
	ExternalCardID       string    `json:"externalCardId,omitempty"`
	Last4                string    `json:"cardLast4Digits,omitempty"`
	ActivatedAt          time.Time `json:"activatedAt"`
}

// activationNotice makes the change that has a cardholder told of an activation (guide, 4.2,
// provisioning notifications). It needs the token, and so is called before the network is
// asked: what was approved can then be put on record, with the notice beside it, without
// anything left that may fail but the database. A notice that is not given to Conclude is
// nothing. The ticket is one for record.ActivateToken.
func (s *Service) activationNotice(ctx context.Context, t *record.Ticket, a Activated) (Notice, error) {
	body, err := json.Marshal(activatedBody{
		Issuer: a.Owner.Issuer, Subject: a.Owner.Subject, TokenUniqueReference: a.TokenUniqueReference,
		ExternalCardID: a.ExternalCardID, Last4: a.Last4, ActivatedAt: s.cfg.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		return Notice{}, err
	}
	return s.notice(ctx, t, Notice{ID: uuid.NewString(), Tenant: a.Owner.Tenant, Kind: ActivationNotice}, body)
}

// notice seals what a notice says, and overwrites it.
func (s *Service) notice(ctx context.Context, t *record.Ticket, n Notice, body []byte) (Notice, error) {
	defer secret.Wipe(body)
	n.Created = s.cfg.Now()
	var err error
	n.Body, err = s.cfg.Gate.SealNotice(ctx, t, n.Tenant, n.ID, body)
	return n, err
}
