package provisioning

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// maxMessageLife is how far ahead an encrypted card's exp may lie. It bounds how long a
// captured one must be remembered; a bulk import is made ready a day before.
const maxMessageLife = 24 * time.Hour

// A MessageClaim takes an encrypted card for its one use: a lease, as a NonceClaim is.
// Whoever stores it sets Fence; ErrMessageUsed if it has been used or another's lease still
// runs. From Expires on the row may be removed.
type MessageClaim struct {
	Tenant  string
	ID      [32]byte // from messageID
	Now     time.Time
	Until   time.Time // when the lease runs out
	Expires time.Time // when the message is of no use any more

	Fence int64 // set by the store
}

var _ record.Claim = (*MessageClaim)(nil)

// IsChange marks MessageClaim as a record.Change.
func (*MessageClaim) IsChange() {}

// End is the change that ends the claim.
func (c *MessageClaim) End(used bool) record.Change { return MessageEnd{Claim: *c, Used: used} }

// A MessageEnd ends a claim. It is refused with ErrMessageUsed when somebody else has taken
// the message since, which the fence shows.
type MessageEnd struct {
	Claim MessageClaim
	Used  bool
}

// IsChange marks MessageEnd as a record.Change.
func (MessageEnd) IsChange() {}

// A MessageUse uses an encrypted card up at once, with the card that it stores: for an
// import, which nobody waits for. ErrMessageUsed if it has been taken.
type MessageUse struct{ Claim MessageClaim }

// IsChange marks MessageUse as a record.Change.
func (MessageUse) IsChange() {}

// messageDomain begins every message's input, so that its SHA-256 is no other digest's.
const messageDomain = "mintmark encrypted card v2"

// messageID is the SHA-256 of the domain, the owner, the externalCardId and the jti, each
// behind its length as eight bytes, big-endian. The sub and the card are in it so that nobody
// uses up a jti that another's card needs.
func messageID(e signer.EncryptedCard) [32]byte {
	var input []byte
	for _, part := range []string{messageDomain, e.Tenant, e.Issuer, e.Subject, e.ExternalCardID, e.ID} {
		input = binary.BigEndian.AppendUint64(input, uint64(len(part)))
		input = append(input, part...)
	}
	return sha256.Sum256(input)
}

// match is what an encrypted card is held against: the request that it came in.
type match struct {
	who        Caller
	externalID string // empty for that of the message
	nonce      []byte // Apple's, for one sealing; nil for a card to be stored
}

// receive reads an encrypted card and holds its header against the request. Nothing of it is
// believed before it is opened, which proves the header. The error is ErrEncryptedCard.
func (s *Service) receive(compact string, m match) (signer.EncryptedCard, *MessageClaim, error) {
	e, err := signer.ParseEncryptedCard(compact)
	if err != nil {
		return e, nil, err
	}
	now := s.cfg.Now()
	expires := time.Unix(e.Expires, 0)
	want := ""
	if m.nonce != nil {
		sum := sha256.Sum256(m.nonce)
		want = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	owner := Owner{Tenant: e.Tenant, Issuer: e.Issuer, Subject: e.Subject}
	if !m.who.owns(owner) || !isIdentifier(owner.Issuer) || !isIdentifier(owner.Subject) ||
		checkExternalCardID(e.ExternalCardID) != nil || (m.externalID != "" && m.externalID != e.ExternalCardID) ||
		!now.Before(expires) || expires.Sub(now) > maxMessageLife ||
		subtle.ConstantTimeCompare([]byte(want), []byte(e.NonceSHA256)) != 1 {
		return e, nil, ErrEncryptedCard
	}
	return e, &MessageClaim{
		Tenant: e.Tenant, ID: messageID(e),
		Now: now, Until: now.Add(s.cfg.Lease), Expires: expires.Add(s.cfg.Lease),
	}, nil
}

// maxIdentifier bounds iss and sub, as it does for tokens.
const maxIdentifier = 255

// isIdentifier reports whether iss or sub is one: not empty, UTF-8 without control
// characters. PostgreSQL takes no NUL in a text, and a log no line ends.
func isIdentifier(s string) bool {
	return s != "" && len(s) <= maxIdentifier && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
