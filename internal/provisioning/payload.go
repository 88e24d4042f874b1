package provisioning

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// payloadVersion is the one payload version in use; version 0 is deprecated, and refused
// wherever one could be asked for.
const payloadVersion = "1"

// ownMembers are the members that payloads have by themselves.
var ownMembers = []string{
	"auxiliaryCards", "encryptedPrimaryAccountNumber", "expiration", "name", "networkName", "nonce", "nonceSignature",
	"primaryAccountNumber", "primaryAccountNumberPrefix", "productType", "version",
}

// A member appends its value to a payload.
type member struct {
	name  string
	value func(b []byte) ([]byte, error)
}

func textMember(name, value string) member {
	return member{name, func(b []byte) ([]byte, error) { return jsontext.AppendQuote(b, value) }}
}

func secretMember(name string, reveal func(func([]byte))) member {
	return member{name, func(b []byte) ([]byte, error) { return appendSecret(b, reveal) }}
}

// payload is the payment data of a card, version 1 (guide, 5.5 and 5.6): UTF-8 JSON with the
// members in the order of the guide's examples, which is that of the alphabet, and the slash
// of an expiration escaped as there. encryptedPAN is the text that stands for the PAN in
// configuration 3, Base64. The caller overwrites the payload.
func (p Product) payload(c Card, n Nonce, encryptedPAN string) ([]byte, error) {
	r, ok := p.row()
	if !ok {
		return nil, &CardError{Reason: CardProduct}
	}
	members := []member{
		secretMember("name", c.Name.Reveal),
		textMember("nonce", n.Hex()),
		textMember("nonceSignature", n.SignatureHex()),
		textMember("productType", p.ProductType),
		textMember("version", payloadVersion),
	}
	if r.coBadged {
		members = append(members, member{"auxiliaryCards", c.appendAuxiliary})
	}
	if r.clear {
		members = append(members, member{"expiration", c.appendExpiration}, secretMember("primaryAccountNumber", c.PAN.Reveal))
	} else {
		members = append(members, textMember("encryptedPrimaryAccountNumber", encryptedPAN))
	}
	if r.networkName != "" {
		members = append(members, textMember("networkName", r.networkName))
	}
	if r.prefix {
		members = append(members, secretMember("primaryAccountNumberPrefix", func(use func([]byte)) {
			c.PAN.Reveal(func(pan []byte) { use(pan[:min(p.PrefixLength, len(pan))]) })
		}))
	}
	for name, value := range p.Extra {
		members = append(members, textMember(name, value))
	}
	return object(members)
}

// object gives a JSON object with its members in order.
func object(members []member) ([]byte, error) {
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	b := append(make([]byte, 0, 1024), '{')
	var errs []error
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `"`+m.name+`":`...)
		var err error
		b, err = m.value(b)
		errs = append(errs, err)
	}
	return append(b, '}'), errors.Join(errs...)
}

// appendExpiration escapes the slash, as Apple's samples do.
func (c Card) appendExpiration(b []byte) ([]byte, error) {
	c.Expiration.Reveal(func(e []byte) {
		b = append(b, '"')
		b = append(b, bytes.Replace(e, []byte("/"), []byte(`\/`), 1)...)
		b = append(b, '"')
	})
	return b, nil
}

// appendAuxiliary gives the cards of a co-badged card's second network: an array of
// objects, which the guide's samples evidently mean.
func (c Card) appendAuxiliary(b []byte) ([]byte, error) {
	b = append(b, '[')
	var errs []error
	for i, a := range c.Auxiliary {
		if i > 0 {
			b = append(b, ',')
		}
		o, err := object([]member{{"expiration", a.appendExpiration}, secretMember("name", a.Name.Reveal), secretMember("primaryAccountNumber", a.PAN.Reveal)})
		b = append(b, o...)
		clear(o)
		errs = append(errs, err)
	}
	return append(b, ']'), errors.Join(errs...)
}
