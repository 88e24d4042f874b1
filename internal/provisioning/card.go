package provisioning

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// Owner is who a card belongs to: never a subject alone, which two issuers may share.
type Owner struct {
	Tenant  string
	Issuer  string // the JWT's iss
	Subject string // the JWT's sub
}

// Card is a card's data in the clear. It is never kept: see CardRow.
type Card struct {
	PAN        secret.PAN
	Expiration secret.Text // MM/YY
	Name       secret.Text // the cardholder's, 1 to 80 bytes
	Product    string      // the name of a Product; not of an auxiliary card
	// Auxiliary are the cards of a co-badged card's second network.
	Auxiliary []Card
	// EncryptedPAN is the PAN as the network encrypted it, Base64 as it stands in the
	// payload, for products whose encrypted PAN is supplied.
	EncryptedPAN secret.Text
}

// maxName bounds a cardholder name in bytes. The guide (9, FAQ) leaves the maximum to
// the network; 80 is above what networks print. [C]
const maxName = 80

// maxEncryptedPAN bounds an encrypted PAN as the network gives it.
const maxEncryptedPAN = 1024

// ErrCardData is returned for card data that break the field rules. It says which
// rule, and holds nothing of the data.
var ErrCardData = errors.New("card data refused")

// Wipe overwrites the card's data, in every copy.
func (c Card) Wipe() {
	c.PAN.Wipe()
	c.Expiration.Wipe()
	c.Name.Wipe()
	c.EncryptedPAN.Wipe()
	for _, a := range c.Auxiliary {
		a.Wipe()
	}
}

// maxAuxiliary bounds the cards beside a co-badged one.
const maxAuxiliary = 4

// fits enforces what a product asks of its cards, beside the field rules. The error is a
// *CardError.
func (c Card) fits(p Product, layout signer.Layout) error {
	digits := 0
	c.PAN.Reveal(func(pan []byte) { digits = len(pan) })
	switch {
	case p.CoBadged != (len(c.Auxiliary) > 0),
		(p.EncryptedPAN == FromCardData) != (c.EncryptedPAN.Len() > 0),
		// pan=…;expiry=MMYY;datetime=yyyyMMddHHmmss in whole blocks
		p.EncryptedPAN == FromZoneKey && layout == signer.Bare && (40+digits)%8 != 0:
		return &CardError{Reason: CardData}
	}
	return nil
}

// check enforces the field rules.
func (c Card) check() error {
	if c.PAN.Last4() == "" {
		return fmt.Errorf("%w: primaryAccountNumber is missing", ErrCardData)
	}
	var err error
	c.Expiration.Reveal(func(e []byte) {
		if _, _, ok := splitExpiration(e); !ok {
			err = fmt.Errorf("%w: expiration is not MM/YY", ErrCardData)
		}
	})
	c.Name.Reveal(func(n []byte) {
		if len(bytes.TrimSpace(n)) == 0 || len(n) > maxName || !utf8.Valid(n) || bytes.ContainsFunc(n, unicode.IsControl) {
			err = errors.Join(err, fmt.Errorf("%w: name must be 1 to %d bytes of printable UTF-8", ErrCardData, maxName))
		}
	})
	c.EncryptedPAN.Reveal(func(e []byte) {
		if len(e) > maxEncryptedPAN || !base64Once(e) {
			err = errors.Join(err, fmt.Errorf("%w: encryptedPrimaryAccountNumber must be Base64, once, of up to %d characters", ErrCardData, maxEncryptedPAN))
		}
	})
	if len(c.Auxiliary) > maxAuxiliary {
		err = errors.Join(err, fmt.Errorf("%w: more than %d auxiliaryCards", ErrCardData, maxAuxiliary))
	}
	for _, a := range c.Auxiliary {
		err = errors.Join(err, a.check())
	}
	return err
}

// base64Once reports whether text is standard Base64 without line ends, which a decoder
// skips, of what is not itself Base64: Wallet refuses what was encoded twice. A short
// message may look like Base64 by chance; a network's is longer.
func base64Once(text []byte) bool {
	if bytes.ContainsAny(text, "\r\n") {
		return false
	}
	strict := base64.StdEncoding.Strict()
	inner := make([]byte, strict.DecodedLen(len(text)))
	n, err := strict.Decode(inner, text)
	defer secret.Wipe(inner)
	if err != nil {
		return false
	}
	if n < shortestTwice {
		return true
	}
	again := make([]byte, strict.DecodedLen(n))
	_, err = strict.Decode(again, inner[:n])
	secret.Wipe(again)
	return err != nil
}

// shortestTwice is from what length on bytes that are Base64 are taken for text encoded
// twice: of 16 random bytes one in 2^32 is.
const shortestTwice = 16

// expired reports whether the last day of the expiration month is past.
func (c Card) expired(now time.Time) bool {
	for _, a := range c.Auxiliary {
		if a.expired(now) {
			return true
		}
	}
	past := true
	c.Expiration.Reveal(func(e []byte) {
		if month, year, ok := splitExpiration(e); ok {
			past = !now.UTC().Before(time.Date(year, time.Month(month)+1, 1, 0, 0, 0, 0, time.UTC))
		}
	})
	return past
}

// mmyy is the expiry as networks sign it.
func (c Card) mmyy() secret.Text {
	var t secret.Text
	c.Expiration.Reveal(func(e []byte) { t = secret.NewText(string(e[:2]) + string(e[3:])) })
	return t
}

func splitExpiration(e []byte) (month, year int, ok bool) {
	if len(e) != 5 || e[2] != '/' {
		return 0, 0, false
	}
	digit := func(i int) int {
		if e[i] < '0' || e[i] > '9' {
			ok = false
		}
		return int(e[i] - '0')
	}
	ok = true
	month, year = 10*digit(0)+digit(1), 2000+10*digit(3)+digit(4)
	return month, year, ok && month >= 1 && month <= 12
}

// CardRow is a card as it is kept: sealed under a token key, found by a token HMAC. It
// is the change that stores it.
type CardRow struct {
	Owner   Owner
	ID      string // of the row, random; part of the associated data
	Lookup  []byte // signer.CardIndex over tenant and externalCardId
	Key     string // the keyring's name of the vault key
	IV      []byte
	Sealed  []byte
	Created time.Time
}

// IsChange marks CardRow as a record.Change.
func (CardRow) IsChange() {}

// A CardMove puts a row under another vault key, unless somebody has replaced it since.
type CardMove struct {
	CardRow
	From   string // the key that it was under
	FromIV []byte
}

// A CardRemoval removes a row; ErrUnknownCard if it is not there any more.
type CardRemoval struct{ Tenant, ID string }

// IsChange marks CardRemoval as a record.Change.
func (CardRemoval) IsChange() {}

// ErrCardChanged is returned for a CardMove of a row that somebody has replaced or removed
// since it was read.
var ErrCardChanged = errors.New("card has changed")

// Cards keeps card rows, and the encrypted cards that have been used.
type Cards interface {
	// FindCard gives the owner's row that has the look-up value; ErrUnknownCard if there is
	// none, an error with RetryAfter if it cannot be told.
	FindCard(ctx context.Context, owner Owner, lookup []byte) (CardRow, error)
	// FindOnlyCard gives the one row of a tenant that has the look-up value, whoever owns it;
	// ErrUnknownCard if there is none, or more than one.
	FindOnlyCard(ctx context.Context, tenant string, lookup []byte) (CardRow, error)
	// CardsOf gives rows of an owner, the oldest first.
	CardsOf(ctx context.Context, owner Owner, limit int) ([]CardRow, error)
	// CardsNotUnder gives rows that are sealed under another vault key than this one, in the
	// order of tenant and id, beginning behind the row of after.
	CardsNotUnder(ctx context.Context, key string, after CardRow, limit int) ([]CardRow, error)
	// MessageUsed reports whether an encrypted card has been used for good.
	MessageUsed(ctx context.Context, tenant string, id [32]byte) (bool, error)
}

var externalCardID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`)

// checkExternalCardID refuses what is no identifier.
func checkExternalCardID(id string) error {
	switch {
	case id == "":
		return &FieldError{Member: "externalCardId", Problem: "is missing"}
	case !externalCardID.MatchString(id):
		return &FieldError{Member: "externalCardId", Problem: "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':', '@', '-'"}
	default:
		return nil
	}
}

// marshal gives the JSON that is sealed into a row: the card's, and the externalCardId, of which
// the row otherwise has no more than an HMAC. The caller overwrites it.
func (c Card) marshal(externalID string) ([]byte, error) {
	members := []member{
		textMember("externalCardId", externalID),
		secretMember("primaryAccountNumber", c.PAN.Reveal), secretMember("expiration", c.Expiration.Reveal),
		secretMember("name", c.Name.Reveal), textMember("product", c.Product),
	}
	if len(c.Auxiliary) > 0 {
		members = append(members, member{"auxiliaryCards", c.appendAuxiliary})
	}
	if c.EncryptedPAN.Len() > 0 {
		members = append(members, secretMember("encryptedPrimaryAccountNumber", c.EncryptedPAN.Reveal))
	}
	return object(members)
}

// appendSecret appends a JSON string.
func appendSecret(b []byte, reveal func(func([]byte))) ([]byte, error) {
	var err error
	reveal(func(s []byte) { b, err = jsontext.AppendQuote(b, s) })
	if err != nil {
		return b, ErrCardData // not the encoder's error, which may quote
	}
	return b, nil
}

// unmarshalCard reads what a caller has encrypted to us: {primaryAccountNumber, expiration,
// name, product, auxiliaryCards?, encryptedPrimaryAccountNumber?}. The error is ErrCardData.
func unmarshalCard(b []byte) (Card, error) {
	c, id, err := unmarshalStored(b)
	if err == nil && id != "" {
		c.Wipe()
		return Card{}, ErrCardData
	}
	return c, err
}

// unmarshalStored reads what marshal wrote. The id is empty in rows that were written before
// it was kept.
func unmarshalStored(b []byte) (c Card, externalID string, err error) {
	var in cardJSON
	err = json.Unmarshal(b, &in, json.RejectUnknownMembers(true))
	defer in.wipe()
	if err != nil {
		return Card{}, "", ErrCardData // not the decoder's error, which may quote
	}
	c, err = in.card()
	return c, in.ExternalCardID, err
}

// cardJSON is a card's data as JSON has them.
type cardJSON struct {
	PAN          clearText  `json:"primaryAccountNumber"`
	Expiration   clearText  `json:"expiration"`
	Name         clearText  `json:"name"`
	Product      string     `json:"product"`
	Auxiliary    []cardJSON `json:"auxiliaryCards"`
	EncryptedPAN clearText  `json:"encryptedPrimaryAccountNumber"`

	ExternalCardID string `json:"externalCardId"` // of a row, not of an encrypted card
}

func (in cardJSON) wipe() {
	for _, t := range []clearText{in.PAN, in.Expiration, in.Name, in.EncryptedPAN} {
		t.wipe()
	}
	for _, a := range in.Auxiliary {
		a.wipe()
	}
}

func (in cardJSON) card() (Card, error) {
	pan, err := secret.ParsePAN(in.PAN)
	if err != nil {
		return Card{}, fmt.Errorf("%w: %w", ErrCardData, err)
	}
	c := Card{PAN: pan, Expiration: secret.NewText(string(in.Expiration)), Name: secret.NewText(string(in.Name)),
		Product: in.Product, EncryptedPAN: secret.NewText(string(in.EncryptedPAN))}
	for _, a := range in.Auxiliary {
		aux, err := a.card()
		if err != nil || a.Product != "" || a.Auxiliary != nil || a.EncryptedPAN != nil || a.ExternalCardID != "" {
			aux.Wipe()
			c.Wipe()
			return Card{}, fmt.Errorf("%w: auxiliaryCards", ErrCardData)
		}
		c.Auxiliary = append(c.Auxiliary, aux)
	}
	if err := c.check(); err != nil {
		c.Wipe()
		return Card{}, err
	}
	return c, nil
}

// clearText is a JSON string decoded into a buffer of its own that can be overwritten,
// where a Go string could not.
type clearText []byte

// UnmarshalJSONFrom decodes a JSON string.
func (t *clearText) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	if v.Kind() != '"' {
		return ErrCardData
	}
	*t, err = jsontext.AppendUnquote((*t)[:0], v)
	return err
}

func (t clearText) wipe() { secret.Wipe(t) }
