//go:build trace

package signer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"slices"

	"github.com/mintmark/mintmark/internal/record"
)

// A Tracer seals under EV_ECC_v2 on the host, with an ephemeral key of the host's, and shows
// every step: what SealECCv2 does in the token, without its protection.
type Tracer struct{}

// SealTraced seals payload as SealECCv2 does, and gives the trace.
func (Tracer) SealTraced(t *record.Ticket, to *ecdh.PublicKey, payload []byte) (SealedECCv2, record.Held[Trace], error) {
	var none record.Held[Trace]
	if err := t.Use(record.SignCard, "ecc-v2"); err != nil {
		return SealedECCv2{}, none, err
	}
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return SealedECCv2{}, none, err
	}
	z, err := ephemeral.ECDH(to)
	if err != nil {
		return SealedECCv2{}, none, err
	}
	point := ephemeral.PublicKey().Bytes()
	input := slices.Concat([]byte{0, 0, 0, 1}, z, eccV2OtherInfo(point))
	key := sha256.Sum256(input)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return SealedECCv2{}, none, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return SealedECCv2{}, none, err
	}
	sealed := aead.Seal(nil, make([]byte, 12), payload, nil)
	trace := Trace{
		ApplePublicKey: to.Bytes(), Payload: bytes.Clone(payload), EphemeralPublicKey: point, EphemeralPrivateKey: ephemeral.Bytes(),
		KDFInput: input, AESKey: key[:], EncryptedData: sealed,
	}
	return SealedECCv2{
		EphemeralPublicKey: record.Hold(t, "ephemeralPublicKey", point, point),
		EncryptedData:      record.Hold(t, "encryptedData", sealed, sealed),
		// The record has the digest of what is public of it.
	}, record.Hold(t, "trace", trace, sealed), nil
}
