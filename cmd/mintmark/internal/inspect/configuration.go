package inspect

import (
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// known are the members that are none of a network's own.
var known = []string{
	"auxiliaryCards", "encryptedPrimaryAccountNumber", "expiration", "name", "networkName", "nonce", "nonceSignature",
	"primaryAccountNumber", "primaryAccountNumberPrefix", "productType", "version",
}

// configuration tells by its members which configuration a payload is of, and what of that
// is missing or too much. Of configuration 2 there is no public sample: that it has the
// members of configuration 1 and what the network supplies besides is [C].
func (r *report) configuration(members map[string]string, coBadged bool) {
	_, clearPAN := members["primaryAccountNumber"]
	_, encrypted := members["encryptedPrimaryAccountNumber"]
	own := slices.Sorted(maps.Keys(members))
	own = slices.DeleteFunc(own, func(name string) bool { return slices.Contains(known, name) })
	product := members["productType"]
	of := "configuration 1"
	switch {
	case clearPAN == encrypted:
		r.wrong("payload", "Configurations 1 and 2 have the one, configuration 3 the other.", "it has both primaryAccountNumber and encryptedPrimaryAccountNumber, or neither")
		return
	case encrypted:
		of = "configuration 3"
		r.need(members, of, "name", "nonce", "nonceSignature", "productType")
		r.absent(members, of, "expiration")
		r.block(members["encryptedPrimaryAccountNumber"])
		r.network(members, coBadged)
	case len(own) != 0:
		of = "configuration 2"
		r.need(members, of, own...)
		if product != "DEFAULT_AMEX" && product != "DISCOVER" || coBadged {
			r.wrong("payload", "Only American Express and Discover have configuration 2; leave out what is not in the guide's table.", "a member of the network's own (%s) for a product without configuration 2", strings.Join(own, ", "))
		}
	}
	if clearPAN {
		r.need(members, of, "expiration", "name", "nonce", "nonceSignature", "productType")
		r.absent(members, of, "networkName", "primaryAccountNumberPrefix")
	}
	if encrypted && len(own) != 0 {
		r.wrong("payload", "Leave out what is not in the guide's table.", "a member that configuration 3 does not have: %s", strings.Join(own, ", "))
	}
	if coBadged && (strings.HasPrefix(product, "DEFAULT_") || product == "DISCOVER") {
		r.wrong("payload", "Co-badged cards have the productType that Apple gave for the pair of networks.", "auxiliaryCards under the productType of one network")
	}
}

// network looks at what configuration 3 says of the network.
func (r *report) network(members map[string]string, coBadged bool) {
	const of = "configuration 3"
	if coBadged {
		r.absent(members, "configuration 3 with auxiliaryCards", "networkName", "primaryAccountNumberPrefix")
		return
	}
	r.need(members, of, "networkName")
	switch product := members["productType"]; {
	case strings.HasPrefix(product, "DEFAULT_"):
		r.need(members, of, "primaryAccountNumberPrefix")
	case strings.Contains(product, ":A0000000032010"): // Visa Electron and V Pay
		r.absent(members, of+" for Visa Electron and V Pay", "primaryAccountNumberPrefix")
	}
	prefix, ok := members["primaryAccountNumberPrefix"]
	if ok && (len(prefix) != 6 && len(prefix) != 8 || strings.Trim(prefix, "0123456789") != "") {
		r.wrong("payload", "It is the first 6 or 8 digits of the card's number.", "primaryAccountNumberPrefix is not 6 or 8 digits")
	}
}

// auxiliary looks at the second network's cards: an array of objects of three members each.
func (r *report) auxiliary(value jsontext.Value) {
	var cards []map[string]jsontext.Value
	if json.Unmarshal(value, &cards) != nil {
		r.wrong("payload", "Make it an array of objects.", "auxiliaryCards is no array of objects")
		return
	}
	if len(cards) == 0 {
		r.wrong("payload", "Put the second network's card in, or leave the member out.", "auxiliaryCards is empty")
	}
	for _, card := range cards {
		members := map[string]string{}
		for name, v := range card {
			var text string
			switch {
			case !slices.Contains([]string{"expiration", "name", "primaryAccountNumber"}, name):
				r.wrong("payload", "An auxiliary card has expiration, name and primaryAccountNumber.", "%s in auxiliaryCards", name)
			case json.Unmarshal(v, &text) != nil:
				r.wrong("payload", "Quote it: numbers of cards are strings too.", "%s in auxiliaryCards is no string", name)
			default:
				members[name] = text
			}
		}
		r.need(members, "an auxiliary card", "expiration", "name", "primaryAccountNumber")
		if e, ok := members["expiration"]; ok && !monthYear.MatchString(e) {
			r.wrong("payload", "Write it as MM/YY.", "expiration in auxiliaryCards is not MM/YY")
		}
	}
}
