package access_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

// The tokens here are made with the standard library alone, text by text, so that
// nothing in their making is kinder than an attacker would be.

const (
	issuer   = "https://issuer.example"
	audience = "mint.example"
	kid      = "2026-07"
)

// noon is the time of the injected clock.
var noon = time.Unix(1785067200, 0)

func clockAt(t time.Time) func() time.Time { return func() time.Time { return t } }

// vector is the published example: its key is the honest client's, which makes every
// run and every fuzzing process sign the same bytes.
var vector = sync.OnceValue(func() (v struct {
	key     *rsa.PrivateKey
	compact string
},
) {
	raw, err := os.ReadFile("testdata/rfc7515-a2.json")
	if err != nil {
		panic(err)
	}
	var file struct {
		JWK     map[string]string `json:"jwk"`
		Compact string            `json:"compact"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		panic(err)
	}
	number := func(name string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(file.JWK[name])
		if err != nil {
			panic(err)
		}
		return new(big.Int).SetBytes(b)
	}
	v.key = &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number("n"), E: int(number("e").Int64())},
		D:         number("d"), Primes: []*big.Int{number("p"), number("q")},
	}
	v.key.Precompute()
	v.compact = file.Compact
	return v
})

var strangersKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var curveKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// bank is the honest client's configuration.
func bank() access.Client {
	return access.Client{
		Issuer:      issuer,
		Tenant:      "bank-a",
		Audience:    audience,
		Keys:        []access.Key{{ID: kid, Algorithm: access.RS256, Public: &vector().key.PublicKey}},
		Rights:      []access.Right{access.SignCards},
		MaxLifetime: 15 * time.Minute,
		Leeway:      10 * time.Second,
	}
}

func verifierOf(t testing.TB, clients ...access.Client) *access.Verifier {
	t.Helper()
	v, err := access.NewVerifier(clients, clockAt(noon))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// A signer makes the third segment.
type signer func(input string) []byte

func rs256(k *rsa.PrivateKey) signer {
	return func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return sig
	}
}

func ps256(input string) []byte {
	sum := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPSS(rand.Reader, vector().key, crypto.SHA256, sum[:], nil)
	if err != nil {
		panic(err)
	}
	return sig
}

func es256(input string) []byte {
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, curveKey(), sum[:])
	if err != nil {
		panic(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// hs256 keys the MAC with what everybody knows: the public key.
func hs256(input string) []byte {
	der, err := x509.MarshalPKIXPublicKey(&vector().key.PublicKey)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte(input))
	return mac.Sum(nil)
}

func nobody(string) []byte { return nil }

// seal signs header and payload as they are.
func seal(header, payload string, sign signer) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(sign(input))
}

const honestHeader = `{"alg":"RS256","typ":"JWT","kid":"2026-07"}`

// with is the honest payload, changed: each change is a claim's name and its JSON,
// where empty takes the claim out.
func with(changes ...string) string {
	names := []string{"iss", "sub", "aud", "iat", "exp", "jti"}
	values := map[string]string{
		"iss": `"` + issuer + `"`, "sub": `"user-1"`, "aud": `"` + audience + `"`,
		"iat": fmt.Sprint(noon.Unix()), "exp": fmt.Sprint(noon.Unix() + 300), "jti": `"3f1c"`,
	}
	for i := 0; i < len(changes); i += 2 {
		if _, ok := values[changes[i]]; !ok {
			names = append(names, changes[i])
		}
		values[changes[i]] = changes[i+1]
	}
	var b strings.Builder
	for _, n := range names {
		if values[n] != "" {
			fmt.Fprintf(&b, ",%q:%s", n, values[n])
		}
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

// seconds is a time relative to noon, as a claim.
func seconds(after int64) string { return fmt.Sprint(noon.Unix() + after) }

// signed is the honest client's signature over an honest header and this payload.
func signed(payload string) string { return seal(honestHeader, payload, rs256(vector().key)) }

// headed is the honest client's signature over this header and an honest payload.
func headed(header string) string { return seal(header, with(), rs256(vector().key)) }

// spoil replaces segment i of an honest token.
func spoil(i int, change func(string) string) string {
	parts := strings.Split(signed(with()), ".")
	parts[i] = change(parts[i])
	return strings.Join(parts, ".")
}

// leftover sets an unused bit in the last character of a segment, so that a lax
// decoder reads the same bytes. The segment is made to have unused bits first.
func leftover(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	altered := s[:len(s)-1] + string(alphabet[last|1])
	a, err1 := base64.RawURLEncoding.DecodeString(s)
	b, err2 := base64.RawURLEncoding.DecodeString(altered)
	if altered == s || err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		panic("segment has no unused bit")
	}
	return altered
}
