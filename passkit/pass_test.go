package passkit_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/passkit"
)

// everything has each member of pass.json once, in the order in which it is written.
const everything = `{"formatVersion":1,"passTypeIdentifier":"pass.com.example.card","serialNumber":"1","teamIdentifier":"ABCDE12345",` +
	`"organizationName":"Example","description":"Example","webServiceURL":"https://example.com/passes","authenticationToken":"0123456789abcdef",` +
	`"eventTicket":{"headerFields":[{"key":"h","label":"H","value":"x","attributedValue":"<a href='https://example.com'>x</a>","changeMessage":"Now %@",` +
	`"textAlignment":"PKTextAlignmentRight","semantics":{"eventName":"x"}}],"primaryFields":[{"key":"p","value":12.50,"currencyCode":"EUR"}],` +
	`"secondaryFields":[{"key":"n","value":1e3,"numberStyle":"PKNumberStyleSpellOut"}],"auxiliaryFields":[{"key":"a","value":"2030-01-31T19:30+01:00",` +
	`"dateStyle":"PKDateStyleShort","timeStyle":"PKDateStyleNone","isRelative":true,"ignoresTimeZone":false,"row":1}],` +
	`"backFields":[{"key":"b","value":"x","dataDetectorTypes":[]}],"additionalInfoFields":[{"key":"i","value":""}]},` +
	`"barcodes":[{"format":"PKBarcodeFormatQR","message":"1","messageEncoding":"iso-8859-1","altText":"1"}],` +
	`"expirationDate":"2031-01-31T00:00:00Z","voided":false,"relevantDates":[{"startDate":"2030-01-31T18:00:00Z","endDate":"2030-01-31T23:00:00Z"}],` +
	`"locations":[{"latitude":0,"longitude":-122.3748889,"altitude":10,"relevantText":"x"}],"maxDistance":100,` +
	`"beacons":[{"proximityUUID":"2F234454-CF6D-4A0F-ADF2-F4911BA9FFA6","major":0,"minor":65535,"relevantText":"x"}],` +
	`"logoText":"Example","backgroundColor":"rgb(1,2,3)","suppressStripShine":true,"preferredStyleSchemes":["eventTicket"],"groupingIdentifier":"g",` +
	`"sharingProhibited":true,"associatedStoreIdentifiers":[375380948],"appLaunchURL":"example:1",` +
	`"featuredActions":[{"identifier":"1","type":"shop","url":"https://example.com"}],"bagPolicyURL":"https://example.com/bags",` +
	`"semantics":{"eventName":"x","seats":[{"seatNumber":"1"}]},"userInfo":[1,null,{"b":1,"a":2}]}`

func TestAPassIsWrittenAsItWasRead(t *testing.T) {
	p, found, err := passkit.Parse([]byte(everything))
	if err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
	out, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everything, string(out)); diff != "" {
		t.Error(diff)
	}
	if found := p.Validate(); len(found) > 0 {
		t.Errorf("a pass with every member: %v", found)
	}
}

func TestUnknownMembersAreKeptWithAWarning(t *testing.T) {
	text := strings.NewReplacer(
		`{"formatVersion":1,`, `{"zNew":1,"aNew":{"b":[1.0,null]},"formatVersion":1,`,
		`"key":"p",`, `"key":"p","odd":true,`,
		`"altText":"1"`, `"altText":"1","more":"x"`,
		`"eventTicket":{`, `"eventTicket":{"rows":3,`,
	).Replace(everything)
	p, found, err := passkit.Parse([]byte(text))
	if err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
	found = p.Validate()
	for _, place := range []string{
		"pass.json/zNew", "pass.json/aNew", "pass.json/eventTicket/primaryFields/0/odd", "pass.json/barcodes/0/more", "pass.json/eventTicket/rows",
	} {
		if at := about(found, place); len(at) != 1 || at[0].Severity != passkit.Warning {
			t.Errorf("%s: %v", place, at)
		}
	}
	if len(found) != 5 {
		t.Errorf("findings beside those: %v", found)
	}
	out, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{`"aNew":{"b":[1.0,null]},"zNew":1}`, `"odd":true`, `"more":"x"`, `"rows":3`} {
		if !bytes.Contains(out, []byte(kept)) {
			t.Errorf("%s is lost in %s", kept, out)
		}
	}
}

func TestWhatIsNotStrictJSONIsRefused(t *testing.T) {
	for _, c := range []struct{ name, text, place, message string }{
		{"nothing", ``, "pass.json", "not JSON"},
		{"null", `null`, "pass.json", "not a JSON object"},
		{"an array", `[]`, "pass.json", "wrong type"},
		{"a member twice", `{"description":"a","description":"b"}`, "pass.json/description", "stands twice"},
		{"an unknown member twice", `{"x":1,"x":2}`, "pass.json/x", "stands twice"},
		{"a member twice inside", `{"nfc":{"message":"a","message":"b"}}`, "pass.json/nfc/message", "stands twice"},
		{"something after it", `{} {}`, "pass.json", "not JSON"},
		{"cut off", `{"nfc":{"message":`, "pass.json/nfc/message", "not JSON"},
		{"not UTF-8", "{\"description\":\"\xff\"}", "pass.json/description", "not JSON"},
		{"too large", `{"description":"` + strings.Repeat("x", 1<<20) + `"}`, "pass.json", "1 MiB"},
	} {
		p, found, err := passkit.Parse([]byte(c.text))
		if p != nil || !errors.Is(err, passkit.ErrDocument) {
			t.Errorf("%s: accepted: %v", c.name, err)
			continue
		}
		at := about(found, c.place)
		if len(at) != 1 || !strings.Contains(at[0].Message, c.message) {
			t.Errorf("%s: %v, want %q at %s", c.name, found, c.message, c.place)
		}
		complete(t, found)
	}
}

func TestAllMembersOfTheWrongTypeAreNamed(t *testing.T) {
	p, found, err := passkit.Parse([]byte(`{
		"formatVersion": "1",
		"description": 7,
		"voided": "false",
		"maxDistance": "100",
		"locations": {"latitude": 1},
		"beacons": [{"major": 65536}],
		"generic": {"backFields": [{"key": "a", "value": true}, {"key": "b", "value": {}}]},
		"nfc": []
	}`))
	if p != nil || !errors.Is(err, passkit.ErrDocument) {
		t.Fatal(p, err)
	}
	for place, remedy := range map[string]string{
		"pass.json/formatVersion":              "a number",
		"pass.json/description":                "a text",
		"pass.json/voided":                     "true or false",
		"pass.json/maxDistance":                "a number",
		"pass.json/locations":                  "an array",
		"pass.json/beacons/0/major":            "from 0 to 65535",
		"pass.json/generic/backFields/0/value": "a text or a number",
		"pass.json/generic/backFields/1/value": "a text or a number",
		"pass.json/nfc":                        "an object",
	} {
		if at := about(found, place); len(at) != 1 || !strings.Contains(at[0].Remedy, remedy) {
			t.Errorf("%s: %v, want %q", place, at, remedy)
		}
	}
	if len(found) != 9 {
		t.Errorf("%d findings: %v", len(found), found)
	}
}

func TestNullCountsAsAbsentWithAWarning(t *testing.T) {
	p, found, err := passkit.Parse([]byte(`{"logoText":null,"generic":{"primaryFields":[{"key":"a","value":null}]},"nfc":null,"userInfo":{"x":null},"new":null}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"pass.json/logoText", "pass.json/generic/primaryFields/0/value", "pass.json/nfc"} {
		if at := about(found, place); len(at) != 1 || at[0].Severity != passkit.Warning {
			t.Errorf("%s: %v", place, at)
		}
	}
	if len(found) != 3 { // the others are kept
		t.Errorf("findings %v", found)
	}
	if at := about(p.Validate(), "pass.json/generic/primaryFields/0/value"); len(at) != 1 {
		t.Errorf("a null value is not missing: %v", at)
	}
}

func TestAFindingNeverShowsALongOrUnprintableName(t *testing.T) {
	_, found, err := passkit.Parse([]byte(`{"` + strings.Repeat("n", 5000) + `":1,"` + strings.Repeat("n", 5000) + `":1,"a":1}`))
	if err == nil || len(found) != 1 || len(found[0].String()) > 300 {
		t.Errorf("%v %v", err, found)
	}
	p, _, err := passkit.Parse([]byte(`{"evil\u001b[31m\n":1,"a/b~c":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Validate() {
		if strings.ContainsAny(f.String(), "\x1b\n") {
			t.Errorf("%q", f)
		}
	}
	if at := about(p.Validate(), "pass.json/a~1b~0c"); len(at) != 1 {
		t.Error("a name with / and ~ is not written as a JSON Pointer")
	}
}

func TestTheTokenIsNotPrinted(t *testing.T) {
	const secret = "vxwxd7J8AlNNFPS8k0a0FfUFtq0ewzFdc"
	p := &passkit.Pass{AuthenticationToken: secret}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("pass", "pass", p, "token", p.AuthenticationToken)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s %q", *p, *p, *p, p.AuthenticationToken, p.AuthenticationToken), log.String()} {
		if strings.Contains(s, secret) {
			t.Errorf("printed: %s", s)
		}
	}
	out, err := p.Encode()
	if err != nil || !bytes.Contains(out, []byte(secret)) {
		t.Error("the device does not get its token")
	}
}

func TestATokenMatchesItselfOnly(t *testing.T) {
	token := passkit.AuthenticationToken("0123456789abcdef")
	for shown, want := range map[string]bool{"0123456789abcdef": true, "0123456789abcdeF": false, "0123456789abcdef0": false, "": false} {
		if token.Matches(shown) != want {
			t.Errorf("%q: %v", shown, !want)
		}
	}
	if passkit.AuthenticationToken("").Matches("") {
		t.Error("no token matches an empty one")
	}
}

func TestDates(t *testing.T) {
	for text, want := range map[string]string{
		"2030-01-31T19:30+01:00":        "2030-01-31T18:30:00Z",
		"2030-01-31T19:30:05Z":          "2030-01-31T19:30:05Z",
		"2030-01-31T19:30:05.250-08:00": "2030-02-01T03:30:05.25Z",
	} {
		got, err := passkit.Date(text).Time()
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "2030-01-31", "2030-01-31T19:30", "2030-01-31T19:30:00", "2030-01-31 19:30Z", "2030-01-31T9:30Z", "2030-02-30T19:30Z",
		"2030-01-31T19Z", "2030-01-31T19:30z", "2030-01-31T19:30+0100", "2030-01-31T24:30Z", "2030-01-31T19:30Z ",
	} {
		if got, err := passkit.Date(text).Time(); err == nil {
			t.Errorf("%s is read as %v", text, got)
		}
	}
	zone := time.FixedZone("", 2*3600)
	if d := passkit.NewDate(time.Date(2030, 1, 31, 19, 30, 0, 5, zone)); d != "2030-01-31T19:30:00+02:00" {
		t.Error(d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`{"generic":{"backFields":[{"value":true},null]},"nfc":null,"semantics":[]}`))
	f.Add([]byte(`{"a~/b":[{"a":1,"a":2}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, found, err := passkit.Parse(b)
		if err != nil {
			if p != nil || len(found) == 0 || !errors.Is(err, passkit.ErrDocument) {
				t.Fatalf("%v, %v, %v", p, found, err)
			}
			return
		}
		p.Validate()
		first, err := p.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, _, err := passkit.Parse(first)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if second := must(again.Encode()); !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s", first, second)
		}
	})
}
