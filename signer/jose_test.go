package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// Both integers have 32 bytes, however small they are: real signatures until each has been
// short once, which one in 256 is.
func TestShortIntegersArePadded(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("digest"))
	var shortR, shortS bool
	for tries := 0; !shortR || !shortS; tries++ {
		if tries == 100_000 {
			t.Fatal("no short integer in 100,000 signatures")
		}
		der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		out, err := joseECDSA(der)
		if err != nil || len(out) != 64 {
			t.Fatalf("%x gives %x, %v", der, out, err)
		}
		if out[0] != 0 && out[32] != 0 {
			continue
		}
		shortR, shortS = shortR || out[0] == 0, shortS || out[32] == 0
		r, s := new(big.Int).SetBytes(out[:32]), new(big.Int).SetBytes(out[32:])
		if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
			t.Errorf("%x does not verify as %x", der, out)
		}
	}
}

func TestSignatureIsWrittenAsJWSHasIt(t *testing.T) {
	all := strings.Repeat("ff", 32)
	for name, tc := range map[string]struct{ der, want string }{
		"one and two":               {"3006020101020102", strings.Repeat("00", 31) + "01" + strings.Repeat("00", 31) + "02"},
		"the largest":               {"3046022100" + all + "022100" + all, all + all},
		"31 bytes and 32":           {"3043021f01" + strings.Repeat("00", 30) + "02207f" + strings.Repeat("00", 31), "0001" + strings.Repeat("00", 30) + "7f" + strings.Repeat("00", 31)},
		"nothing":                   {"", ""},
		"an empty sequence":         {"3000", ""},
		"one integer":               {"3003020101", ""},
		"followed by a byte":        {"300602010102010200", ""},
		"cut short":                 {"3006020101020", ""},
		"not minimal":               {"300702020001020102", ""},
		"a length in the long form": {"308106020101020102", ""},
		"zero r":                    {"3006020100020102", ""},
		"zero s":                    {"3006020101020100", ""},
		"negative r":                {"30060201ff020102", ""},
		"negative s":                {"30060201010201ff", ""},
		"r of 257 bits":             {"30260221" + "01" + strings.Repeat("00", 32) + "020101", ""},
		"s of 257 bits":             {"30260201010221" + "01" + strings.Repeat("00", 32), ""},
		"texts":                     {"3006130161130162", ""},
		"the raw form already":      {strings.Repeat("11", 64), ""},
		"an octet string around it": {"04083006020101020102", ""},
	} {
		der, err := hex.DecodeString(tc.der + tc.der[:len(tc.der)%2])
		if err != nil {
			t.Fatal(err)
		}
		out, err := joseECDSA(der)
		if hex.EncodeToString(out) != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %x, %v", name, out, err)
		}
	}
}

// foreign is a crypto.Signer that gives what it is told.
type foreign struct {
	pub crypto.PublicKey
	sig []byte
	err error
}

func (f foreign) Public() crypto.PublicKey { return f.pub }

func (f foreign) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if len(digest) != 32 || opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("not the SHA-256 of anything")
	}
	return f.sig, f.err
}

// A method signs with keys of its own algorithm, and passes the signer's error on.
func TestMethodTakesItsOwnKindOfKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one, err := asn1.Marshal(struct{ R, S *big.Int }{big.NewInt(1), big.NewInt(1)})
	if err != nil {
		t.Fatal(err)
	}
	errAway := errors.New("token away")
	for name, tc := range map[string]struct {
		method signingMethod
		key    any
		want   error // nil: it signs
	}{
		"RS256 with RSA":               {rs256, rsaKey, nil},
		"ES256 with P-256":             {es256, p256, nil},
		"RS256 with P-256":             {rs256, p256, jwt.ErrInvalidKeyType},
		"ES256 with RSA":               {es256, rsaKey, jwt.ErrInvalidKeyType},
		"ES256 with P-384":             {es256, p384, jwt.ErrInvalidKeyType},
		"RS256 with Ed25519":           {rs256, edwards, jwt.ErrInvalidKeyType},
		"ES256 with Ed25519":           {es256, edwards, jwt.ErrInvalidKeyType},
		"a public key":                 {rs256, &rsaKey.PublicKey, jwt.ErrInvalidKeyType},
		"bytes, as HS256 has them":     {rs256, []byte("secret"), jwt.ErrInvalidKeyType},
		"nothing":                      {es256, nil, jwt.ErrInvalidKeyType},
		"a token that is away":         {es256, foreign{&p256.PublicKey, nil, errAway}, errAway},
		"a token that is away, RSA":    {rs256, foreign{&rsaKey.PublicKey, nil, errAway}, errAway},
		"a P-256 key that we only see": {es256, foreign{&p256.PublicKey, one, nil}, nil},
	} {
		sig, err := tc.method.Sign("header.claims", tc.key)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) || (sig == nil) != (err != nil) {
			t.Errorf("%s: %x, %v", name, sig, err)
		}
	}
	if _, err := es256.Sign("x", foreign{&p256.PublicKey, []byte("no DER"), nil}); err == nil {
		t.Error("a signature that is none was taken")
	}
	if rs256.Alg() != "RS256" || es256.Alg() != "ES256" {
		t.Errorf("algorithms %s and %s", rs256.Alg(), es256.Alg())
	}
}
