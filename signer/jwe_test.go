package signer_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// cardHeader are the members that a sender adds.
func cardHeader(kid string) map[jose.HeaderKey]any {
	return map[jose.HeaderKey]any{
		"kid": kid, "typ": signer.EncryptedCardType, "tenant": "bank", "iss": "https://issuer.example", "sub": "user-1",
		"externalCardId": "card-1", "exp": time.Now().Add(time.Minute).Unix(), "jti": "jti-1",
	}
}

// encryptTo encrypts with go-jose, which shares nothing with the opening side.
func encryptTo(t testing.TB, to any, header map[jose.HeaderKey]any, plaintext []byte) string {
	t.Helper()
	opts := &jose.EncrypterOptions{}
	for k, v := range header {
		opts.WithHeader(k, v)
	}
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: to}, opts)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := enc.Encrypt(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// transport gives a key of the token and its kid.
func transport(t testing.TB, token *hsmtest.Token, name string) (*ecdsa.PublicKey, string) {
	t.Helper()
	pub, err := token.Public(name)
	if err != nil {
		t.Fatal(err)
	}
	kid, err := signer.KeyID(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pub.(*ecdsa.PublicKey), kid
}

func openCard(gate *signer.Gate, compact string) ([]byte, error) {
	e, err := signer.ParseEncryptedCard(compact)
	if err != nil {
		return nil, err
	}
	return gate.OpenCard(context.Background(), ticket(record.StoreCard), e)
}

func TestEncryptedCardOpensWithItsKeyInAnyState(t *testing.T) {
	token := hsmtest.New(t, hsmtest.With(hsm.NewKey{Name: "transport-2", Purpose: hsm.CardTransport, State: hsm.Next}))
	gate := signer.New(token.Token)
	for _, name := range []string{string(hsm.CardTransport), "transport-2"} {
		pub, kid := transport(t, token, name)
		for _, text := range []string{string(cardData), "", strings.Repeat("x", 4000)} {
			got, err := openCard(gate, encryptTo(t, pub, cardHeader(kid), []byte(text)))
			if err != nil || string(got) != text {
				t.Fatalf("opened %q, %v", got, err)
			}
		}
	}
	pub, kid := transport(t, token, string(hsm.CardTransport))
	sent := encryptTo(t, pub, cardHeader(kid), cardData)
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i := range ring.Keys {
			if ring.Keys[i].Purpose == hsm.CardTransport {
				ring.Keys[i].State = hsm.Retired
			}
		}
	})
	if got, err := openCard(signer.New(token.Token), sent); err != nil || string(got) != string(cardData) {
		t.Errorf("with a retired key: %q, %v", got, err)
	}
	if s := token.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
		t.Errorf("%+v", s)
	}
}

// Whatever is wrong, the error is one.
func TestEncryptedCardIsRefusedAlike(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	pub, kid := transport(t, token, string(hsm.CardTransport))
	good := encryptTo(t, pub, cardHeader(kid), cardData)
	if _, err := openCard(gate, good); err != nil {
		t.Fatal(err)
	}
	with := func(name jose.HeaderKey, value any) string {
		h := cardHeader(kid)
		if h[name] = value; value == nil {
			delete(h, name)
		}
		return encryptTo(t, pub, h, cardData)
	}
	// rewritten is a good one whose protected header says something else.
	rewritten := func(change func(h map[string]any)) string {
		parts := strings.Split(good, ".")
		raw, _ := base64.RawURLEncoding.DecodeString(parts[0])
		var h map[string]any
		if err := json.Unmarshal(raw, &h); err != nil {
			t.Fatal(err)
		}
		change(h)
		raw, _ = json.Marshal(h)
		parts[0] = base64.RawURLEncoding.EncodeToString(raw)
		return strings.Join(parts, ".")
	}
	flipped := func(part int) string {
		parts := strings.Split(good, ".")
		raw, _ := base64.RawURLEncoding.DecodeString(parts[part])
		raw[len(raw)/2] ^= 1
		parts[part] = base64.RawURLEncoding.EncodeToString(raw)
		return strings.Join(parts, ".")
	}
	direct := func(alg jose.KeyAlgorithm, enc jose.ContentEncryption, zip jose.CompressionAlgorithm) string {
		opts := &jose.EncrypterOptions{Compression: zip}
		for k, v := range cardHeader(kid) {
			opts.WithHeader(k, v)
		}
		e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: pub}, opts)
		if err != nil {
			t.Fatal(err)
		}
		jwe, err := e.Encrypt(cardData)
		if err != nil {
			t.Fatal(err)
		}
		s, err := jwe.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, compact := range map[string]string{
		"nothing":                 "",
		"not five parts":          "a.b.c",
		"a line break":            good[:20] + "\n" + good[20:],
		"padding":                 good + "=",
		"larger than is allowed":  encryptTo(t, pub, cardHeader(kid), make([]byte, signer.MaxEncryptedCard)),
		"header altered":          rewritten(func(h map[string]any) { h["externalCardId"] = "card-2" }),
		"another ephemeral point": rewritten(func(h map[string]any) { h["epk"] = h["epk"].(map[string]any)["x"] }),
		"a point off the curve":   rewritten(func(h map[string]any) { h["epk"].(map[string]any)["x"] = strings.Repeat("A", 43) }),
		"wrapped key altered":     flipped(1),
		"IV altered":              flipped(2),
		"content altered":         flipped(3),
		"tag altered":             flipped(4),
		"to somebody else":        encryptTo(t, aKeyPublic(t), cardHeader(kid), cardData),
		"an unknown kid":          with("kid", "somebody"),
		"no kid":                  with("kid", nil),
		"another typ":             with("typ", "JWE"),
		"no jti":                  with("jti", nil),
		"no exp":                  with("exp", nil),
		"an unknown member":       with("x-more", "1"),
		"apu":                     with("apu", "YQ"),
		"zip":                     direct(jose.ECDH_ES_A256KW, jose.A256GCM, jose.DEFLATE),
		"another key algorithm":   direct(jose.ECDH_ES_A128KW, jose.A256GCM, jose.NONE),
		"direct agreement":        direct(jose.ECDH_ES, jose.A256GCM, jose.NONE),
		"another encryption":      direct(jose.ECDH_ES_A256KW, jose.A128GCM, jose.NONE),
		"CBC":                     direct(jose.ECDH_ES_A256KW, jose.A256CBC_HS512, jose.NONE),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := openCard(gate, compact); !errors.Is(err, signer.ErrEncryptedCard) || got != nil || !strings.HasSuffix(err.Error(), signer.ErrEncryptedCard.Error()) {
				t.Errorf("opened %q, %v", got, err)
			}
		})
	}
	if s := token.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
		t.Errorf("%+v", s)
	}
}

func aKeyPublic(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	pub, err := ecdsa.ParseUncompressedPublicKey(p256, aKey(t).PublicKey().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// The set publishes the key for encryption, and no retired one.
func TestTransportKeyIsPublishedForEncryption(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	_, kid := transport(t, token, string(hsm.CardTransport))
	find := func() (found *signer.PublicKey) {
		keys, err := gate.Published(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if k.ID == kid {
				found = &k
			}
		}
		return found
	}
	if k := find(); k == nil || k.Use != "enc" || k.Algorithm != "ECDH-ES+A256KW" {
		t.Errorf("published is %+v", k)
	}
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i := range ring.Keys {
			if ring.Keys[i].Purpose == hsm.CardTransport {
				ring.Keys[i].State = hsm.Retired
			}
		}
	})
	gate = signer.New(token.Token)
	if k := find(); k != nil {
		t.Errorf("a retired key is published: %+v", k)
	}
}

func FuzzParseEncryptedCard(f *testing.F) {
	f.Add("a.b.c.d.e")
	f.Add("eyJhbGciOiJFQ0RILUVTK0EyNTZLVyJ9....")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := signer.ParseEncryptedCard(s); err != nil && !errors.Is(err, signer.ErrEncryptedCard) {
			t.Errorf("%q: %v", s, err)
		}
	})
}
