package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// Token is what a network or service provider has told of a card's token in a wallet. A card
// has one in each device. Of the texts that networks choose an empty one stands for none.
type Token struct {
	Owner
	Reference     string // tokenUniqueReference; Apple's deviceAccountIdentifier
	CardReference string // panUniqueReference
	// ExternalCardID is the card that it is a token of, by the issuer's name.
	ExternalCardID string
	DeviceID       string // which device it is in, as decisions name it
	Status         TokenStatus
	Path           string // authorizationPath, as the network has it
	Process        string // processStatus, as the network has it

	ID        string    // of the row, random; what the log knows it by
	Activated time.Time // when it was first told to be active; zero if it never was
	Revision  int64     // 1 for the first
	Changed   time.Time
	Attempt   int64 // the number of the present attempt at activating it: see TokenAttempt
}

// TokenStatus is a network's tokenStatus. Those that are not listed here are kept as they
// come, and nothing is concluded from them.
type TokenStatus string

// The statuses that are public: the iOS guide's, and what MDES has beside them.
const (
	TokenActive      TokenStatus = "ACTIVE"
	TokenInactive    TokenStatus = "INACTIVE"    // in the wallet, waits for activation
	TokenSuspended   TokenStatus = "SUSPENDED"   // and may come back
	TokenDeactivated TokenStatus = "DEACTIVATED" // for good
)

// ErrUnknownToken is returned for a wallet token that is not in the registry or not the
// caller's: the two are not told apart.
var ErrUnknownToken = errors.New("unknown wallet token")

// ErrTransition is returned for a change that a wallet token cannot go through: the caller's
// picture of it is wrong, or what it tells is late.
var ErrTransition = errors.New("impossible transition of a wallet token")

// ErrTokenChanged is returned for a TokenPut of a row that somebody has changed since it was
// read.
var ErrTokenChanged = errors.New("wallet token has changed")

// Tokens keeps wallet tokens. Errors with RetryAfter say that it cannot be told at the moment.
type Tokens interface {
	// FindTokens gives the rows of a tenant that have one of the references, whoever owns them.
	FindTokens(ctx context.Context, tenant string, references []string) ([]Token, error)
	// TokenHistory gives all states of one, the first first.
	TokenHistory(ctx context.Context, tenant, reference string) ([]Token, error)
}

// TokenPut is the change that writes a wallet token as its next revision, and keeps the one
// before. ErrTokenChanged if Was is not the revision there, 0 for none.
type TokenPut struct {
	Token
	Was int64
}

// IsChange marks TokenPut as a record.Change.
func (TokenPut) IsChange() {}

// follow gives the token that next makes of t, the zero value for a new one, or ErrTransition.
// Which transitions are impossible is inferred from what the statuses mean [C]:
//
//   - nothing follows DEACTIVATED;
//   - who was ever ACTIVE is never INACTIVE again;
//   - the owner stays; so does the card, until the token is active: what was decided for one
//     card would otherwise serve another. An active token may get another card, when the
//     issuer replaces it.
func (t Token) follow(next Token, now time.Time) (Token, error) {
	switch {
	case t.Revision == 0:
	case !sameOwner(t.Owner, next.Owner),
		t.Status == TokenDeactivated && next.Status != TokenDeactivated,
		!t.Activated.IsZero() && next.Status == TokenInactive,
		t.Activated.IsZero() && t.ExternalCardID != "" && next.ExternalCardID != t.ExternalCardID:
		return Token{}, ErrTransition
	}
	next.ID, next.Activated, next.Attempt, next.Revision, next.Changed = t.ID, t.Activated, t.Attempt, t.Revision+1, now
	if next.Status == TokenActive && next.Activated.IsZero() {
		next.Activated = now
	}
	return next, nil
}

// same reports whether two tell the same.
func (t Token) same(other Token) bool {
	other.ID, other.Activated, other.Attempt, other.Revision, other.Changed = t.ID, t.Activated, t.Attempt, t.Revision, t.Changed
	return t == other
}

// maxTokenText bounds what a network tells as text.
const maxTokenText = 128

// check enforces the field rules. What may be a card number has no reason to be here, where
// it would stand in the clear.
func (t Token) check() error {
	field := func(member, problem string) error { return &FieldError{Member: member, Problem: problem} }
	if t.Reference == "" || !signer.CheckReference(t.Reference) || isPAN(t.Reference) {
		return field("tokenUniqueReference", "must be 1 to 128 characters of A-Z, a-z, 0-9, '_', '-', and no card number")
	}
	if t.ExternalCardID != "" {
		if err := checkExternalCardID(t.ExternalCardID); err != nil {
			return err
		}
		if secret.LooksLikePAN(t.ExternalCardID) {
			return field("externalCardId", "looks like a card number, and would be kept in the clear")
		}
	}
	if !isIdentifier(t.Issuer) || !isIdentifier(t.Subject) {
		return field("owner", fmt.Sprintf("must have iss and sub, each 1 to %d bytes without control characters", maxIdentifier))
	}
	if err := checkDeviceID(t.DeviceID); err != nil {
		return err
	}
	for member, text := range map[string]string{"tokenStatus": string(t.Status), "authorizationPath": t.Path, "processStatus": t.Process} {
		if text != "" && (!isIdentifier(text) || len(text) > maxTokenText || secret.LooksLikePAN(text)) {
			return field(member, fmt.Sprintf("must be up to %d bytes without control characters, and no card number", maxTokenText))
		}
	}
	for member, text := range map[string]string{"panUniqueReference": t.CardReference, "deviceId": t.DeviceID} {
		if text != "" && (!isIdentifier(text) || len(text) > maxTokenText || isPAN(text)) {
			return field(member, fmt.Sprintf("must be up to %d bytes without control characters, and no card number", maxTokenText))
		}
	}
	return nil
}

// isPAN reports whether the whole of a text is a card number. Networks' references may hold
// runs of digits that pass for one by chance.
func isPAN(text string) bool {
	pan, err := secret.ParsePAN([]byte(text))
	pan.Wipe()
	return err == nil
}

// refs names a token in the log.
func (t Token) refs() map[string]string { return map[string]string{"walletToken": t.ID} }

// stateRefs are refs with the state that is written: its revision, and the digest of what it
// says, so that neither it nor the history can be changed unseen.
func (t Token) stateRefs() map[string]string {
	refs := t.refs()
	refs["revision"], refs["stateSha256"] = strconv.FormatInt(t.Revision, 10), t.StateSHA256()
	return refs
}

// StateSHA256 is the SHA-256, in hex, of what a state says. Nothing in it is derived from a
// card number: an owner that looks like one counts as withheld.
func (t Token) StateSHA256() string {
	return digestOf("", []string{
		t.ID, t.Tenant, secret.Reference(t.Issuer), secret.Reference(t.Subject), t.Reference, t.CardReference, t.ExternalCardID, t.DeviceID,
		string(t.Status), t.Path, t.Process, millisText(t.Activated), strconv.FormatInt(t.Revision, 10), millisText(t.Changed),
	})
}

// millisText is a time as rows keep it; empty for none.
func millisText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

var _ record.Change = TokenPut{}
