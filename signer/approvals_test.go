package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// One token serves what passcodes, notices and the connector ask of the keys.
func TestKeysOfApprovals(t *testing.T) {
	token := hsmtest.New(t, hsmtest.Without(hsm.TAVSigning), hsmtest.Without(hsm.MerchantJWT), hsmtest.Without(hsm.NetworkOTP))
	gate := signer.New(token.Token)
	for name, test := range map[string]func(*testing.T, *hsmtest.Token, *signer.Gate){
		"passcodes are digits of the token's":                  passcodesAreRandom,
		"a passcode's MAC is of its tenant, id and digits":     passcodeMACs,
		"a notice opens in its place alone":                    noticeOpensInItsPlace,
		"a request is signed under its type, with the one key": requestIsSigned,
		"nothing is made under another operation's ticket":     ticketsAreForTheirOperation,
	} {
		t.Run(name, func(t *testing.T) { test(t, token, gate) })
	}
}

func digitsOf(code secret.Text) (s string) {
	code.Reveal(func(b []byte) { s = string(b) })
	return s
}

func passcodesAreRandom(t *testing.T, token *hsmtest.Token, gate *signer.Gate) {
	before := token.CallsOf("random")
	seen := map[string]bool{}
	for range 60 {
		code, err := gate.DrawPasscode(context.Background(), ticket(record.SendPasscode), 10)
		if err != nil {
			t.Fatal(err)
		}
		digits := digitsOf(code)
		if len(digits) != 10 || strings.Trim(digits, "0123456789") != "" {
			t.Fatalf("drew %q", digits)
		}
		seen[digits] = true
	}
	if len(seen) != 60 {
		t.Errorf("60 draws gave %d passcodes", len(seen))
	}
	if n := token.CallsOf("random") - before; n < 60 {
		t.Errorf("the token was asked %d times", n)
	}
	for _, digits := range []int{5, 11} {
		if _, err := gate.DrawPasscode(context.Background(), ticket(record.SendPasscode), digits); err == nil {
			t.Errorf("drew %d digits", digits)
		}
	}
}

func passcodeMACs(t *testing.T, _ *hsmtest.Token, gate *signer.Gate) {
	mac := func(key, tenant, id, code string) signer.PasscodeMAC {
		t.Helper()
		m, err := gate.PasscodeMAC(context.Background(), ticket(record.VerifyPasscode), key, tenant, id, secret.NewText(code))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := mac("", "bank", "id-1", "058213")
	if first.Key != string(hsm.Passcode) || len(first.MAC) != 32 || !first.Equal(mac(first.Key, "bank", "id-1", "058213")) {
		t.Errorf("the MAC is %+v", first)
	}
	for name, m := range map[string]signer.PasscodeMAC{
		"another tenant": mac("", "shop", "id-1", "058213"), "another id": mac("", "bank", "id-2", "058213"),
		"other digits": mac("", "bank", "id-1", "058214"), "digits moved": mac("", "bank", "id-10", "58213"),
		"another key's name": {Key: "other", MAC: first.MAC}, "no MAC": {Key: first.Key},
	} {
		if first.Equal(m) {
			t.Errorf("%s has the same MAC", name)
		}
	}
	for _, key := range []string{string(hsm.CardIndex), "unknown"} {
		if _, err := gate.PasscodeMAC(context.Background(), ticket(record.VerifyPasscode), key, "bank", "id-1", secret.NewText("058213")); err == nil {
			t.Errorf("computed with key %s", key)
		}
	}
}

func noticeOpensInItsPlace(t *testing.T, _ *hsmtest.Token, gate *signer.Gate) {
	body := []byte(`{"passcode":"058213"}`)
	row, err := gate.SealNotice(context.Background(), ticket(record.SendPasscode), "bank", "notice-1", slices.Clone(body))
	if err != nil {
		t.Fatal(err)
	}
	open := func(tenant, id string) ([]byte, error) {
		return gate.OpenNotice(context.Background(), ticket(record.CallNetwork), tenant, id, row)
	}
	if got, err := open("bank", "notice-1"); err != nil || !bytes.Equal(got, body) || bytes.Contains(row.Sealed, body[:12]) {
		t.Errorf("opened %q, %v", got, err)
	}
	for _, place := range [][2]string{{"shop", "notice-1"}, {"bank", "notice-2"}} {
		if _, err := open(place[0], place[1]); !errors.Is(err, hsm.ErrNotAuthentic) {
			t.Errorf("opened at %v: %v", place, err)
		}
	}
	// A notice is no card, and no card a notice.
	if _, err := gate.OpenVault(context.Background(), ticket(record.ReadCard), "bank", "notice-1", row); !errors.Is(err, hsm.ErrNotAuthentic) {
		t.Errorf("opened as a card: %v", err)
	}
}

func requestIsSigned(t *testing.T, token *hsmtest.Token, gate *signer.Gate) {
	tk := ticket(record.CallNetwork)
	signed, err := gate.SignConnector(context.Background(), tk, jwt.MapClaims{"jti": "key-1"})
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.Token.Release(record.IssueReceipt(tk, record.Done(signed.Token.Digest())))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := token.Public(string(hsm.ConnectorJWS))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.PublicKey{signed.KeyID: pub}
	if payload, err := signer.VerifyJWS(compact, signer.ConnectorType, keys); err != nil || string(payload) != `{"jti":"key-1"}` {
		t.Errorf("payload %s, %v", payload, err)
	}
	header, err := base64.RawURLEncoding.DecodeString(compact[:strings.IndexByte(compact, '.')])
	if err != nil || string(header) != `{"alg":"ES256","kid":"`+signed.KeyID+`","typ":"mintmark-connector+jwt"}` {
		t.Errorf("header %s, %v", header, err)
	}
}

func ticketsAreForTheirOperation(t *testing.T, token *hsmtest.Token, gate *signer.Gate) {
	ctx, calls := context.Background(), token.Calls()
	wrong := ticket(record.SignCard)
	_, err1 := gate.DrawPasscode(ctx, wrong, 6)
	_, err2 := gate.PasscodeMAC(ctx, wrong, "", "bank", "id", secret.NewText("058213"))
	_, err3 := gate.SealNotice(ctx, wrong, "bank", "id", nil)
	_, err4 := gate.OpenNotice(ctx, wrong, "bank", "id", signer.VaultRow{Key: string(hsm.CardVault)})
	_, err5 := gate.SignConnector(ctx, wrong, jwt.MapClaims{})
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if !errors.Is(err, record.ErrNoTicket) {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	if n := token.Calls() - calls; n != 0 {
		t.Errorf("the token was asked %d times", n)
	}
}

// What others sign is taken by a key that is known, with the algorithm that the key has, under
// the type that is meant, and in one form.
func TestJWSHoldsOrDoesNot(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.PublicKey{"ec": ec.Public(), "rs": rs.Public(), "wide": wide.Public()}
	sign := func(m jwt.SigningMethod, key any, header map[string]any) string {
		t.Helper()
		j := jwt.NewWithClaims(m, jwt.MapClaims{"a": 1})
		for name, v := range header {
			j.Header[name] = v
		}
		s, err := j.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	head := func(kid string) map[string]any { return map[string]any{"kid": kid, "typ": "t"} }
	good := sign(jwt.SigningMethodES256, ec, head("ec"))
	for name, compact := range map[string]string{"ES256": good, "RS256": sign(jwt.SigningMethodRS256, rs, head("rs"))} {
		if payload, err := signer.VerifyJWS(compact, "t", keys); err != nil || string(payload) != `{"a":1}` {
			t.Errorf("%s: %s, %v", name, payload, err)
		}
	}
	parts := strings.Split(good, ".")
	for name, compact := range map[string]string{
		"empty": "", "two parts": parts[0] + "." + parts[1], "four parts": good + ".", "no signature": parts[0] + "." + parts[1] + ".",
		"a line end": good[:20] + "\n" + good[20:], "padded": parts[0] + "=." + parts[1] + "." + parts[2], "too long": good + strings.Repeat("A", 32<<10),
		"other claims": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"a":2}`)) + "." + parts[2],
		"another kid":  sign(jwt.SigningMethodES256, ec, head("rs")), "no kid": sign(jwt.SigningMethodES256, ec, map[string]any{"typ": "t"}),
		"another type":                 sign(jwt.SigningMethodES256, ec, map[string]any{"kid": "ec", "typ": "JWT"}),
		"crit":                         sign(jwt.SigningMethodES256, ec, map[string]any{"kid": "ec", "typ": "t", "crit": []string{"b64"}, "b64": false}),
		"a key brought along":          sign(jwt.SigningMethodES256, ec, map[string]any{"kid": "ec", "typ": "t", "jwk": map[string]string{}}),
		"another algorithm of the key": sign(jwt.SigningMethodRS512, rs, head("rs")), "PSS": sign(jwt.SigningMethodPS256, rs, head("rs")),
		"P-384":                    sign(jwt.SigningMethodES384, wide, head("wide")),
		"HMAC with the public key": sign(jwt.SigningMethodHS256, elliptic.MarshalCompressed(ec.Curve, ec.X, ec.Y), head("ec")),
		"none":                     sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, head("ec")),
	} {
		if payload, err := signer.VerifyJWS(compact, "t", keys); !errors.Is(err, signer.ErrJWS) || payload != nil {
			t.Errorf("%s: %s, %v", name, payload, err)
		}
	}
}
