package provisioning

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mintmark/mintmark/signer"
)

// Network is the payment network of a card product.
type Network string

// The networks of the guide's 5.6.
const (
	Mastercard   Network = "mastercard"
	Maestro      Network = "maestro"
	Visa         Network = "visa"
	VisaElectron Network = "visa-electron"
	VPay         Network = "v-pay"
	Amex         Network = "amex"
	Discover     Network = "discover"
)

// A Product says which payload the cards of one kind get, and which activation data. Card
// data carry its name.
type Product struct {
	Name    string
	Network Network
	// CoBadged says that the cards are of a second network too, whose data stand in
	// auxiliaryCards.
	CoBadged      bool
	Configuration int    // 1, 2 or 3
	ProductType   string // empty for the one there is; co-badged products have it from Apple
	// Activation is ActivationTAV, ActivationVisa, or the name of a configured scheme.
	Activation string
	// EncryptedPAN says, for configuration 3, where the encrypted PAN comes from.
	EncryptedPAN EncryptedPAN
	// PrefixLength is how many digits primaryAccountNumberPrefix has: 6, or 8.
	PrefixLength int
	// Extra are further members of the payload that the network has supplied, for
	// configuration 2, of which no public example exists.
	Extra map[string]string
	// Title is what wallets call its cards; empty for the network's name.
	Title string
	// Test says that its cards are test cards, of which a Tracer may show everything.
	Test bool
}

// The activation data that are no configured scheme's.
const (
	ActivationTAV  = "tav"
	ActivationVisa = "visa"
)

// EncryptedPAN says where an encrypted PAN comes from.
type EncryptedPAN string

// The sources.
const (
	FromZoneKey  EncryptedPAN = "zone"     // made in the token, by the visa-zone key
	FromCardData EncryptedPAN = "supplied" // made by the network, and part of the card data
)

// DefaultProducts are what a configuration without products has.
func DefaultProducts() []Product {
	return []Product{{Name: "mastercard", Network: Mastercard, Configuration: 1, Activation: ActivationTAV}}
}

// A row is one line of the guide's 5.5 and 5.6: which members a payload has.
type row struct {
	network  Network
	coBadged bool
	config   int

	types       []string // the productTypes; nil where Apple gives it
	clear       bool     // primaryAccountNumber and expiration, in place of the encrypted PAN
	networkName string
	prefix      bool // primaryAccountNumberPrefix
}

// rows is the table of payloads, version 1. Visa Electron's and V Pay's samples have no
// prefix, and those of co-badged cards neither networkName nor prefix. That Maestro has the
// networkName of Mastercard, with whom it shares the samples, is [C]. Of configuration 2
// there is no sample: it has the members of configuration 1 and what the network supplies
// besides [C].
var rows = func() []row {
	mastercard, electron := []string{"DEFAULT_MASTERCARD"}, []string{"01:NN:A0000000032010", "01:NY:A0000000032010", "01:YY:A0000000032010"}
	return []row{
		{network: Mastercard, config: 1, types: mastercard, clear: true},
		{network: Mastercard, config: 3, types: mastercard, networkName: "Mastercard", prefix: true},
		{network: Maestro, config: 1, types: mastercard, clear: true},
		{network: Maestro, config: 3, types: mastercard, networkName: "Mastercard", prefix: true},
		{network: Visa, config: 3, types: []string{"DEFAULT_VISA"}, networkName: "Visa", prefix: true},
		{network: VisaElectron, config: 3, types: electron, networkName: "Visa"},
		{network: VPay, config: 3, types: electron, networkName: "Visa"},
		{network: Amex, config: 1, types: []string{"DEFAULT_AMEX"}, clear: true},
		{network: Amex, config: 2, types: []string{"DEFAULT_AMEX"}, clear: true},
		{network: Discover, config: 1, types: []string{"DISCOVER"}, clear: true},
		{network: Discover, config: 2, types: []string{"DISCOVER"}, clear: true},
		{network: Mastercard, coBadged: true, config: 1, clear: true},
		{network: Visa, coBadged: true, config: 3},
	}
}()

var (
	productName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	appleType   = regexp.MustCompile(`^[A-Za-z0-9_:.-]{1,64}$`)
	memberName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,63}$`)
)

// titles are the networks' names as cardholders know them.
var titles = map[Network]string{
	Mastercard: "Mastercard", Maestro: "Maestro", Visa: "Visa", VisaElectron: "Visa Electron", VPay: "V Pay",
	Amex: "American Express", Discover: "Discover",
}

// maxTitle bounds a product's title in bytes; a wallet shows one line.
const maxTitle = 80

// withDefaults fills in what has one sensible value.
func (p Product) withDefaults() Product {
	if r, ok := p.row(); ok {
		if p.ProductType == "" && len(r.types) == 1 {
			p.ProductType = r.types[0]
		}
		if p.EncryptedPAN == "" && !r.clear {
			p.EncryptedPAN = FromZoneKey
			if p.Network == Mastercard || p.Network == Maestro {
				p.EncryptedPAN = FromCardData
			}
		}
	}
	if p.Title == "" {
		p.Title = titles[p.Network]
	}
	if p.PrefixLength == 0 {
		p.PrefixLength = 6
	}
	return p
}

func (p Product) row() (row, bool) {
	i := slices.IndexFunc(rows, func(r row) bool {
		return r.network == p.Network && r.coBadged == p.CoBadged && r.config == p.Configuration
	})
	if i < 0 {
		return row{}, false
	}
	return rows[i], true
}

// NeedsZoneKey reports whether cards of the product need the visa-zone key.
func (p Product) NeedsZoneKey() bool {
	p = p.withDefaults()
	return p.EncryptedPAN == FromZoneKey || p.Activation == ActivationVisa
}

// Check reports everything that is wrong with the product. schemes are the configured ones.
func (p Product) Check(schemes map[string]signer.Scheme) error {
	p = p.withDefaults()
	var wrong []error
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	if !productName.MatchString(p.Name) {
		say("name must be 1 to 64 characters of a-z, 0-9, '.', '_', '-'")
	}
	r, ok := p.row()
	switch {
	case p.Configuration == 0:
		say("configuration is missing")
	case !ok:
		say("configuration %d is not one that %s cards may have (co-badged: %t)", p.Configuration, p.Network, p.CoBadged)
	case r.types == nil && !appleType.MatchString(p.ProductType):
		say("productType is missing: Apple gives it for a co-badged product")
	case r.types != nil && !slices.Contains(r.types, p.ProductType):
		say("productType %q is none of %v", p.ProductType, r.types)
	case r.clear && p.EncryptedPAN != "":
		say("encryptedPAN is for configuration 3")
	case !r.clear && p.EncryptedPAN != FromZoneKey && p.EncryptedPAN != FromCardData:
		say("encryptedPAN must be zone or supplied")
	}
	if p.PrefixLength != 6 && p.PrefixLength != 8 {
		say("prefixLength must be 6 or 8")
	}
	if len(p.Title) > maxTitle || !utf8.ValidString(p.Title) || strings.ContainsFunc(p.Title, unicode.IsControl) {
		say("title must be up to %d bytes without control characters", maxTitle)
	}
	if len(p.Extra) > 0 && p.Configuration != 2 {
		say("extra is for configuration 2")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Extra)) {
		if !memberName.MatchString(name) || slices.Contains(ownMembers, name) {
			say("extra.%s is a member that the payload has already, or no name of one", name)
		}
	}
	if err := p.checkActivation(schemes); err != nil {
		say("%w", err)
	}
	return errors.Join(wrong...)
}

func (p Product) checkActivation(schemes map[string]signer.Scheme) error {
	switch p.Activation {
	case "":
		return errors.New("activation is missing")
	case ActivationTAV:
		if p.Network != Mastercard && p.Network != Maestro {
			return fmt.Errorf("activation tav is Mastercard's, and the network is %s", p.Network)
		}
	case ActivationVisa:
		if p.Network != Visa && p.Network != VisaElectron && p.Network != VPay {
			return fmt.Errorf("activation visa is Visa's, and the network is %s", p.Network)
		}
	default:
		if _, ok := schemes[p.Activation]; !ok {
			return fmt.Errorf("activation %q is neither tav nor visa nor a configured scheme", p.Activation)
		}
	}
	return nil
}
