package inspect

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
)

const good = `{"expiration":"12\/49","name":"John Appleseed","nonce":"c5846fb5","nonceSignature":"SIG","primaryAccountNumber":"5204245250001488","productType":"DEFAULT_MASTERCARD","version":"1"}`

// The same for other products, with further members.
func amex(more string) string {
	return strings.NewReplacer("DEFAULT_MASTERCARD", "DEFAULT_AMEX", `"nonce":`, more+`"nonce":`).Replace(good)
}

func visa(more string) string {
	return strings.NewReplacer("DEFAULT_MASTERCARD", "DEFAULT_VISA", `"nonce":`, more+`"nonce":`,
		`"expiration":"12\/49",`, ``, `"primaryAccountNumber":"5204245250001488"`, `"encryptedPrimaryAccountNumber":"TUJQQUQtMS1GSw=="`).Replace(good)
}

func coBadged(cards string) string {
	return strings.NewReplacer("DEFAULT_MASTERCARD", "01:XX:APPLE", `"nonce":`, `"auxiliaryCards":`+cards+`,"nonce":`).Replace(good)
}

// seal seals as an issuer would, with code that is not the signer's.
func seal(t *testing.T, to *ecdh.PublicKey, text string) (point, sealed []byte) {
	t.Helper()
	text = strings.Replace(text, "SIG", strings.Repeat("40", 81), 1)
	e, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	z, err := e.ECDH(to)
	if err != nil {
		t.Fatal(err)
	}
	point = e.PublicKey().Bytes()
	k := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 1}, z, []byte("\x0did-aes256-GCMApple"), point))
	block, err := aes.NewCipher(k[:])
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return point, aead.Seal(nil, make([]byte, 12), []byte(text), nil)
}

var b64 = base64.StdEncoding.EncodeToString

// A log with one fault in it is told of that fault.
func TestFaultsAreNamed(t *testing.T) {
	leaf, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, sealed := seal(t, leaf.PublicKey(), good)
	log := func(version, pass, key string) string {
		return fmt.Sprintf("Performing request:\n{\nencryptedPassData = \"%s\";\nencryptionVersion = “%s\";\nephemeralPublicKey = “%s\";\n}", pass, version, key)
	}
	pub, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	off := slices.Clone(point)
	off[40] ^= 1
	inner := func(text string) string {
		p, s := seal(t, leaf.PublicKey(), text)
		return log("EV_ECC_v2", b64(s), b64(p))
	}
	authority, err := appletest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	chain := func(ders ...[]byte) string {
		var texts []string
		for _, d := range ders {
			texts = append(texts, `"`+b64(d)+`"`)
		}
		return `{"certificates":[` + strings.Join(texts, ",") + `]}`
	}
	for name, tc := range map[string]struct {
		text string
		want string // empty: nothing is wrong
	}{
		"nothing wrong":          {log("EV_ECC_v2", b64(sealed), b64(point)), ""},
		"broken by the log":      {log("EV_ECC_v2", b64(sealed[:100])[:80]+" \n"+b64(sealed)[80:], b64(point)), ""},
		"encoded twice":          {log("EV_ECC_v2", b64([]byte(b64(sealed))), b64(point)), "Base64 twice"},
		"key encoded twice":      {log("EV_ECC_v2", b64(sealed), b64([]byte(b64(point)))), "Base64 twice"},
		"SPKI":                   {log("EV_ECC_v2", b64(sealed), b64(spki)), "SubjectPublicKeyInfo"},
		"SPKI of Ed25519":        {log("EV_ECC_v2", b64(sealed), ed25519SPKI), "another kind of key"},
		"a short key":            {log("EV_ECC_v2", b64(sealed), b64(point[:64])), "64 bytes"},
		"a key off the curve":    {log("EV_ECC_v2", b64(sealed), b64(off)), "no point"},
		"Base64url":              {log("EV_ECC_v2", b64(sealed), strings.Repeat("_-", 44)), "Base64url"},
		"no Base64":              {log("EV_ECC_v2", "%%%", b64(point)), "not Base64"},
		"RSA scheme":             {log("EV_RSA_v2", b64(sealed), b64(point)), "an RSA scheme"},
		"payment token's scheme": {log("EV_ECC_v1", b64(sealed), b64(point)), "another scheme"},
		"a short payload":        {log("EV_ECC_v2", b64(sealed[:20]), b64(point)), "20 bytes"},
		"sealed to another":      {func() string { p, _ := seal(t, leaf.PublicKey(), good); return log("EV_ECC_v2", b64(sealed), b64(p)) }(), "does not open"},
		"trailing comma":         {inner(strings.Replace(good, `"1"}`, `"1",}`, 1)), "not valid JSON"},
		"version 0":              {inner(strings.Replace(good, `"version":"1"`, `"version":"0"`, 1)), "version 0"},
		"version as a number":    {inner(strings.Replace(good, `"version":"1"`, `"version":1`, 1)), "no string"},
		"no name":                {inner(strings.Replace(good, `"name":"John Appleseed",`, ``, 1)), "name is missing"},
		"nonce in Base64":        {inner(strings.Replace(good, `c5846fb5`, `xYRvtQ==`, 1)), "not 4 bytes in hex"},
		"expiration MMYY":        {inner(strings.Replace(good, `12\/49`, `1249`, 1)), "not MM/YY"},
		"networkName in 1":       {inner(strings.Replace(good, `"nonce":`, `"networkName":"Mastercard","nonce":`, 1)), "networkName in a payload of configuration 1"},
		"both PANs":              {inner(strings.Replace(good, `"expiration"`, `"encryptedPrimaryAccountNumber":"TUJQ","expiration"`, 1)), "both"},
		"double Base64 of block": {inner(strings.NewReplacer(`"expiration":"12\/49",`, ``, `"primaryAccountNumber":"5204245250001488"`, `"encryptedPrimaryAccountNumber":"`+b64([]byte(b64([]byte("MBPAD-1-FK"))))+`"`).Replace(good)), "is Base64 twice"},
		"configuration 2":        {inner(amex(`"networkData":"x",`)), ""},
		"2 with an empty member": {inner(amex(`"networkData":"",`)), "networkData is missing or empty"},
		"2 for Mastercard":       {inner(strings.Replace(good, `"nonce":`, `"networkData":"x","nonce":`, 1)), "for a product without configuration 2"},
		"networkName in 2":       {inner(amex(`"networkData":"x","networkName":"Amex",`)), "networkName in a payload of configuration 2"},
		"co-badged":              {inner(coBadged(`[{"expiration":"12/49","name":"John Appleseed","primaryAccountNumber":"5204245250001488"}]`)), ""},
		"co-badged, no array":    {inner(coBadged(`{"primaryAccountNumber":"5204245250001488"}`)), "no array of objects"},
		"co-badged, no card":     {inner(coBadged(`[]`)), "auxiliaryCards is empty"},
		"co-badged, half a card": {inner(coBadged(`[{"expiration":"12/49","primaryAccountNumber":"5204245250001488"}]`)), "name is missing"},
		"co-badged, MMYY":        {inner(coBadged(`[{"expiration":"1249","name":"John Appleseed","primaryAccountNumber":"5204245250001488"}]`)), "auxiliaryCards is not MM/YY"},
		"co-badged, as a number": {inner(coBadged(`[{"expiration":"12/49","name":"John Appleseed","primaryAccountNumber":5204245250001488}]`)), "primaryAccountNumber in auxiliaryCards is no string"},
		"co-badged, too much":    {inner(coBadged(`[{"expiration":"12/49","name":"John Appleseed","primaryAccountNumber":"5204245250001488","cvv":"1"}]`)), "cvv in auxiliaryCards"},
		"co-badged, one network": {inner(strings.Replace(good, `"nonce":`, `"auxiliaryCards":[],"nonce":`, 1)), "under the productType of one network"},
		"configuration 3":        {inner(visa(`"networkName":"Visa","primaryAccountNumberPrefix":"411111",`)), ""},
		"3 without a network":    {inner(visa(`"primaryAccountNumberPrefix":"411111",`)), "networkName is missing"},
		"3 without a prefix":     {inner(visa(`"networkName":"Visa",`)), "primaryAccountNumberPrefix is missing"},
		"3 with the whole PAN":   {inner(visa(`"networkName":"Visa","primaryAccountNumberPrefix":"5204245250001488",`)), "not 6 or 8 digits"},
		"co-badged in 3":         {inner(visa(`"networkName":"Visa","auxiliaryCards":[],`)), "networkName in a payload of configuration 3 with auxiliaryCards"},
		"a short nonce":          {`{"nonce":"c584","nonceSignature":"` + strings.Repeat("40", 81) + `"}`, "2 bytes instead of 4"},
		"a chain in order":       {chain(issued.Leaf.Raw, issued.Sub.Raw), ""},
		"a chain the other way":  {chain(issued.Sub.Raw, issued.Leaf.Raw), "wrong order"},
		"half a chain":           {chain(issued.Leaf.Raw), "1 certificates"},
		"a chain of strangers":   {chain(issued.Leaf.Raw, issued.Root.Raw), "did not issue"},
		"nothing to look at":     {"hello", "none of the members"},
	} {
		t.Run(name, func(t *testing.T) {
			var wrong []string
			all := ""
			for _, f := range Text(tc.text, leaf) {
				all += f.String() + "\n"
				if !f.OK {
					wrong = append(wrong, f.Found)
				}
			}
			switch {
			case tc.want == "" && len(wrong) != 0:
				t.Errorf("wrong is %q", wrong)
			case tc.want != "" && !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, tc.want) }):
				t.Errorf("%q is not among %q", tc.want, wrong)
			}
			if strings.Contains(all, "5204245250001488") || strings.Contains(all, "Appleseed") {
				t.Errorf("card data are repeated:\n%s", all)
			}
		})
	}
}

// ed25519SPKI is a public key of 44 bytes: shorter than a point of P-256.
const ed25519SPKI = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="

func FuzzText(f *testing.F) {
	f.Add(`ephemeralPublicKey = "` + ed25519SPKI + `"`)
	f.Add(`encryptedPassData = "AAAA"; ephemeralPublicKey = "BBBB"; certificates = ["x"]`)
	f.Fuzz(func(t *testing.T, s string) { Text(s, nil) })
}
