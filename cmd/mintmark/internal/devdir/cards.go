package devdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
)

// DemoCard is a card that development mode puts into the vault. The numbers are
// published test numbers that no issuer issues.
type DemoCard struct {
	ExternalCardID string
	Network        string
	Product        string
	Number         string
	Expiration     string
	Name           string
	Auxiliary      string // the number of a co-badged card's second network
}

// card gives its data.
func (d DemoCard) card() (provisioning.Card, error) {
	number := func(digits string) (provisioning.Card, error) {
		pan, err := secret.ParsePAN([]byte(digits))
		return provisioning.Card{PAN: pan, Expiration: secret.NewText(d.Expiration), Name: secret.NewText(d.Name)}, err
	}
	c, err := number(d.Number)
	c.Product = d.Product
	if err == nil && d.Auxiliary != "" {
		var a provisioning.Card
		a, err = number(d.Auxiliary)
		c.Auxiliary = []provisioning.Card{a}
	}
	return c, err
}

// DemoCards belong to the issuer client's subject. The first is a Mastercard for
// payload configuration 1; there is one for each of the products.
var DemoCards = []DemoCard{
	{ExternalCardID: "demo-mastercard-1", Network: "mastercard", Product: "mastercard", Number: "5204245250001488", Expiration: "12/49", Name: "John Appleseed"},
	{ExternalCardID: "demo-mastercard-2", Network: "mastercard", Product: "mastercard", Number: "5555555555554444", Expiration: "06/48", Name: "Zoë \"Quote\" O'Brien-Łukasz"},
	{ExternalCardID: "demo-maestro-1", Network: "maestro", Product: "maestro", Number: "6759649826438453", Expiration: "01/47", Name: "Jane Appleseed"},
	{ExternalCardID: "demo-mastercard-3", Network: "mastercard", Product: "mastercard-encrypted", Number: "5105105105105100", Expiration: "02/46", Name: "John Appleseed"},
	{ExternalCardID: "demo-maestro-3", Network: "maestro", Product: "maestro-encrypted", Number: "6304000000000000", Expiration: "02/46", Name: "John Appleseed"},
	{ExternalCardID: "demo-visa-1", Network: "visa", Product: "visa", Number: "4260640000000000", Expiration: "03/45", Name: "John Appleseed"},
	{ExternalCardID: "demo-visa-electron-nn", Network: "visa-electron", Product: "visa-electron-nn", Number: "4824980000000009", Expiration: "04/45", Name: "John Appleseed"},
	{ExternalCardID: "demo-visa-electron-ny", Network: "visa-electron", Product: "visa-electron-ny", Number: "4824980000000009", Expiration: "04/45", Name: "John Appleseed"},
	{ExternalCardID: "demo-v-pay-yy", Network: "v-pay", Product: "v-pay-yy", Number: "4824980000000009", Expiration: "04/45", Name: "John Appleseed"},
	{ExternalCardID: "demo-amex-1", Network: "amex", Product: "amex", Number: "371449635398431", Expiration: "05/44", Name: "John Appleseed"},
	{ExternalCardID: "demo-amex-2", Network: "amex", Product: "amex-2", Number: "378282246310005", Expiration: "05/44", Name: "John Appleseed"},
	{ExternalCardID: "demo-discover-1", Network: "discover", Product: "discover", Number: "6011111111111117", Expiration: "06/44", Name: "John Appleseed"},
	{ExternalCardID: "demo-discover-2", Network: "discover", Product: "discover-2", Number: "6011000990139424", Expiration: "06/44", Name: "John Appleseed"},
	{ExternalCardID: "demo-co-badged-mastercard", Network: "mastercard", Product: "co-badged-mastercard", Number: "5204245250001488", Expiration: "07/44", Name: "John Appleseed", Auxiliary: "6759649826438453"},
	{ExternalCardID: "demo-co-badged-visa", Network: "visa", Product: "co-badged-visa", Number: "4260640000000000", Expiration: "07/44", Name: "John Appleseed", Auxiliary: "6759649826438453"},
}

// products is the table of products, one for each row of the payloads. That Mastercard's
// configuration 3 is encrypted with the zone key is so that it can be tried here.
const products = `
  visa: {keySet: "426064.1", layout: framed}
  schemes:
    - name: demo-jws
      algorithm: RS256
      key: dev-network-otp
      delimiter: "|"
      fields: [{name: nonce, type: nonce}, {name: at, type: timestamp}, {name: code, type: authcode}]
  products:
    - {name: mastercard, network: mastercard, configuration: 1, activation: tav}
    - {name: maestro, network: maestro, configuration: 1, activation: tav}
    - {name: mastercard-encrypted, network: mastercard, configuration: 3, encryptedPAN: zone, activation: tav}
    - {name: maestro-encrypted, network: maestro, configuration: 3, encryptedPAN: zone, activation: tav}
    - {name: visa, network: visa, configuration: 3, activation: visa}
    - {name: visa-electron-nn, network: visa-electron, configuration: 3, productType: "01:NN:A0000000032010", activation: visa}
    - {name: visa-electron-ny, network: visa-electron, configuration: 3, productType: "01:NY:A0000000032010", activation: visa}
    - {name: v-pay-yy, network: v-pay, configuration: 3, productType: "01:YY:A0000000032010", activation: visa}
    - {name: amex, network: amex, configuration: 1, activation: demo-jws}
    - {name: amex-2, network: amex, configuration: 2, extra: {networkData: demo}, activation: demo-jws}
    - {name: discover, network: discover, configuration: 1, activation: demo-jws}
    - {name: discover-2, network: discover, configuration: 2, activation: demo-jws}
    - {name: co-badged-mastercard, network: mastercard, coBadged: true, configuration: 1, productType: GIVEN_BY_APPLE, activation: tav}
    - {name: co-badged-visa, network: visa, coBadged: true, configuration: 3, productType: GIVEN_BY_APPLE, activation: visa}
`

// cardsStored is the file that says how many demo cards are in the vault, and in which form:
// 1 was without their ids.
const cardsStored = "cards-stored"

// StoreCards puts the demo cards into the vault, once for a directory.
func (d *Dir) StoreCards(ctx context.Context, svc *provisioning.Service) error {
	done, all := d.path(cardsStored), "2, "+strconv.Itoa(len(DemoCards))
	if stored, err := os.ReadFile(done); err == nil && string(stored) == all {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	who := provisioning.Caller{Owner: provisioning.Owner{Tenant: Tenant, Issuer: IssuerClient.Issuer, Subject: IssuerClient.Subject}, RequestID: "dev"}
	for _, c := range DemoCards {
		card, err := c.card()
		if err != nil {
			return fmt.Errorf("demo card %s: %w", c.ExternalCardID, err)
		}
		if _, err := svc.StoreCard(ctx, who, c.ExternalCardID, card); err != nil {
			return fmt.Errorf("demo card %s: %w", c.ExternalCardID, err)
		}
	}
	// A crash before this line stores them again at the next start, in place.
	return writeFile(done, []byte(all))
}
