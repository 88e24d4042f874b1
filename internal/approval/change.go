package approval

import (
	"context"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// A Change is one that was proposed.
type Change struct {
	ID       string // a UUID
	Kind     string
	Document []byte // in its kind's one form
	SHA256   string // of Document, hex
	Proposer Person
	Proposed time.Time
	Expires  time.Time // after it nobody can approve
	State    State
	Decider  Person    // who approved or rejected; nobody while it is open
	Decided  time.Time // when that was on record
	Lease    time.Time // until when an approval has it to itself
}

// A Person is one who proposes or approves: who the client's proof says it is.
type Person struct {
	Tenant  string
	Issuer  string
	Subject string
}

// State is how far a change is.
type State string

// The states. An open change is expired when its time is over, whatever its row says.
const (
	Open     State = "open"
	Applying State = "applying" // approved, and being made under a lease
	Applied  State = "applied"
	Rejected State = "rejected"
	Expired  State = "expired"
)

// A Kind is one sort of change.
type Kind interface {
	// Name is the kind's, in requests and in the log.
	Name() string
	// Canonical gives the one form of a proposed document, in which equal changes are equal
	// bytes. It is a *DocumentError if it cannot be read, or could not be made as things
	// stand now.
	Canonical(ctx context.Context, document []byte) ([]byte, error)
	// Apply makes the change, whole or not at all; document is what Canonical gave when it
	// was proposed. It is called again for a change of which a crash left unknown whether it
	// was made: to make it twice must be as good as once. A *DocumentError says that things
	// do not stand as the document has them any more.
	Apply(ctx context.Context, document []byte) error
}

// A DocumentError is a document that its kind does not take. What is shown to the proposer.
type DocumentError struct{ What string }

func (e *DocumentError) Error() string { return "document refused: " + e.What }

// Store keeps changes. Methods that fail for a reason of their own give an error with a
// method RetryAfter. Nothing is retried in it.
type Store interface {
	// Change gives one by its id; ErrUnknown.
	Change(ctx context.Context, id string) (Change, error)
	// Changes gives the newest, at most limit, newest first.
	Changes(ctx context.Context, limit int) ([]Change, error)
}

// The refusals.
var (
	ErrUnknown       = errors.New("no such change")
	ErrKind          = errors.New("no such kind of change")
	ErrSamePerson    = errors.New("whoever proposed a change cannot approve it")
	ErrOtherDocument = errors.New("the digest is not the proposed document's")
	ErrNotOpen       = errors.New("the change is not open")
	// ErrRequired is for what would make a change directly where it needs two people.
	ErrRequired = errors.New("the change needs a second person's approval")
)

// Proposal is the row of a new change.
type Proposal struct{ Change }

// IsChange marks Proposal as a record.Change.
func (Proposal) IsChange() {}

// A Claim takes an open change for one approval. It is a lease. Whoever stores it sets Fence,
// one higher than the last; ErrNotOpen if the change is decided, its time over, or another's
// lease still runs.
type Claim struct {
	ID     string
	SHA256 string
	By     Person
	Now    time.Time // the claimant's clock, which times are held against
	Until  time.Time // when the lease runs out

	Fence int64 // set by the store
}

// IsChange marks Claim as a record.Change.
func (*Claim) IsChange() {}

// End is the change that ends the claim: applied, or open again.
func (c *Claim) End(used bool) record.Change { return ClaimEnd{Claim: *c, Applied: used} }

// A ClaimEnd ends a claim; ErrNotOpen if somebody else has taken the change since, which the
// fence shows.
type ClaimEnd struct {
	Claim   Claim
	Applied bool
}

// IsChange marks ClaimEnd as a record.Change.
func (ClaimEnd) IsChange() {}

// A Rejection ends an open change without making it; ErrNotOpen if it is not open.
type Rejection struct {
	ID  string
	By  Person
	Now time.Time
}

// IsChange marks Rejection as a record.Change.
func (Rejection) IsChange() {}
