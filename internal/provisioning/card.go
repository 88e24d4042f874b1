package provisioning

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/secret"
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
	Product    string      // which payload it gets; see Products
}

// ProductMastercard is a Mastercard or Maestro card under payload configuration 1.
const ProductMastercard = "mastercard"

// maxName bounds a cardholder name in bytes. The guide (9, FAQ) leaves the maximum to
// the network; 80 is above what networks print. [C]
const maxName = 80

// ErrCardData is returned for card data that break the field rules. It says which
// rule, and holds nothing of the data.
var ErrCardData = errors.New("card data refused")

// Wipe overwrites the card's data, in every copy.
func (c Card) Wipe() {
	c.PAN.Wipe()
	c.Expiration.Wipe()
	c.Name.Wipe()
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
	if c.Product != ProductMastercard {
		err = errors.Join(err, fmt.Errorf("%w: unknown product", ErrCardData))
	}
	return err
}

// expired reports whether the last day of the expiration month is past.
func (c Card) expired(now time.Time) bool {
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

// Cards keeps card rows.
type Cards interface {
	// FindCard gives the row of a tenant that has the look-up value, whoever owns it;
	// ErrUnknownCard if there is none, an error with RetryAfter if it cannot be told.
	FindCard(ctx context.Context, tenant string, lookup []byte) (CardRow, error)
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

// marshal gives the JSON that is sealed into a row:
// {primaryAccountNumber, expiration, name, product}. The caller overwrites it.
func (c Card) marshal() ([]byte, error) {
	b := make([]byte, 0, 512)
	b = append(b, `{"primaryAccountNumber":`...)
	b, err := appendSecret(b, c.PAN.Reveal)
	b = append(b, `,"expiration":`...)
	b, err2 := appendSecret(b, c.Expiration.Reveal)
	b = append(b, `,"name":`...)
	b, err3 := appendSecret(b, c.Name.Reveal)
	b = append(b, `,"product":`...)
	b, err4 := jsontext.AppendQuote(b, c.Product)
	return append(b, '}'), errors.Join(err, err2, err3, err4)
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

// unmarshalCard reads what marshal wrote.
func unmarshalCard(b []byte) (Card, error) {
	var in struct {
		PAN        clearText `json:"primaryAccountNumber"`
		Expiration clearText `json:"expiration"`
		Name       clearText `json:"name"`
		Product    string    `json:"product"`
	}
	err := json.Unmarshal(b, &in, json.RejectUnknownMembers(true))
	defer func() { in.PAN.wipe(); in.Expiration.wipe(); in.Name.wipe() }()
	if err != nil {
		return Card{}, ErrCardData // not the decoder's error, which may quote
	}
	pan, err := secret.ParsePAN(in.PAN)
	if err != nil {
		return Card{}, fmt.Errorf("%w: %w", ErrCardData, err)
	}
	c := Card{PAN: pan, Expiration: secret.NewText(string(in.Expiration)), Name: secret.NewText(string(in.Name)), Product: in.Product}
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
