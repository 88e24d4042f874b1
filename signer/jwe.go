package signer

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// MaxEncryptedCard bounds a JWE with card data in bytes.
const MaxEncryptedCard = 16 << 10

// EncryptedCardType is the typ of a JWE with card data.
const EncryptedCardType = "mintmark-card+jwe"

// ErrEncryptedCard is the one error for a JWE with card data that does not open, whatever
// the cause: form, algorithm, key, header or content. It tells an attacker nothing.
var ErrEncryptedCard = errors.New("encrypted card refused")

// An EncryptedCard is card data as they come in: a JWE in the compact serialisation (RFC
// 7516, 7.1), ECDH-ES+A256KW to a card-transport key and A256GCM. Nothing of it is to be
// believed before OpenCard has opened it.
type EncryptedCard struct {
	CardHeader
	protected string // as it came: the associated data
	wrapped   []byte
	iv        []byte
	sealed    []byte // ciphertext and tag
	peer      *ecdh.PublicKey
}

// A CardHeader is the protected header of an EncryptedCard. All of it must be there, but
// NonceSHA256, and nothing else: no zip, no crit, no jku.
type CardHeader struct {
	Algorithm      string `json:"alg"` // ECDH-ES+A256KW
	Encryption     string `json:"enc"` // A256GCM
	KeyID          string `json:"kid"` // of the JWK set
	Ephemeral      epk    `json:"epk"`
	Type           string `json:"typ"` // EncryptedCardType
	Tenant         string `json:"tenant"`
	Issuer         string `json:"iss"` // with Subject: whose card it is
	Subject        string `json:"sub"`
	ExternalCardID string `json:"externalCardId"`
	Expires        int64  `json:"exp"` // seconds since 1970
	ID             string `json:"jti"` // good for one use
	// NonceSHA256 is the SHA-256 of Apple's nonce, Base64url: of card data for one sealing.
	NonceSHA256 string `json:"nonceSha256"`
}

// ParseEncryptedCard reads a JWE without opening it. The error is ErrEncryptedCard.
func ParseEncryptedCard(compact string) (EncryptedCard, error) {
	parts := strings.Split(compact, ".")
	if len(compact) > MaxEncryptedCard || len(parts) != 5 {
		return EncryptedCard{}, ErrEncryptedCard
	}
	var raw [5][]byte
	for i, p := range parts {
		var ok bool
		if raw[i], ok = segment(p); !ok {
			return EncryptedCard{}, ErrEncryptedCard
		}
	}
	e := EncryptedCard{protected: parts[0], wrapped: raw[1], iv: raw[2], sealed: append(raw[3], raw[4]...)}
	if json.Unmarshal(raw[0], &e.CardHeader, json.RejectUnknownMembers(true)) != nil {
		return EncryptedCard{}, ErrEncryptedCard
	}
	var ok bool
	e.peer, ok = e.Ephemeral.point()
	if !ok || e.Algorithm != "ECDH-ES+A256KW" || e.Encryption != "A256GCM" || e.Type != EncryptedCardType ||
		len(e.wrapped) != 32+8 || len(e.iv) != 12 || len(raw[4]) != 16 || e.ID == "" || len(e.ID) > 255 || e.Expires <= 0 {
		return EncryptedCard{}, ErrEncryptedCard
	}
	return e, nil
}

// segment decodes Base64url without padding, in its one form.
func segment(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") { // which the decoder would ignore
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

// OpenCard opens an EncryptedCard with the card-transport key that it names, which may be
// next or retired. The agreement is made in the token; the single-use key that comes of it,
// the content's key and the content are in host memory during the call, and the keys are
// overwritten at its end. The caller overwrites the content.
//
// The error is ErrEncryptedCard, or one with RetryAfter.
func (g *Gate) OpenCard(ctx context.Context, t *record.Ticket, e EncryptedCard) ([]byte, error) {
	ctx, at := span.Start(ctx, "gate.open-card")
	defer at.End()
	if err := useFor(t, "encrypted-card", record.StoreCard, record.SignCard); err != nil {
		return nil, err
	}
	if e.peer == nil {
		return nil, ErrEncryptedCard
	}
	name, err := g.transportKey(e.KeyID)
	if err != nil {
		return nil, err
	}
	kek, err := g.keys.AgreeKey(ctx, name, e.peer, concatInfo("ECDH-ES+A256KW", 256))
	if err != nil {
		return nil, fmt.Errorf("open encrypted card: %w", err)
	}
	defer secret.Wipe(kek)
	var out []byte
	hsm.Erase(func() { out = unwrapAndOpen(kek, e) })
	if out == nil {
		return nil, ErrEncryptedCard
	}
	return out, nil
}

// transportKey finds the card-transport key called kid.
func (g *Gate) transportKey(kid string) (string, error) {
	none := ErrEncryptedCard
	for _, k := range g.keys.Listed(hsm.CardTransport) {
		pub, err := g.keys.Public(k.Name)
		var unusable *hsm.KeyError
		if errors.As(err, &unusable) {
			none = err // it may be this one
			continue
		}
		if err != nil {
			return "", err
		}
		if id, err := g.keyID(k.Name, pub); err == nil && id == kid {
			return k.Name, nil
		}
	}
	return "", none
}

// unwrapAndOpen unwraps the content's key (RFC 3394) and opens the content; nil if either
// is not authentic.
func unwrapAndOpen(kek []byte, e EncryptedCard) []byte {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil
	}
	cek, err := josecipher.KeyUnwrap(block, e.wrapped)
	if err != nil || len(cek) != 32 {
		return nil
	}
	defer secret.Wipe(cek)
	content, err := aes.NewCipher(cek)
	if err != nil {
		return nil
	}
	aead, err := cipher.NewGCM(content)
	if err != nil {
		return nil
	}
	out, err := aead.Open(make([]byte, 0, max(1, len(e.sealed))), e.iv, e.sealed, []byte(e.protected))
	if err != nil {
		return nil
	}
	return out
}
