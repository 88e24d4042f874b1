package passes

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit/webservice"
)

// Files are a pass's files: their names, and the SHA-256 of their content in hex.
type Files map[string]string

// A TypeRow is what a tenant has given a pass type. The zero row is that of a type to
// which nothing was given.
type TypeRow struct {
	TypeID
	Template    jsontext.Value // an object, or nil
	Files       Files
	Certificate string // PEM, leaf first; empty: the keyring's counts

	Revision int64 // 1 for the first
	Stamp    int64 // of the revision, among the stamps of the type's passes
	Modified int64 // seconds since 1970; after those of all versions before it
}

// A PassRow is a pass. Its version, stamp and time are given by the store.
type PassRow struct {
	ID
	Ref      int64          // what other rows know it by; random
	Document jsontext.Value // its own members of pass.json, without those that the service sets
	Token    string         // authenticationToken
	Files    Files
	Voided   bool
	Personal jsontext.Value // what a device sent when it was personalised, or nil

	Version  int64 // 1 for the first
	Stamp    int64
	Modified int64 // seconds since 1970
}

// Rows reads what was written. Nothing is retried; errors with RetryAfter say that a later
// try may succeed.
type Rows interface {
	// TypeOf gives a pass type's row, the zero row with the id if there is none.
	TypeOf(ctx context.Context, id TypeID) (TypeRow, error)
	// PassOf gives a pass and its type's row as of one moment: what is made of the one of
	// before a change and the other of after it would be served under the wrong time.
	// ErrUnknown if there is no such pass; the type's row is given all the same.
	PassOf(ctx context.Context, id ID) (PassRow, TypeRow, error)
	// PassAsset gives a tenant's file by the SHA-256 of its content, or ErrUnknown.
	PassAsset(ctx context.Context, tenant, sha256 string) ([]byte, error)
}

// A Registration is a device that has a pass.
type Registration struct {
	Device    DeviceKey
	Pass      PassRow
	PushToken string
	Client    webservice.ClientKind
	At        time.Time
	Limit     int // of registrations of the pass; 0: none
}

// A DeviceKey stands for a device with one tenant and pass type: a digest, since the
// device's own identifier is all that protects its list.
type DeviceKey [sha256.Size]byte

func deviceKey(id TypeID, device string) DeviceKey {
	return sha256.Sum256([]byte("mintmark pass device v1\x00" + id.Tenant + "\x00" + id.Type + "\x00" + device))
}

// Changed is a pass that is newer than a tag.
type Changed struct {
	Serial string
	Stamp  int64
}

// Devices keeps registrations. A nil error means that the change is durable.
type Devices interface {
	// Register writes a registration in place of the one that the device has for the pass,
	// and reports whether there was none; then it has a stamp of its own. A pending push moves
	// to the new push token. *QuotaError for a new one beyond the limit.
	Register(ctx context.Context, r Registration) (created bool, err error)
	// Unregister removes a registration, if there is one, and a pending push that was for
	// it alone.
	Unregister(ctx context.Context, device DeviceKey, pass PassRow) error
	// ChangedSince gives the passes registered by a device whose stamp, or whose type's, or
	// that of the registration, is greater than since: as of one moment, and with every
	// lesser stamp visible at it. A since that is greater than any stamp of the type counts
	// as 0: a device that was given it elsewhere would otherwise miss everything.
	ChangedSince(ctx context.Context, device DeviceKey, id TypeID, since int64) ([]Changed, error)
}

// A Push is an entry of the outbox that the caller holds under a lease.
type Push struct {
	TypeID
	PushToken string
	Client    webservice.ClientKind
	Attempts  int
	Fence     int64
}

// Wallets are kinds of wallet: one, or all but some.
type Wallets struct {
	Only webservice.ClientKind   // empty: all
	But  []webservice.ClientKind // of all
}

// A PushEnd says what is to become of a leased entry. One that was written anew meanwhile
// stays, whatever the end.
type PushEnd struct {
	Push
	RetryAt  time.Time // try again then; zero: the entry goes
	NotTried bool      // with RetryAt: this does not count as an attempt
	Forget   time.Time // also forget registrations of the token not renewed after this; zero: none
}

// Outbox keeps pushes.
type Outbox interface {
	// LeasePushes takes up to n entries of a type that are due, to certain wallets, until a
	// time. Nobody else is given them before.
	LeasePushes(ctx context.Context, id TypeID, to Wallets, now, until time.Time, n int) ([]Push, error)
	// EndPushes writes what became of leased entries, all or none.
	EndPushes(ctx context.Context, ends []PushEnd) error
}

// AssetPut is the change that stores a file. *QuotaError for a new one beyond the limits.
type AssetPut struct {
	Tenant, SHA256 string
	Content        []byte
	Limits         Limits
	Now            time.Time
}

// TypePut is the change that writes a pass type, as the next revision. The row's revision,
// stamp and time are set when it was made. ErrPrecondition if the revision is another.
type TypePut struct {
	Row  *TypeRow
	If   Condition
	Push bool // tell every device that has a pass of the type
	Now  time.Time
}

// PassPut is the change that writes a pass, as the next version. The row's version, stamp
// and time are set when it was made. ErrPrecondition if the version is another.
type PassPut struct {
	Row  *PassRow
	If   Condition
	Push bool // tell the devices that have it
	Now  time.Time
}

// PersonalClaim is the change that takes the one personalisation of a pass.
// ErrPersonalized if it was had, or is claimed.
type PersonalClaim struct {
	Pass       PassRow
	Info       jsontext.Value
	Push       bool
	Now, Until time.Time
	Fence      int64 // set when the claim was made
}

// End gives the change that ends the claim: the pass personalised, in a version of its
// own, or free again.
func (c *PersonalClaim) End(used bool) record.Change { return PersonalEnd{c, used} }

// PersonalEnd is the change that ends a PersonalClaim.
type PersonalEnd struct {
	Claim *PersonalClaim
	Used  bool
}

// IsChange marks AssetPut as a record.Change.
func (AssetPut) IsChange() {}

// IsChange marks TypePut as a record.Change.
func (TypePut) IsChange() {}

// IsChange marks PassPut as a record.Change.
func (PassPut) IsChange() {}

// IsChange marks PersonalClaim as a record.Change.
func (*PersonalClaim) IsChange() {}

// IsChange marks PersonalEnd as a record.Change.
func (PersonalEnd) IsChange() {}

// A Condition says which versions a caller means to replace.
type Condition struct {
	stated   bool
	existing bool    // any version that there is
	versions []int64 // otherwise one of these
}

// The conditions without a version.
var (
	Anything = Condition{}                             // whatever is there, or nothing
	Existing = Condition{stated: true, existing: true} // If-Match: *
)

// Only is the condition that one of the versions is there. Of none it never holds.
func Only(versions ...int64) Condition { return Condition{stated: true, versions: versions} }

// Holds reports whether the condition holds for the version there, 0 if there is none.
func (c Condition) Holds(version int64) bool {
	return !c.stated || version > 0 && (c.existing || slices.Contains(c.versions, version))
}
