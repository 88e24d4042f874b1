package merchant_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/merchant"
)

func sorted(all []string) []string { return slices.Sorted(slices.Values(all)) }

// payload is a merchant JWT's, with members changed: text of JSON by name, empty to leave it
// out.
func payload(changes ...string) string {
	members := map[string]string{
		"iss": `"merchants-a"`, "sub": `"shop-17"`, "usr": `"cashier"`, "aud": `"mint.example"`, "iat": "1795348800", "exp": "1795349700",
	}
	for i := 0; i < len(changes); i += 2 {
		members[changes[i]] = changes[i+1]
	}
	var all []string
	for name, text := range members {
		if text != "" {
			all = append(all, fmt.Sprintf("%q:%s", name, text))
		}
	}
	return "{" + strings.Join(sorted(all), ",") + "}"
}

func TestClaimsAreRead(t *testing.T) {
	yes, no := true, false
	leaf, next := string(fingerprint("leaf")), string(fingerprint("next"))
	base := merchant.Claims{
		Issuer: "merchants-a", Subject: "shop-17", User: "cashier", Audience: "mint.example",
		IssuedAt: time.Unix(1795348800, 0).UTC(), Expires: time.Unix(1795349700, 0).UTC(),
	}
	for name, tc := range map[string]struct {
		payload string
		change  func(*merchant.Claims)
	}{
		"the least": {payload(), func(*merchant.Claims) {}},
		"all": {payload("aud_fingerprints", `"`+leaf+`"`, "spCfg", `"p"`, "mbn", `"Zo\u00eb & S\u00f8n"`, "mcc", `"5411"`, "x-tid", `"1"`, "tpid", `"t"`, "refresh_token", "true"),
			func(c *merchant.Claims) {
				c.Fingerprints, c.SPConfig, c.BusinessName, c.CategoryCode = []merchant.Fingerprint{fingerprint("leaf")}, "p", "Zoë & Søn", "5411"
				c.TerminalID, c.ProviderID, c.RefreshToken = "1", "t", &yes
			}},
		"fingerprints, comma-separated": {payload("aud_fingerprints", `"`+leaf+","+next+`"`), func(c *merchant.Claims) {
			c.Fingerprints = []merchant.Fingerprint{fingerprint("leaf"), fingerprint("next")}
		}},
		"fingerprints with spaces between": {payload("aud_fingerprints", `" `+leaf+" , "+next+`"`), func(c *merchant.Claims) {
			c.Fingerprints = []merchant.Fingerprint{fingerprint("leaf"), fingerprint("next")}
		}},
		"fingerprints, an array": {payload("aud_fingerprints", `["`+leaf+`","`+next+`"]`), func(c *merchant.Claims) {
			c.Fingerprints = []merchant.Fingerprint{fingerprint("leaf"), fingerprint("next")}
		}},
		"aud, an array of one": {payload("aud", `["mint.example"]`), func(*merchant.Claims) {}},
		"null is absent": {payload("usr", "null", "aud_fingerprints", "null", "spCfg", "null", "mbn", "null", "mcc", "null", "x-tid", "null", "tpid", "null", "refresh_token", "null"),
			func(c *merchant.Claims) { c.User = "" }},
		"refresh_token is false":       {payload("refresh_token", "false"), func(c *merchant.Claims) { c.RefreshToken = &no }},
		"unknown claims are passed by": {payload("x-custom-claims", `{"a":[1,2]}`, "jti", "7", "nbf", `"x"`, "USR", "1", "Mbn", "1", "cnf", "{}"), func(*merchant.Claims) {}},
		"times with a fraction":        {payload("iat", "1795348800.999", "exp", "1.7953497e9"), func(*merchant.Claims) {}},
		"time zero":                    {payload("iat", "0", "exp", "0"), func(c *merchant.Claims) { c.IssuedAt, c.Expires = time.Unix(0, 0).UTC(), time.Unix(0, 0).UTC() }},
		"names that are absent":        {payload("sub", "", "usr", "", "iss", "", "aud", ""), func(c *merchant.Claims) { c.Subject, c.User, c.Issuer, c.Audience = "", "", "", "" }},
		"mcc that is no code yet":      {payload("mcc", `"54"`), func(c *merchant.Claims) { c.CategoryCode = "54" }},
		"the longest text":             {payload("mbn", `"`+strings.Repeat("a", 255)+`"`), func(c *merchant.Claims) { c.BusinessName = strings.Repeat("a", 255) }},
	} {
		t.Run(name, func(t *testing.T) {
			want := base
			tc.change(&want)
			got, err := merchant.ParseClaims([]byte(tc.payload))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClaimsOfAnotherTypeAreRefusedByName(t *testing.T) {
	type bad struct{ claim, problem, payload string }
	var all []bad
	for _, name := range []string{"iss", "sub", "usr", "aud", "spCfg", "mbn", "mcc", "x-tid", "tpid"} {
		for _, text := range []string{
			"1", "true", "{}", `""`, `"` + strings.Repeat("a", 256) + `"`, `"a\nb"`, `"a\u0000"`, `"\u202e"`, "[]", `["a","b"]`, `[1]`, `[""]`, `[["a"]]`,
		} {
			all = append(all, bad{name, "is not text of 1 to 255 printing characters", payload(name, text)})
		}
	}
	for _, name := range []string{"iat", "exp"} {
		for _, text := range []string{"", "null", `"1795348800"`, "-1", "1e13", "1e400", "true", "[]", "{}"} {
			all = append(all, bad{"iat", "or exp is no NumericDate", payload(name, text)})
		}
	}
	for _, text := range []string{"1", `"true"`, "[]", "{}"} {
		all = append(all, bad{"refresh_token", "is neither true nor false", payload("refresh_token", text)})
	}
	leaf := string(fingerprint("leaf"))
	for _, text := range []string{
		`""`, "[]", "1", "{}", "true", `"sha256/"`, `"` + leaf[7:] + `"`, `"` + leaf + `,"`, `",` + leaf + `"`, `"` + leaf + `;` + leaf + `"`, `["` + leaf + `",1]`, `["` + leaf + `",null]`,
		`["` + leaf + "," + leaf + `"]`, `[["` + leaf + `"]]`, `"SHA256` + leaf[6:] + `"`, `"sha512` + leaf[6:] + `"`, `"` + strings.Repeat(leaf+",", 16) + leaf + `"`,
	} {
		all = append(all, bad{"aud_fingerprints", "is no list of sha256/ and the Base64 of 32 bytes", payload("aud_fingerprints", text)})
	}
	for _, text := range []string{"", "null,", "[]", "1", `"x"`, "{", "{}{}", `{"a":1,"a":2}`, `{"iss":"\xff"}`, `{"iss":"a","iss":"a"}`, "\xff"} {
		all = append(all, bad{"set", "is no JSON object", text})
	}
	for _, b := range all {
		got, err := merchant.ParseClaims([]byte(b.payload))
		var claim *merchant.ClaimError
		if !errors.As(err, &claim) || *claim != (merchant.ClaimError{Claim: b.claim, Problem: b.problem}) {
			t.Errorf("%s gives %v", b.payload, err)
		}
		if diff := cmp.Diff(merchant.Claims{}, got); diff != "" {
			t.Errorf("%s gives claims: %s", b.payload, diff)
		}
	}
	if _, err := merchant.ParseClaims(nil); err == nil {
		t.Error("a caller without a token has claims")
	}
}

func TestFingerprintsHaveOneForm(t *testing.T) {
	good := string(fingerprint("leaf"))
	value := good[len("sha256/"):]
	if got, ok := merchant.ParseFingerprint(good); !ok || string(got) != good {
		t.Errorf("%q, %v", got, ok)
	}
	for name, text := range map[string]string{
		"empty": "", "no prefix": value, "the prefix alone": "sha256/", "the prefix in capitals": "SHA256/" + value, "another hash": "sha1/" + value, "pin-sha256": "pin-sha256=" + value,
		"hex": "sha256/" + strings.Repeat("ab", 32), "without padding": strings.TrimRight(good, "="), "padding twice": good + "=", "31 bytes": "sha256/" + strings.Repeat("A", 40) + "AA==",
		"33 bytes": "sha256/" + strings.Repeat("A", 44), "URL alphabet": "sha256/" + strings.Repeat("-_", 21) + "A=", "a line end in it": good[:20] + "\n" + good[20:], "a line end behind it": good + "\r\n",
		"a space before it": " " + good, "leftover bits": "sha256/" + strings.Repeat("A", 42) + "B=", "two": good + "," + good,
	} {
		if got, ok := merchant.ParseFingerprint(text); ok || got != "" {
			t.Errorf("%s: %q is taken as %q", name, text, got)
		}
	}
	for n, want := range map[int]bool{0: false, 1: true, 16: true, 17: false} {
		list := slices.Repeat([]string{good}, n)
		got, ok := merchant.ParseFingerprints(list)
		if ok != want || want && len(got) != n || !want && got != nil {
			t.Errorf("%d fingerprints: %d, %v", n, len(got), ok)
		}
		if split, ok := merchant.SplitFingerprints(strings.Join(list, ",")); ok != want || len(split) != len(got) {
			t.Errorf("%d fingerprints in one text: %d, %v", n, len(split), ok)
		}
	}
}

// Every documented claim is checked. Fingerprints may be absent only where the iOS claims
// stand for them.
func TestTokenIsCheckedClaimByClaim(t *testing.T) {
	own := fingerprint("leaf")
	with := func(f ...merchant.Fingerprint) func(*merchant.Claims) {
		return func(c *merchant.Claims) {
			c.Fingerprints, c.BusinessName, c.CategoryCode, c.TerminalID = f, "", "", ""
		}
	}
	missing := &merchant.ClaimError{Claim: "aud_fingerprints", Problem: "is missing, and the token lacks mbn, mcc or x-tid, with which it could be"}
	foreign := &merchant.ClaimError{Claim: "aud_fingerprints", Problem: "names none of this server's certificates"}
	for name, tc := range map[string]struct {
		change     func(*merchant.Claims)
		configured []merchant.Fingerprint
		want       *merchant.ClaimError
	}{
		"the iOS claims":                   {func(*merchant.Claims) {}, nil, nil},
		"the iOS claims, of three alone":   {func(c *merchant.Claims) { c.ProviderID, c.SPConfig = "", "" }, []merchant.Fingerprint{own}, nil},
		"our fingerprint":                  {with(own), []merchant.Fingerprint{own}, nil},
		"ours among others":                {with(fingerprint("x"), own), []merchant.Fingerprint{fingerprint("y"), own}, nil},
		"any, where none is configured":    {with(fingerprint("x")), nil, nil},
		"another's":                        {with(fingerprint("x")), []merchant.Fingerprint{own}, foreign},
		"another's, beside the iOS claims": {func(c *merchant.Claims) { c.Fingerprints = []merchant.Fingerprint{fingerprint("x")} }, []merchant.Fingerprint{own}, foreign},
		"none, and no iOS claims":          {with(), nil, missing},
		"none, without mbn":                {func(c *merchant.Claims) { c.BusinessName = "" }, []merchant.Fingerprint{own}, missing},
		"none, without mcc":                {func(c *merchant.Claims) { c.CategoryCode = "" }, nil, missing},
		"none, without x-tid":              {func(c *merchant.Claims) { c.TerminalID = "" }, nil, missing},
		"none, but tpid and refresh_token": {func(c *merchant.Claims) {
			c.RefreshToken, c.BusinessName, c.TerminalID, c.CategoryCode = new(bool), "", "", ""
		}, nil, missing},
		"no sub":                              {func(c *merchant.Claims) { c.Subject = "" }, nil, &merchant.ClaimError{Claim: "sub", Problem: "is missing"}},
		"no usr":                              {func(c *merchant.Claims) { c.User = "" }, nil, &merchant.ClaimError{Claim: "usr", Problem: "is missing"}},
		"mcc of five digits":                  {func(c *merchant.Claims) { c.CategoryCode = "54111" }, nil, &merchant.ClaimError{Claim: "mcc", Problem: "is not four digits"}},
		"mcc of letters":                      {func(c *merchant.Claims) { c.CategoryCode = "food" }, nil, &merchant.ClaimError{Claim: "mcc", Problem: "is not four digits"}},
		"mcc beside a fingerprint":            {func(c *merchant.Claims) { with(own)(c); c.CategoryCode = "54x1" }, nil, &merchant.ClaimError{Claim: "mcc", Problem: "is not four digits"}},
		"a terminal of no acquirer is no bar": {func(c *merchant.Claims) { c.TerminalID = "elsewhere" }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Fingerprints = tc.configured
			svc, err := merchant.New(merchant.Config{Recorder: untouchable{}, Gate: untouchable{}, Now: time.Now}, s)
			if err != nil {
				t.Fatal(err)
			}
			c := claims()
			tc.change(&c)
			err = svc.CheckToken(c)
			var claim *merchant.ClaimError
			switch {
			case tc.want == nil && err != nil:
				t.Error(err)
			case tc.want != nil && (!errors.As(err, &claim) || *claim != *tc.want):
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

func FuzzParseClaims(f *testing.F) {
	leaf := string(fingerprint("leaf"))
	f.Add([]byte(payload("aud_fingerprints", `"`+leaf+`"`, "mbn", `"m"`, "mcc", `"5411"`, "x-tid", `"1"`, "refresh_token", "true")))
	f.Add([]byte(payload("aud_fingerprints", `["`+leaf+`"]`, "aud", `["a"]`, "iat", "1.5", "usr", "null")))
	f.Add([]byte(`{"iat":1e3,"exp":-0}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := merchant.ParseClaims(b)
		if err != nil {
			var claim *merchant.ClaimError
			if !errors.As(err, &claim) || claim.Claim == "" {
				t.Fatalf("%q gives %v", b, err)
			}
			if diff := cmp.Diff(merchant.Claims{}, c); diff != "" {
				t.Fatalf("%q gives an error and claims: %s", b, diff)
			}
			return
		}
		// What was read is what an ordinary decoder reads.
		var members map[string]any
		if err := json.Unmarshal(b, &members); err != nil {
			t.Fatalf("%q is taken, and is no JSON: %v", b, err)
		}
		for name, text := range map[string]string{
			"iss": c.Issuer, "sub": c.Subject, "usr": c.User, "spCfg": c.SPConfig, "mbn": c.BusinessName, "mcc": c.CategoryCode, "x-tid": c.TerminalID, "tpid": c.ProviderID,
		} {
			if len(text) > 255 || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x00") {
				t.Fatalf("%s is %q", name, text)
			}
			if got := members[name]; text == "" && got != nil || text != "" && got != text {
				t.Fatalf("%s is %q, and %v in %q", name, text, got, b)
			}
		}
		if c.IssuedAt.Nanosecond() != 0 || c.Expires.Nanosecond() != 0 || c.IssuedAt.Unix() < 0 {
			t.Fatalf("times %v, %v", c.IssuedAt, c.Expires)
		}
		if c.Fingerprints != nil && (len(c.Fingerprints) == 0 || len(c.Fingerprints) > 16) {
			t.Fatalf("%d fingerprints", len(c.Fingerprints))
		}
	})
}

func FuzzSplitFingerprints(f *testing.F) {
	leaf := string(fingerprint("leaf"))
	for _, seed := range []string{"", leaf, leaf + "," + leaf, leaf + " ,\t" + leaf, "sha256/" + strings.Repeat("A", 43) + "=", leaf + "\n", ","} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, ok := merchant.SplitFingerprints(text)
		if !ok {
			if all != nil {
				t.Fatalf("%q is refused and gives %q", text, all)
			}
			return
		}
		parts := strings.Split(text, ",")
		if len(all) != len(parts) || len(all) > 16 {
			t.Fatalf("%q gives %d fingerprints", text, len(all))
		}
		for i, fp := range all {
			if again, ok := merchant.ParseFingerprint(string(fp)); !ok || again != fp || string(fp) != strings.TrimSpace(parts[i]) || len(fp) != len(leaf) {
				t.Fatalf("%q gives %q", parts[i], fp)
			}
		}
	})
}
