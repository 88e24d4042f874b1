package access_test

import (
	"bytes"
	"context"
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

// A published example: a private key, and a token signed with it.
type published struct {
	jwk     map[string]string
	compact string
}

func readPublished(file string) (v published) {
	raw, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	var parsed struct {
		JWK     map[string]string `json:"jwk"`
		Compact string            `json:"compact"`
	}
	if err := json.Unmarshal(raw, &parsed); err != nil {
		panic(err)
	}
	return published{parsed.JWK, parsed.Compact}
}

func (p published) octets(name string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(p.jwk[name])
	if err != nil {
		panic(err)
	}
	return b
}

func (p published) number(name string) *big.Int { return new(big.Int).SetBytes(p.octets(name)) }

// vector and curveVector are the published examples for RS256 and ES256. Their keys
// are the honest client's, so that every run and every fuzzing process has the same.
var (
	vector = sync.OnceValue(func() (v struct {
		key     *rsa.PrivateKey
		compact string
	},
	) {
		p := readPublished("testdata/rfc7515-a2.json")
		v.key = &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: p.number("n"), E: int(p.number("e").Int64())},
			D:         p.number("d"), Primes: []*big.Int{p.number("p"), p.number("q")},
		}
		v.key.Precompute()
		v.compact = p.compact
		return v
	})
	curveVector = sync.OnceValue(func() (v struct {
		key     *ecdsa.PrivateKey
		compact string
	},
	) {
		p := readPublished("testdata/rfc7515-a3.json")
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), p.octets("d"))
		if err != nil {
			panic(err)
		}
		v.key, v.compact = key, p.compact
		return v
	})
)

var strangersKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var strangersCurveKey = sync.OnceValue(func() *ecdsa.PrivateKey {
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
		Grants:      []access.Grant{{Right: access.SignCards}},
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

// es256 signs, and writes r and s as the change says; nil: as RFC 7518, 3.4 says.
func es256(k *ecdsa.PrivateKey, change func(r, s *big.Int) []byte) signer {
	if change == nil {
		change = rs
	}
	return func(input string) []byte {
		sum := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			panic(err)
		}
		return change(r, s)
	}
}

func rs(r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// hs256 keys the MAC with what everybody knows: the public key.
func hs256(public crypto.PublicKey) signer {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err)
	}
	return func(input string) []byte {
		mac := hmac.New(sha256.New, der)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
}

func nobody(string) []byte { return nil }

// seal signs header and payload as they are.
func seal(header, payload string, sign signer) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(sign(input))
}

// bearing is the proof of a request with this token and nothing else.
func bearing(token string) access.Proof {
	return access.Proof{Authorization: []string{"Bearer " + token}}
}

func authenticate(v *access.Verifier, token string) (access.Caller, error) {
	return v.Authenticate(context.Background(), bearing(token))
}

// curveBank is the honest client with an ES256 key in place of the RS256 one, under
// the same kid.
func curveBank() access.Client {
	c := bank()
	c.Keys = []access.Key{{ID: kid, Algorithm: access.ES256, Public: &curveVector().key.PublicKey}}
	return c
}

const curveHeader = `{"alg":"ES256","typ":"JWT","kid":"2026-07"}`

// curveSigned is signed with the ES256 key.
func curveSigned(payload string) string {
	return seal(curveHeader, payload, es256(curveVector().key, nil))
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
