package provisioning

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

const (
	exampleSignature = "408089c255a06e59fef1702ba74715d96bc1c5cbd7cd6c90a6f06b94ed67d231765da07eee3c16565dfd4aef3db71d2f652d659c233d6c279b22184acbbdd0e13c8b237bf7fc3d9c827daa76790b193798"
	exampleBlock     = "TUJQQUQtMS1GSy00MjYwNjQuMS0tVERFQS1BOEZF"
)

// scheme is a configured one, for networks whose form is not public.
var testSchemes = map[string]signer.Scheme{"net": {Name: "net"}}

// The payload of every row of the guide's 5.5 and 5.6, byte for byte.
func TestPayloadOfEveryRow(t *testing.T) {
	const clear = `"expiration":"01\/47","name":"John Appleseed"`
	tail := func(productType string) string {
		return fmt.Sprintf(`"productType":%q,"version":"1"}`, productType)
	}
	nonces := `"nonce":"08643998","nonceSignature":"` + exampleSignature + `",`
	auxiliary := `"auxiliaryCards":[{"expiration":"01\/47","name":"John Appleseed","primaryAccountNumber":"6759649826438453"}],`
	encrypted := `"encryptedPrimaryAccountNumber":"` + exampleBlock + `",`
	for name, tc := range map[string]struct {
		product Product
		pan     string
		want    string
	}{
		"Mastercard, configuration 1": {Product{Network: Mastercard, Configuration: 1, Activation: ActivationTAV}, "5204245250001488",
			`{` + clear + `,` + nonces + `"primaryAccountNumber":"5204245250001488",` + tail("DEFAULT_MASTERCARD")},
		"Maestro, configuration 1": {Product{Network: Maestro, Configuration: 1, Activation: ActivationTAV}, "6759649826438453",
			`{` + clear + `,` + nonces + `"primaryAccountNumber":"6759649826438453",` + tail("DEFAULT_MASTERCARD")},
		"Mastercard, configuration 3": {Product{Network: Mastercard, Configuration: 3, Activation: ActivationTAV}, "5204245250001488",
			`{` + encrypted + `"name":"John Appleseed","networkName":"Mastercard",` + nonces + `"primaryAccountNumberPrefix":"520424",` + tail("DEFAULT_MASTERCARD")},
		"Maestro, configuration 3, prefix of eight": {Product{Network: Maestro, Configuration: 3, PrefixLength: 8, Activation: ActivationTAV}, "6759649826438453",
			`{` + encrypted + `"name":"John Appleseed","networkName":"Mastercard",` + nonces + `"primaryAccountNumberPrefix":"67596498",` + tail("DEFAULT_MASTERCARD")},
		"Visa": {Product{Network: Visa, Configuration: 3, Activation: ActivationVisa}, "4260640000000000",
			`{` + encrypted + `"name":"John Appleseed","networkName":"Visa",` + nonces + `"primaryAccountNumberPrefix":"426064",` + tail("DEFAULT_VISA")},
		"Visa Electron NN": {Product{Network: VisaElectron, Configuration: 3, ProductType: "01:NN:A0000000032010", Activation: ActivationVisa}, "4824980000000009",
			`{` + encrypted + `"name":"John Appleseed","networkName":"Visa",` + nonces + tail("01:NN:A0000000032010")},
		"Visa Electron NY": {Product{Network: VisaElectron, Configuration: 3, ProductType: "01:NY:A0000000032010", Activation: ActivationVisa}, "4824980000000009",
			`{` + encrypted + `"name":"John Appleseed","networkName":"Visa",` + nonces + tail("01:NY:A0000000032010")},
		"V Pay YY": {Product{Network: VPay, Configuration: 3, ProductType: "01:YY:A0000000032010", Activation: ActivationVisa}, "4824980000000009",
			`{` + encrypted + `"name":"John Appleseed","networkName":"Visa",` + nonces + tail("01:YY:A0000000032010")},
		"Amex, configuration 1": {Product{Network: Amex, Configuration: 1, Activation: "net"}, "371449635398431",
			`{` + clear + `,` + nonces + `"primaryAccountNumber":"371449635398431",` + tail("DEFAULT_AMEX")},
		"Amex, configuration 2": {Product{Network: Amex, Configuration: 2, Activation: "net", Extra: map[string]string{"issuerData": `x"y`}}, "371449635398431",
			`{"expiration":"01\/47","issuerData":"x\"y","name":"John Appleseed",` + nonces + `"primaryAccountNumber":"371449635398431",` + tail("DEFAULT_AMEX")},
		"Discover, configuration 1": {Product{Network: Discover, Configuration: 1, Activation: "net"}, "6011111111111117",
			`{` + clear + `,` + nonces + `"primaryAccountNumber":"6011111111111117",` + tail("DISCOVER")},
		"Discover, configuration 2": {Product{Network: Discover, Configuration: 2, Activation: "net"}, "6011111111111117",
			`{` + clear + `,` + nonces + `"primaryAccountNumber":"6011111111111117",` + tail("DISCOVER")},
		"co-badged Mastercard": {Product{Network: Mastercard, CoBadged: true, Configuration: 1, ProductType: "FROM_APPLE", Activation: ActivationTAV}, "5204245250001488",
			`{` + auxiliary + clear + `,` + nonces + `"primaryAccountNumber":"5204245250001488",` + tail("FROM_APPLE")},
		"co-badged Visa": {Product{Network: Visa, CoBadged: true, Configuration: 3, ProductType: "FROM_APPLE", Activation: ActivationVisa}, "4260640000000000",
			`{` + auxiliary + encrypted + `"name":"John Appleseed",` + nonces + tail("FROM_APPLE")},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.product
			p.Name = "product"
			if err := p.Check(testSchemes); err != nil {
				t.Fatal(err)
			}
			c := cardOf(t, tc.pan, "01/47", "John Appleseed")
			if p.CoBadged {
				c.Auxiliary = []Card{cardOf(t, "6759649826438453", "01/47", "John Appleseed")}
			}
			n, err := NonceRules{}.Canonical("08643998", strings.ToUpper(exampleSignature))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.withDefaults().payload(c, n, exampleBlock)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A combination that is not in the table is refused when the configuration is read, not at
// the first card.
func TestWrongCombinationIsRefused(t *testing.T) {
	good := Product{Name: "p", Network: Visa, Configuration: 3, Activation: ActivationVisa}
	if err := good.Check(nil); err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*Product){
		"name must be":           func(p *Product) { p.Name = "P" },
		"configuration 1 is not": func(p *Product) { p.Configuration = 1 },
		"configuration 2 is not": func(p *Product) { p.Configuration = 2 },
		"configuration is miss":  func(p *Product) { p.Configuration = 0 },
		`"DEFAULT_MASTERCARD"`:   func(p *Product) { p.ProductType = "DEFAULT_MASTERCARD" },
		"for dinersclub cards":   func(p *Product) { p.Network = "dinersclub" },
		"is none of [01:NN":      func(p *Product) { p.Network = VisaElectron },
		"Apple gives it":         func(p *Product) { p.CoBadged = true },
		"encryptedPAN must be":   func(p *Product) { p.EncryptedPAN = "host" },
		"encryptedPAN is for": func(p *Product) {
			*p = Product{Name: "p", Network: Amex, Configuration: 1, Activation: "net", EncryptedPAN: FromZoneKey}
		},
		"prefixLength": func(p *Product) { p.PrefixLength = 7 },
		"extra is for": func(p *Product) { p.Extra = map[string]string{"a": "b"} },
		"extra.nonce": func(p *Product) {
			*p = Product{Name: "p", Network: Amex, Configuration: 2, Activation: "net", Extra: map[string]string{"nonce": "b"}}
		},
		"activation is missing":   func(p *Product) { p.Activation = "" },
		"tav is Mastercard's":     func(p *Product) { p.Activation = ActivationTAV },
		"visa is Visa's":          func(p *Product) { *p = Product{Name: "p", Network: Amex, Configuration: 1, Activation: ActivationVisa} },
		"nor a configured scheme": func(p *Product) { p.Activation = "other" },
	} {
		p := good
		change(&p)
		err := p.Check(testSchemes)
		if says == "for dinersclub cards" {
			says = "one that dinersclub cards"
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if _, err := CheckProducts([]Product{good, good}, VisaConfig{}, nil); err == nil || strings.Count(err.Error(), "keySet") != 2 || !strings.Contains(err.Error(), "twice") || !strings.Contains(err.Error(), "layout") {
		t.Errorf("without a key set: %v", err)
	}
}

func TestCardFitsItsProduct(t *testing.T) {
	zone := Product{Name: "visa", Network: Visa, Configuration: 3, Activation: ActivationVisa}.withDefaults()
	supplied := Product{Name: "mc", Network: Mastercard, Configuration: 3, Activation: ActivationTAV}.withDefaults()
	badged := Product{Name: "co", Network: Mastercard, CoBadged: true, Configuration: 1, ProductType: "X", Activation: ActivationTAV}.withDefaults()
	plain := cardOf(t, "4260640000000000", "12/49", "John Appleseed")
	long := cardOf(t, "4260640000000000002", "12/49", "John Appleseed")
	withBlock, withAuxiliary := plain, plain
	withBlock.EncryptedPAN = secret.NewText(exampleBlock)
	withAuxiliary.Auxiliary = []Card{cardOf(t, "6759649826438453", "01/47", "John Appleseed")}
	for name, tc := range map[string]struct {
		card    Card
		product Product
		layout  signer.Layout
		fits    bool
	}{
		"16 digits, bare":                  {plain, zone, signer.Bare, true},
		"19 digits, bare":                  {long, zone, signer.Bare, false},
		"19 digits, framed":                {long, zone, signer.Framed, true},
		"a supplied block":                 {withBlock, supplied, signer.Bare, true},
		"no block where it is supplied":    {plain, supplied, signer.Bare, false},
		"a block where it is made":         {withBlock, zone, signer.Bare, false},
		"auxiliary cards":                  {withAuxiliary, badged, "", true},
		"no auxiliary cards of co-badged":  {plain, badged, "", false},
		"auxiliary cards of a card of one": {withAuxiliary, zone, signer.Bare, false},
	} {
		err := tc.card.fits(tc.product, tc.layout)
		var refused *CardError
		if (err == nil) != tc.fits || (err != nil && (!errors.As(err, &refused) || refused.Reason != CardData)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
