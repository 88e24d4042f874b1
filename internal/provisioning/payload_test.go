package provisioning

import (
	"encoding/hex"
	"encoding/json"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func nonceOf(t testing.TB) Nonce {
	t.Helper()
	n, err := NonceRules{}.Canonical(strings.ToUpper(hex.EncodeToString(sampleNonce)), b64(sampleSignature))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPayloadIsTheGuidesExampleByteForByte(t *testing.T) {
	signature := "40" + strings.Repeat("c317", 40)
	for _, tc := range []struct{ pan, expiration, name, escaped string }{
		{"5204245250001488", `12/49`, `John Appleseed`, `John Appleseed`},
		{"5555555555554444", `06/48`, `Zoë "Quote" O'Brien-Łukasz`, `Zoë \"Quote\" O'Brien-Łukasz`},
		{"6759649826438453", `01/47`, `a\b/c<&>`, `a\\b/c<&>`},
		{"5204245250001488", `01/47`, `山田 太郎 👩‍💻`, `山田 太郎 👩‍💻`},
	} {
		want := `{"expiration":"` + tc.expiration[:2] + `\/` + tc.expiration[3:] +
			`","name":"` + tc.escaped +
			`","nonce":"ea85a73a","nonceSignature":"` + signature +
			`","primaryAccountNumber":"` + tc.pan +
			`","productType":"DEFAULT_MASTERCARD","version":"1"}`
		got, err := DefaultProducts()[0].withDefaults().payload(cardOf(t, tc.pan, tc.expiration, tc.name), nonceOf(t), "")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
}

// checkPayload requires that a decoder other than ours reads the same values.
func checkPayload(t testing.TB, name string) {
	t.Helper()
	c := cardOf(t, "5204245250001488", "12/49", name)
	if c.check() != nil {
		return // never becomes a payload
	}
	b, err := DefaultProducts()[0].withDefaults().payload(c, nonceOf(t), "")
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	if !utf8.Valid(b) {
		t.Errorf("%q: payload is not UTF-8", name)
	}
	var got map[string]string
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	want := map[string]string{
		"expiration": "12/49", "name": name, "nonce": "ea85a73a", "nonceSignature": hex.EncodeToString(sampleSignature),
		"primaryAccountNumber": "5204245250001488", "productType": "DEFAULT_MASTERCARD", "version": "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q: %s", name, diff)
	}
}

// A name is a random name that keeps to the field rules.
type name string

// Generate makes names of the letters that are awkward in JSON, and of all others.
func (name) Generate(r *rand.Rand, _ int) reflect.Value {
	awkward := []rune("\"\\/'<>&{}[]:, \u00a0\u2028\u2029\ufeff\ufffd\u202eaZé山👩\u200d")
	var b strings.Builder
	for b.Len() < 1+r.Intn(70) {
		c := awkward[r.Intn(len(awkward))]
		if r.Intn(3) == 0 {
			c = rune(0x20 + r.Intn(utf8.MaxRune-0x20))
		}
		b.WriteRune(c) // a surrogate becomes U+FFFD
	}
	return reflect.ValueOf(name("x" + b.String()))
}

func TestPayloadReadsBackWhateverTheName(t *testing.T) {
	checked := 0
	if err := quick.Check(func(n name) bool {
		if cardOf(t, "5204245250001488", "12/49", string(n)).check() == nil {
			checked++
		}
		checkPayload(t, string(n))
		return !t.Failed()
	}, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
	if checked < 1000 {
		t.Errorf("only %d of 2000 names kept to the field rules", checked)
	}
}

func FuzzPayload(f *testing.F) {
	for _, n := range []string{"John Appleseed", `Zoë "Quote" O'Brien-Łukasz`, `\`, `"`, `\u0041`, "\u2028", "\xff", "x\x00"} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n string) { checkPayload(t, n) })
}
