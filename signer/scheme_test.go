package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

var p256 = elliptic.P256()

// tdea is the network: it decrypts what begins with prefix, with crypto/des.
func tdea(t testing.TB, text, prefix string) string {
	t.Helper()
	hexText, ok := strings.CutPrefix(text, prefix)
	raw, err := hex.DecodeString(hexText)
	if !ok || err != nil || hexText != strings.ToUpper(hexText) {
		t.Fatalf("%q is not %s and upper-case hex", text, prefix)
	}
	block, err := des.NewTripleDESCipher(hsmtest.TDEAKey)
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCDecrypter(block, make([]byte, 8)).CryptBlocks(raw, raw)
	return string(raw)
}

var at = time.Date(2026, 11, 22, 13, 0, 5, 0, time.FixedZone("", 3600))

func TestPANBlockIsWhatTheNetworkDecrypts(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	const clear = "pan=4260640000000000;expiry=1249;datetime=20261122120005"
	for _, tc := range []struct {
		layout  signer.Layout
		pan     string
		pattern string
	}{
		{signer.Bare, "4260640000000000", "^" + clear + "$"},
		{signer.Framed, "4260640000000000", "^  [A-Za-z0-9]{4}56" + clear + "$"},
		{signer.Framed, "4260640000000000002", `^  [A-Za-z0-9]{4}59pan=4260640000000000002;expiry=1249;datetime=20261122120005!{5}$`},
	} {
		got, err := gate.SealPANBlock(context.Background(), ticket(record.SignCard), signer.PANBlock{
			KeySet: "426064.1", Layout: tc.layout, PAN: pan(t, tc.pan), Expiry: secret.NewText("1249"), At: at})
		if err != nil {
			t.Fatal(err)
		}
		if opened := tdea(t, string(got), "MBPAD-1-FK-426064.1--TDEA-"); !regexp.MustCompile(tc.pattern).MatchString(opened) {
			t.Errorf("decrypted %q, want %s", opened, tc.pattern)
		}
	}
	for name, b := range map[string]signer.PANBlock{
		"bare and no whole blocks": {KeySet: "426064.1", Layout: signer.Bare, PAN: pan(t, "4260640000000000002"), Expiry: secret.NewText("1249")},
		"no key set":               {Layout: signer.Framed, PAN: pan(t, "4260640000000000"), Expiry: secret.NewText("1249")},
		"no layout":                {KeySet: "426064.1", PAN: pan(t, "4260640000000000"), Expiry: secret.NewText("1249")},
	} {
		if out, err := gate.SealPANBlock(context.Background(), ticket(record.SignCard), b); err == nil {
			t.Errorf("%s: sealed %s", name, out)
		}
	}
}

func TestVisaCodeIsWhatTheNetworkDecrypts(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	seen := map[string]bool{}
	for _, op := range []record.Operation{record.SignCard, record.ActivationData} {
		tk := ticket(op)
		held, err := gate.MakeVisaCode(context.Background(), tk, signer.VisaCode{KeySet: "426064.1", Nonce: "08643998"})
		if err != nil {
			t.Fatal(err)
		}
		opened := tdea(t, string(release(t, tk, held)), "MBPAC-1-FK-426064.1--TDEA-")
		if !regexp.MustCompile(`^  [A-Za-z0-9]{4}30nonce=08643998;authcode=[A-Z0-9]{6}!!$`).MatchString(opened) || seen[opened] {
			t.Errorf("decrypted %q", opened)
		}
		seen[opened] = true
	}
}

// fields are one of each type, in an order.
var fields = []signer.Field{
	{Name: "ver", Type: signer.FieldText, Value: "v1.0"}, {Name: "pan", Type: signer.FieldPAN}, {Name: "exp", Type: signer.FieldExpiry},
	{Name: "nonce", Type: signer.FieldNonce}, {Name: "tur", Type: signer.FieldReference}, {Name: "at", Type: signer.FieldTimestamp},
	{Name: "code", Type: signer.FieldAuthcode},
}

// Every scheme's data are verified or decrypted by code that is not the signer's.
func TestSchemeDataAreWhatTheNetworkReads(t *testing.T) {
	token := hsmtest.New(t,
		hsmtest.With(hsm.NewKey{Name: "otp-ec", Purpose: hsm.NetworkOTP, Algorithm: hsm.P256}),
		hsmtest.With(hsm.NewKey{Name: "otp-tdea", Purpose: hsm.NetworkOTP, Algorithm: hsm.TDEA}))
	gate := signer.New(token.Token)
	ec, err := ecdsa.GenerateKey(p256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	network, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(key string, alg jose.SignatureAlgorithm) func(string) []byte {
		return func(data string) []byte {
			jws, err := jose.ParseSignedCompact(data, []jose.SignatureAlgorithm{alg})
			if err != nil {
				t.Fatal(err)
			}
			pub, err := token.Public(key)
			if err != nil {
				t.Fatal(err)
			}
			text, err := jws.Verify(pub)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
	decrypt := func(key crypto.PrivateKey, alg jose.KeyAlgorithm) func(string) []byte {
		return func(data string) []byte {
			jwe, err := jose.ParseEncryptedCompact(data, []jose.KeyAlgorithm{alg}, []jose.ContentEncryption{jose.A256GCM})
			if err != nil {
				t.Fatal(err)
			}
			if jwe.Header.KeyID != "net-1" {
				t.Errorf("kid is %q", jwe.Header.KeyID)
			}
			text, err := jwe.Decrypt(key)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
	for name, tc := range map[string]struct {
		scheme signer.Scheme
		open   func(string) []byte
	}{
		"RS256":   {signer.Scheme{Algorithm: signer.SchemeRS256, Key: string(hsm.NetworkOTP)}, verify(string(hsm.NetworkOTP), jose.RS256)},
		"ES256":   {signer.Scheme{Algorithm: signer.SchemeES256, Key: "otp-ec"}, verify("otp-ec", jose.ES256)},
		"ECDH-ES": {signer.Scheme{Algorithm: signer.SchemeECDH, Recipient: &ec.PublicKey, RecipientID: "net-1"}, decrypt(ec, jose.ECDH_ES)},
		"RSA":     {signer.Scheme{Algorithm: signer.SchemeRSAOAEP, Recipient: &network.PublicKey, RecipientID: "net-1"}, decrypt(network, jose.RSA_OAEP_256)},
		"TDEA": {signer.Scheme{Algorithm: signer.SchemeTDEA, Key: "otp-tdea"}, func(data string) []byte {
			text := tdea(t, data, "")
			return bytes.TrimLeft(bytes.TrimRight([]byte(text[6:]), "!"), "0123456789") // behind its length
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, names := range []bool{false, true} {
				s := tc.scheme
				s.Name, s.Delimiter, s.Names, s.Fields = "net", "|", names, fields
				signed := s.Algorithm == signer.SchemeRS256 || s.Algorithm == signer.SchemeES256
				if signed { // and readable: without card data
					s.Fields = append([]signer.Field{fields[0]}, fields[3:]...)
				}
				if err := s.Check(); err != nil {
					t.Fatal(err)
				}
				tk := ticket(record.ActivationData)
				held, err := gate.MakeSchemeData(context.Background(), tk, s, signer.SchemeInput{
					PAN: pan(t, "371449635398431"), Expiry: secret.NewText("1249"), Nonce: "c5846fb5", Reference: "8YUZErg1CWsPG5uVa", At: at})
				if err != nil {
					t.Fatal(err)
				}
				want := `^v1\.0\|371449635398431\|1249\|c5846fb5\|8YUZErg1CWsPG5uVa\|20261122120005\|[A-Z0-9]{6}$`
				if names {
					want = `^ver=v1\.0\|pan=371449635398431\|exp=1249\|nonce=c5846fb5\|tur=8YUZErg1CWsPG5uVa\|at=20261122120005\|code=[A-Z0-9]{6}$`
				}
				if signed {
					want = strings.NewReplacer(`371449635398431\|1249\|`, "", `pan=371449635398431\|exp=1249\|`, "").Replace(want)
				}
				if got := tc.open(string(release(t, tk, held))); !regexp.MustCompile(want).Match(got) {
					t.Errorf("fields are %q", got)
				}
			}
		})
	}
}

// No value can pass for two: what holds a delimiter is refused.
func TestSchemeValuesHoldNoDelimiter(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	network, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := signer.Scheme{Name: "net", Algorithm: signer.SchemeRSAOAEP, Recipient: &network.PublicKey, Delimiter: ";", Fields: fields}
	good := signer.SchemeInput{PAN: pan(t, "371449635398431"), Expiry: secret.NewText("1249"), Nonce: "c5846fb5", At: at}
	for name, change := range map[string]func(*signer.SchemeInput){
		"reference": func(in *signer.SchemeInput) { in.Reference = "a;code=AAAAAA" },
		"nonce":     func(in *signer.SchemeInput) { in.Nonce = "c5;46" },
		"expiry":    func(in *signer.SchemeInput) { in.Expiry = secret.NewText("1;49") },
		"no PAN":    func(in *signer.SchemeInput) { in.PAN = secret.PAN{} },
	} {
		in := good
		change(&in)
		if _, err := gate.MakeSchemeData(context.Background(), ticket(record.SignCard), s, in); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := gate.MakeSchemeData(context.Background(), ticket(record.SignCard), s, good); err != nil {
		t.Error(err)
	}
	s.Algorithm, s.Recipient, s.Key, s.Fields = signer.SchemeRS256, nil, string(hsm.MerchantJWT), fields[3:]
	if _, err := gate.MakeSchemeData(context.Background(), ticket(record.SignCard), s, good); err == nil {
		t.Error("a key of another purpose signed")
	}
}

func TestSchemeThatCannotWorkIsRefused(t *testing.T) {
	good := signer.Scheme{Algorithm: signer.SchemeRS256, Key: "k", Delimiter: "|", Fields: []signer.Field{{Name: "nonce", Type: signer.FieldNonce}}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	ec := aKeyPublic(t)
	for name, change := range map[string]func(*signer.Scheme){
		"no algorithm":       func(s *signer.Scheme) { s.Algorithm = "HS256" },
		"no key":             func(s *signer.Scheme) { s.Key = "" },
		"two keys":           func(s *signer.Scheme) { s.Recipient = ec },
		"RSA with an EC key": func(s *signer.Scheme) { s.Algorithm, s.Key, s.Recipient = signer.SchemeRSAOAEP, "", ec },
		"letter delimiter":   func(s *signer.Scheme) { s.Delimiter = "A" },
		"two delimiters":     func(s *signer.Scheme) { s.Delimiter = "||" },
		"no fields":          func(s *signer.Scheme) { s.Fields = nil },
		"unknown type":       func(s *signer.Scheme) { s.Fields = []signer.Field{{Name: "a", Type: "template"}} },
		"name with =":        func(s *signer.Scheme) { s.Fields = []signer.Field{{Name: "a=b", Type: signer.FieldNonce}} },
		"a PAN in a JWS":     func(s *signer.Scheme) { s.Fields = []signer.Field{{Name: "pan", Type: signer.FieldPAN}} },
		"an expiry in a JWS": func(s *signer.Scheme) { s.Fields = []signer.Field{{Name: "exp", Type: signer.FieldExpiry}} },
		"text with |":        func(s *signer.Scheme) { s.Fields = []signer.Field{{Name: "a", Type: signer.FieldText, Value: "a|b"}} },
		"value of a nonce":   func(s *signer.Scheme) { s.Fields = []signer.Field{{Name: "a", Type: signer.FieldNonce, Value: "x"}} },
	} {
		s := good
		change(&s)
		if s.Check() == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
