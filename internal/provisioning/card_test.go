package provisioning

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/secret"
)

// cardOf is a card that is in order, or is changed until it is not.
func cardOf(t testing.TB, pan, expiration, name string) Card {
	t.Helper()
	p, err := secret.ParsePAN([]byte(pan))
	if err != nil {
		t.Fatal(err)
	}
	return Card{PAN: p, Expiration: secret.NewText(expiration), Name: secret.NewText(name), Product: "mastercard"}
}

func reveal(x interface{ Reveal(func([]byte)) }) string {
	var s string
	x.Reveal(func(b []byte) { s = string(b) })
	return s
}

func TestCardDataKeepToTheFieldRules(t *testing.T) {
	const pan, expiration, name = "5204245250001488", "12/49", "John Appleseed"
	for title, tc := range map[string]struct {
		card Card
		says string // empty: in order
	}{
		"in order":                      {cardOf(t, pan, expiration, name), ""},
		"name of one letter":            {cardOf(t, pan, expiration, "X"), ""},
		"name of 80 bytes":              {cardOf(t, pan, expiration, strings.Repeat("é", 40)), ""},
		"name of many scripts":          {cardOf(t, pan, expiration, `Zoë "Q" O'Brien-Łukasz 山田/太郎 👩‍💻`), ""},
		"January":                       {cardOf(t, pan, "01/00", name), ""},
		"no PAN":                        {Card{Expiration: secret.NewText(expiration), Name: secret.NewText(name), Product: "mastercard"}, "primaryAccountNumber is missing"},
		"no expiration":                 {Card{PAN: cardOf(t, pan, expiration, name).PAN, Name: secret.NewText(name), Product: "mastercard"}, "expiration is not MM/YY"},
		"month 0":                       {cardOf(t, pan, "00/49", name), "expiration is not MM/YY"},
		"month 13":                      {cardOf(t, pan, "13/49", name), "expiration is not MM/YY"},
		"MMYY":                          {cardOf(t, pan, "1249", name), "expiration is not MM/YY"},
		"MM-YY":                         {cardOf(t, pan, "12-49", name), "expiration is not MM/YY"},
		"M/YY":                          {cardOf(t, pan, "1/49", name), "expiration is not MM/YY"},
		"MM/YYYY":                       {cardOf(t, pan, "12/2049", name), "expiration is not MM/YY"},
		"letters for digits":            {cardOf(t, pan, "1a/49", name), "expiration is not MM/YY"},
		"a sign for a digit":            {cardOf(t, pan, "12/-9", name), "expiration is not MM/YY"},
		"digits of another script":      {cardOf(t, pan, "१/49", name), "expiration is not MM/YY"},
		"no name":                       {cardOf(t, pan, expiration, ""), "name must be"},
		"blank name":                    {cardOf(t, pan, expiration, " \u00a0 "), "name must be"},
		"name of 81 bytes":              {cardOf(t, pan, expiration, strings.Repeat("x", 81)), "name must be"},
		"name of 41 letters, 82 bytes":  {cardOf(t, pan, expiration, strings.Repeat("é", 41)), "name must be"},
		"name with a new line":          {cardOf(t, pan, expiration, "John\nAppleseed"), "name must be"},
		"name with NUL":                 {cardOf(t, pan, expiration, "John\x00"), "name must be"},
		"name with DEL":                 {cardOf(t, pan, expiration, "John\x7f"), "name must be"},
		"name with a C1 control":        {cardOf(t, pan, expiration, "John\u0085Appleseed"), "name must be"},
		"name that is not UTF-8":        {cardOf(t, pan, expiration, "Zo\xeb"), "name must be"},
		"name cut in mid-letter":        {cardOf(t, pan, expiration, "Zo\xc3"), "name must be"},
		"two things wrong: both said 1": {Card{PAN: cardOf(t, pan, expiration, name).PAN, Expiration: secret.NewText("x"), Name: secret.NewText("")}, "expiration is not MM/YY"},
		"two things wrong: both said 2": {Card{PAN: cardOf(t, pan, expiration, name).PAN, Expiration: secret.NewText("x"), Name: secret.NewText("")}, "name must be"},
	} {
		t.Run(title, func(t *testing.T) {
			err := tc.card.check()
			if tc.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrCardData) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("error is %v, want %q", err, tc.says)
			}
			if n := reveal(tc.card.Name); len(n) > 4 && strings.Contains(err.Error(), n) {
				t.Errorf("error %q shows the name", err)
			}
		})
	}
}

func TestCardIsGoodToTheLastMomentOfItsMonth(t *testing.T) {
	for _, tc := range []struct {
		expiration, now string
		expired         bool
	}{
		{"11/26", "2026-10-31T23:59:59.999Z", false},
		{"11/26", "2026-11-01T00:00:00Z", false},
		{"11/26", "2026-11-30T23:59:59.999999999Z", false},
		{"11/26", "2026-12-01T00:00:00Z", true},
		{"11/26", "2036-11-01T00:00:00Z", true},
		{"12/26", "2026-12-31T23:59:59Z", false}, // the year turns
		{"12/26", "2027-01-01T00:00:00Z", true},
		{"02/28", "2028-02-29T23:59:59Z", false}, // a leap year
		{"02/28", "2028-03-01T00:00:00Z", true},
		{"02/27", "2027-02-28T23:59:59Z", false},
		{"02/27", "2027-03-01T00:00:00Z", true},
		{"11/26", "2026-12-01T00:30:00+01:00", false}, // it is UTC that counts
		{"11/26", "2026-11-30T23:30:00-01:00", true},
		{"12/99", "2099-12-31T23:59:59Z", false},
		{"01/00", "2026-11-22T00:00:00Z", true},
		{"", "2026-11-22T00:00:00Z", true}, // what cannot be read is past
		{"13/99", "2026-11-22T00:00:00Z", true},
	} {
		c := Card{Expiration: secret.NewText(tc.expiration)}
		if got := c.expired(at(tc.now)()); got != tc.expired {
			t.Errorf("%s at %s: expired is %v", tc.expiration, tc.now, got)
		}
	}
}

func TestCardComesBackFromTheVaultAsItWentIn(t *testing.T) {
	for _, name := range []string{"John Appleseed", `Zoë "Quote" \ O'Brien/Łukasz`, "山田 太郎", "<&>\u2028", "👩‍💻"} {
		c := cardOf(t, "6759649826438453", "01/47", name)
		b, err := c.marshal("card-1")
		if err != nil {
			t.Fatal(err)
		}
		got, id, err := unmarshalStored(b)
		if err != nil || id != "card-1" {
			t.Fatal(id, err)
		}
		if reveal(got.PAN) != "6759649826438453" || reveal(got.Expiration) != "01/47" || reveal(got.Name) != name || got.Product != "mastercard" {
			t.Errorf("%q came back as %q, %q, %q, %q", name, reveal(got.PAN), reveal(got.Expiration), reveal(got.Name), got.Product)
		}
	}
}

func TestCardThatIsNotWhatWeSealedIsRefusedWithoutAWordOfIt(t *testing.T) {
	const good = `{"primaryAccountNumber":"5204245250001488","expiration":"12/49","name":"John Appleseed","product":"mastercard"}`
	if _, err := unmarshalCard([]byte(good)); err != nil {
		t.Fatal(err)
	}
	change := func(old, by string) string { return strings.Replace(good, old, by, 1) }
	for name, text := range map[string]string{
		"nothing":              "",
		"empty object":         "{}",
		"an array":             "[" + good + "]",
		"two values":           good + good,
		"cut short":            good[:len(good)-1],
		"unknown member":       change(`{`, `{"cvv":"123",`),
		"member twice":         change(`{`, `{"name":"Jane",`),
		"number as a number":   change(`"5204245250001488"`, `5204245250001488`),
		"number is null":       change(`"5204245250001488"`, `null`),
		"wrong check digit":    change(`1488`, `1489`),
		"another case":         change(`"name"`, `"Name"`),
		"expiration malformed": change(`12/49`, `12-49`),
		"no name":              change(`John Appleseed`, ``),
		"name not UTF-8":       change(`John`, "Jo\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := unmarshalCard([]byte(text))
			if !errors.Is(err, ErrCardData) {
				t.Errorf("error is %v", err)
			}
			if reveal(c.PAN) != "" || reveal(c.Name) != "" || reveal(c.Expiration) != "" {
				t.Error("it gives a card all the same")
			}
			for _, canary := range []string{"520424", "1488", "1489", "Appleseed", "12/49", "12-49", "Jo"} {
				if err != nil && strings.Contains(err.Error(), canary) {
					t.Errorf("error %q shows %s", err, canary)
				}
			}
		})
	}
}

func TestWipedCardIsEmptyInEveryCopy(t *testing.T) {
	c := cardOf(t, "5204245250001488", "12/49", "John Appleseed")
	copied, expiry := c, c.mmyy()
	if got := reveal(expiry); got != "1249" {
		t.Errorf("networks sign the expiry as %q", got)
	}
	c.Wipe()
	if reveal(copied.PAN)+reveal(copied.Expiration)+reveal(copied.Name) != "" {
		t.Error("a copy still has the data")
	}
	if got := reveal(expiry); got != "1249" {
		t.Errorf("the expiry for the network went with it: %q", got)
	}
}

func TestExternalCardIDIsAnIdentifier(t *testing.T) {
	for id, ok := range map[string]bool{
		"1": true, "card-1": true, "A.b_c:d@e-f": true, strings.Repeat("x", 128): true,
		"": false, strings.Repeat("x", 129): false, "-card": false, ".": false, "a b": false, "a/b": false, "a\n": false, "\na": false,
		"é": false, "a\x00": false, "a'b": false,
	} {
		err := checkExternalCardID(id)
		var field *FieldError
		if ok != (err == nil) || (!ok && (!errors.As(err, &field) || field.Member != "externalCardId")) {
			t.Errorf("%q: %v", id, err)
		}
		if len(id) > 3 && err != nil && strings.Contains(err.Error(), id) {
			t.Errorf("error %q shows the input", err)
		}
	}
}

func TestMomentOfExpiryIsNotTheCallersZone(t *testing.T) {
	c := Card{Expiration: secret.NewText("11/26")}
	last := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).Add(-1)
	for _, hours := range []int{-12, 0, 14} {
		zone := time.FixedZone("", hours*3600)
		if c.expired(last.In(zone)) || !c.expired(last.Add(1).In(zone)) {
			t.Errorf("%+d hours: another moment", hours)
		}
	}
}
