package provisioning

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a network may tell of a token, one thing after another: the last step is refused where
// it says so.
func TestTokenGoesThroughPossibleStatesAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		path    string // statuses, one after the other; an empty one is that of "-"
		refused bool
	}{
		"green":                           {"ACTIVE", false},
		"yellow, then activated":          {"INACTIVE ACTIVE", false},
		"told twice":                      {"INACTIVE INACTIVE ACTIVE ACTIVE", false},
		"suspended and back":              {"ACTIVE SUSPENDED ACTIVE SUSPENDED DEACTIVATED", false},
		"suspended before it was active":  {"INACTIVE SUSPENDED INACTIVE", false},
		"never activated":                 {"INACTIVE DEACTIVATED", false},
		"no status, then one":             {"- INACTIVE ACTIVE -", false},
		"of the network's own":            {"PENDING INACTIVE PENDING ACTIVE LOST ACTIVE", false},
		"deactivated, told twice":         {"ACTIVE DEACTIVATED DEACTIVATED", false},
		"inactive after active":           {"ACTIVE INACTIVE", true},
		"inactive after active, in a way": {"INACTIVE ACTIVE SUSPENDED INACTIVE", true},
		"inactive after all":              {"ACTIVE LOST INACTIVE", true},
		"active after deactivated":        {"DEACTIVATED ACTIVE", true},
		"suspended after deactivated":     {"ACTIVE DEACTIVATED SUSPENDED", true},
		"of the network's own, after it":  {"DEACTIVATED PENDING", true},
		"none after deactivated":          {"DEACTIVATED -", true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
			var token Token
			var activated time.Time
			steps := strings.Fields(tc.path)
			for i, status := range steps {
				now = now.Add(time.Minute)
				next, err := token.follow(Token{Status: TokenStatus(strings.Trim(status, "-"))}, now)
				if last := i == len(steps)-1; (err != nil) != (tc.refused && last) || (err != nil && !errors.Is(err, ErrTransition)) {
					t.Fatalf("step %d, %s after %q: %v", i, status, token.Status, err)
				}
				if err != nil {
					return
				}
				if status == "ACTIVE" && activated.IsZero() {
					activated = now
				}
				if next.Revision != int64(i+1) || !next.Changed.Equal(now) || !next.Activated.Equal(activated) {
					t.Fatalf("step %d: %+v", i, next)
				}
				token = next
			}
		})
	}
}

// A token stays its owner's, and its card's until it was active: what was decided for one
// card does not serve another.
func TestTokenKeepsOwnerAndCard(t *testing.T) {
	of := func(sub, card string, status TokenStatus) Token {
		return Token{Owner: Owner{"bank", "iss", sub}, ExternalCardID: card, Status: status}
	}
	for name, tc := range map[string]struct {
		all     []Token
		refused bool
	}{
		"same":                            {[]Token{of("a", "1", TokenInactive), of("a", "1", TokenActive)}, false},
		"card learnt later":               {[]Token{of("a", "", TokenInactive), of("a", "1", TokenInactive)}, false},
		"card replaced by the issuer":     {[]Token{of("a", "1", TokenActive), of("a", "2", TokenActive)}, false},
		"another owner":                   {[]Token{of("a", "1", TokenInactive), of("b", "1", TokenInactive)}, true},
		"another owner, active":           {[]Token{of("a", "1", TokenActive), of("b", "1", TokenActive)}, true},
		"another issuer":                  {[]Token{of("a", "1", TokenInactive), {Owner: Owner{"bank", "other", "a"}, ExternalCardID: "1"}}, true},
		"another card":                    {[]Token{of("a", "1", TokenInactive), of("a", "2", TokenInactive)}, true},
		"another card as it is activated": {[]Token{of("a", "1", TokenInactive), of("a", "2", TokenActive)}, true},
		"card forgotten, so as to be new": {[]Token{of("a", "1", TokenInactive), of("a", "", TokenInactive)}, true},
	} {
		var token Token
		var err error
		for _, next := range tc.all {
			if token, err = token.follow(next, time.Now()); err != nil {
				break
			}
		}
		if errors.Is(err, ErrTransition) != tc.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No field is kept that is malformed, or that is a card number.
func TestTokenHoldsNoCardNumber(t *testing.T) {
	good := func() Token {
		return Token{Owner: Owner{"bank", "iss", "sub"}, Reference: "DWSPMC000000000fcb2f4136b2f4136a0532d2f4136a0532", CardReference: "FWSPMC00", ExternalCardID: "card-1", Status: "ACTIVE", Path: "GREEN", Process: "x y", DeviceID: "d"}
	}
	if err := good().check(); err != nil {
		t.Fatal(err)
	}
	const pan = "5204245250001488"
	for name, change := range map[string]func(*Token){
		"tokenUniqueReference is missing":     func(t *Token) { t.Reference = "" },
		"tokenUniqueReference is too long":    func(t *Token) { t.Reference = strings.Repeat("a", 129) },
		"tokenUniqueReference has a blank":    func(t *Token) { t.Reference = "a b" },
		"tokenUniqueReference is a PAN":       func(t *Token) { t.Reference = pan },
		"panUniqueReference is a PAN":         func(t *Token) { t.CardReference = pan },
		"panUniqueReference is too long":      func(t *Token) { t.CardReference = strings.Repeat("a", 129) },
		"externalCardId is a PAN":             func(t *Token) { t.ExternalCardID = pan },
		"externalCardId holds a PAN":          func(t *Token) { t.ExternalCardID = "card-5204-2452-5000-1488" },
		"externalCardId has a slash":          func(t *Token) { t.ExternalCardID = "a/b" },
		"tokenStatus has a line end":          func(t *Token) { t.Status = "ACTIVE\n" },
		"authorizationPath is no UTF-8":       func(t *Token) { t.Path = "\xff" },
		"processStatus is a PAN":              func(t *Token) { t.Process = pan },
		"deviceId is a PAN":                   func(t *Token) { t.DeviceID = pan },
		"owner has no iss":                    func(t *Token) { t.Issuer = "" },
		"owner has a sub with a control code": func(t *Token) { t.Subject = "a\x00" },
	} {
		token := good()
		change(&token)
		var field *FieldError
		if err := token.check(); !errors.As(err, &field) || field.Member != strings.Fields(name)[0] || strings.Contains(err.Error(), pan) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneTokenOfEachCard(t *testing.T) {
	of := func(reference, card string, status TokenStatus) Token {
		return Token{Reference: reference, ExternalCardID: card, Status: status}
	}
	for name, tc := range map[string]struct {
		in   []Token
		want []string
	}{
		"none":                            {nil, nil},
		"phone and watch":                 {[]Token{of("phone", "1", TokenActive), of("watch", "1", TokenInactive)}, []string{"watch"}},
		"the other way round":             {[]Token{of("phone", "1", TokenInactive), of("watch", "1", TokenActive)}, []string{"phone"}},
		"active before gone":              {[]Token{of("phone", "1", TokenDeactivated), of("watch", "1", TokenActive)}, []string{"watch"}},
		"alike: the first":                {[]Token{of("phone", "1", TokenActive), of("watch", "1", TokenActive)}, []string{"phone"}},
		"of no known card: all":           {[]Token{of("a", "", TokenActive), of("b", "", TokenActive)}, []string{"a", "b"}},
		"in the order of the first":       {[]Token{of("a", "1", TokenActive), of("b", "2", TokenActive), of("c", "1", TokenInactive)}, []string{"c", "b"}},
		"of the network's own, and known": {[]Token{of("a", "1", "PENDING"), of("b", "1", "INACTIVE")}, []string{"b"}},
	} {
		var got []string
		for _, t := range onePerCard(tc.in) {
			got = append(got, t.Reference)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
