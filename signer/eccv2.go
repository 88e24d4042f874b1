package signer

import (
	"context"
	"crypto/ecdh"
	"fmt"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// SealedECCv2 is a payload sealed under EV_ECC_v2, not yet released.
type SealedECCv2 struct {
	EphemeralPublicKey record.Held[[]byte] // 65 bytes, uncompressed point; never SPKI
	EncryptedData      record.Held[[]byte] // AES-256-GCM ciphertext and tag
}

// SealECCv2 seals payload to Apple's static key under EV_ECC_v2: ECDH on P-256 with an
// ephemeral pair made for this call, the single-step KDF, AES-256-GCM. [A] graded: two
// independent public implementations and the public vector agree on every byte.
func (g *Gate) SealECCv2(ctx context.Context, t *record.Ticket, to *ecdh.PublicKey, payload []byte) (SealedECCv2, error) {
	ctx, at := span.Start(ctx, "gate.seal-ecc-v2")
	defer at.End()
	if err := t.Use(record.SignCard, "ecc-v2"); err != nil {
		return SealedECCv2{}, err
	}
	out, err := g.keys.AgreeAndSeal(ctx, hsm.Sealing{
		Peer:      to,
		OtherInfo: eccV2OtherInfo,
		IV:        make([]byte, 12), // zero: sound because the key seals once
		Plaintext: payload,
	})
	if err != nil {
		return SealedECCv2{}, fmt.Errorf("seal under EV_ECC_v2: %w", err)
	}
	return SealedECCv2{
		EphemeralPublicKey: record.Hold(t, "ephemeralPublicKey", out.EphemeralPublicKey, out.EphemeralPublicKey),
		EncryptedData:      record.Hold(t, "encryptedData", out.Ciphertext, out.Ciphertext),
	}, nil
}

// eccV2OtherInfo is the KDF's OtherInfo: AlgorithmID with a length byte, PartyUInfo
// without one, and the ephemeral public key itself as PartyVInfo (not its hash, not
// Apple's key).
func eccV2OtherInfo(ephemeralPublicKey []byte) []byte {
	info := make([]byte, 0, 1+13+5+65)
	info = append(info, 0x0d)
	info = append(info, "id-aes256-GCM"...)
	info = append(info, "Apple"...)
	return append(info, ephemeralPublicKey...)
}
