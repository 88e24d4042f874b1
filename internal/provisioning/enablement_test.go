package provisioning

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
)

// The first rule that is for a card counts; what none is for is off, and so is all that
// nobody has set, unless that is said.
func TestFirstRuleThatIsForACardCounts(t *testing.T) {
	card := cardOf(t, "5204245250001488", "12/49", "John Appleseed")
	rule := func(product, from, to string, percentage int) EnablementRule {
		return EnablementRule{Product: product, BINFrom: from, BINTo: to, Percentage: percentage}
	}
	for name, tc := range map[string]struct {
		e    Enablement
		want bool
		any  bool
	}{
		"nobody has set it":                   {Enablement{}, false, false},
		"nobody has set it, where that is on": {Enablement{unlessSet: true}, true, true},
		"set to nothing, where unset is on":   {Enablement{Revision: 1, unlessSet: true}, false, false},
		"all":                                 {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "", "", 100)}}, true, true},
		"all, at nothing":                     {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "", "", 0)}}, false, false},
		"its product":                         {Enablement{Revision: 1, Rules: []EnablementRule{rule("mastercard", "", "", 100)}}, true, true},
		"another product":                     {Enablement{Revision: 1, Rules: []EnablementRule{rule("visa", "", "", 100)}}, false, true},
		"its BIN":                             {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "520424", "520424", 100)}}, true, true},
		"its BIN of eight digits":             {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "52042452", "52042452", 100)}}, true, true},
		"the last of a range":                 {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "510000", "520424", 100)}}, true, true},
		"behind the range":                    {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "510000", "520423", 100)}}, false, true},
		"before the range":                    {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "520425", "529999", 100)}}, false, true},
		"its BIN, another product":            {Enablement{Revision: 1, Rules: []EnablementRule{rule("visa", "520424", "520424", 100)}}, false, true},
		"taken out of all":                    {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "520424", "520424", 0), rule("", "", "", 100)}}, false, true},
		"taken out after all":                 {Enablement{Revision: 1, Rules: []EnablementRule{rule("", "", "", 100), rule("", "520424", "520424", 0)}}, true, true},
	} {
		err := tc.e.allows(card, make([]byte, 32))
		if (err == nil) != tc.want || err != nil && !errors.Is(err, ErrNotEnabled) || tc.e.Any() != tc.any {
			t.Errorf("%s: %v, any %v", name, err, tc.e.Any())
		}
	}
	all := Enablement{Revision: 1, Rules: []EnablementRule{rule("", "", "", 100)}}
	if all.allows(card, nil) == nil {
		t.Error("a card without a look-up value is in some share")
	}
}

// A card is in or out for good; one that is in at some percentage is in at each above; and of
// many cards about as many are in as the percentage says.
func TestPercentageIsStablePerCard(t *testing.T) {
	card := cardOf(t, "5204245250001488", "12/49", "John Appleseed")
	const cards = 10000
	in := make([]int, 101)
	for i := range cards {
		mac := hmac.New(sha256.New, []byte("card-index"))
		fmt.Fprint(mac, i)
		lookup, before := mac.Sum(nil), false
		for percentage := range 101 {
			e := Enablement{Revision: 1, Rules: []EnablementRule{{Percentage: percentage}}}
			enabled := e.allows(card, lookup) == nil
			if enabled != (e.allows(card, lookup) == nil) || before && !enabled {
				t.Fatalf("card %d at %d: %v, before %v", i, percentage, enabled, before)
			}
			if before = enabled; enabled {
				in[percentage]++
			}
		}
	}
	for percentage, n := range in {
		if off := n - percentage*cards/100; off < -250 || off > 250 { // five standard deviations at 50
			t.Errorf("at %d, %d of %d cards are in", percentage, n, cards)
		}
	}
	if in[0] != 0 || in[100] != cards {
		t.Errorf("at 0 %d are in, at 100 %d", in[0], in[100])
	}
}

func TestRulesThatMakeNoSenseAreRefused(t *testing.T) {
	products := map[string]Product{"gold": {}}
	for name, tc := range map[string]struct {
		rule EnablementRule
		ok   bool
	}{
		"all":                  {EnablementRule{Percentage: 100}, true},
		"product and range":    {EnablementRule{Product: "gold", BINFrom: "520424", BINTo: "520499", Percentage: 7}, true},
		"eight digits":         {EnablementRule{BINFrom: "52042400", BINTo: "52042499"}, true},
		"unknown product":      {EnablementRule{Product: "silver"}, false},
		"more than all":        {EnablementRule{Percentage: 101}, false},
		"less than none":       {EnablementRule{Percentage: -1}, false},
		"half a range":         {EnablementRule{BINFrom: "520424"}, false},
		"the other half":       {EnablementRule{BINTo: "520424"}, false},
		"six and eight digits": {EnablementRule{BINFrom: "520424", BINTo: "52042499"}, false},
		"seven digits":         {EnablementRule{BINFrom: "5204240", BINTo: "5204249"}, false},
		"upside down":          {EnablementRule{BINFrom: "520425", BINTo: "520424"}, false},
		"more than the prefix": {EnablementRule{BINFrom: "5204245250001488", BINTo: "5204245250001488"}, false},
		"no digits":            {EnablementRule{BINFrom: "52042x", BINTo: "52042x"}, false},
	} {
		err := Enablement{Tenant: "bank", Rules: []EnablementRule{tc.rule}}.check(products)
		var field *FieldError
		if (err == nil) != tc.ok || err != nil && !errors.As(err, &field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Enablement{Tenant: "bank", Rules: make([]EnablementRule, maxRules+1)}).check(products); err == nil {
		t.Error("too many rules are taken")
	}
	for _, tenant := range []string{"", "a\nb"} {
		if err := (Enablement{Tenant: tenant}).check(products); err == nil {
			t.Errorf("tenant %q is taken", tenant)
		}
	}
}
