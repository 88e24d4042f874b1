package provisioning

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// productTypeMastercard is the productType of Mastercard and Maestro (guide, 5.5).
const productTypeMastercard = "DEFAULT_MASTERCARD"

// payloadVersion is the one payload version in use; version 0 is deprecated.
const payloadVersion = "1"

// configuration1 is the payload of payment data configuration 1, version 1 (guide, 5.5
// and 5.6): UTF-8 JSON with the members in the order of the guide's example and the
// slash of the expiration escaped as there. The caller overwrites it.
func configuration1(c Card, n Nonce, productType string) ([]byte, error) {
	b := make([]byte, 0, 768)
	b = append(b, `{"expiration":`...)
	c.Expiration.Reveal(func(e []byte) {
		b = append(b, '"')
		b = append(b, bytes.Replace(e, []byte("/"), []byte(`\/`), 1)...)
		b = append(b, '"')
	})
	b = append(b, `,"name":`...)
	b, err := appendSecret(b, c.Name.Reveal)
	b = append(b, `,"nonce":"`...)
	b = append(b, n.Hex()...)
	b = append(b, `","nonceSignature":"`...)
	b = append(b, n.SignatureHex()...)
	b = append(b, `","primaryAccountNumber":`...)
	b, err2 := appendSecret(b, c.PAN.Reveal)
	b = append(b, `,"productType":`...)
	b, err3 := jsontext.AppendQuote(b, productType)
	b = append(b, `,"version":"`+payloadVersion+`"}`...)
	return b, errors.Join(err, err2, err3)
}
