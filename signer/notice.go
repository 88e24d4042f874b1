package signer

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// SealNotice seals the body of a tenant's notice called id, which waits in the database to
// be delivered: as SealVault does, with associated data of its own.
func (g *Gate) SealNotice(ctx context.Context, t *record.Ticket, tenant, id string, body []byte) (VaultRow, error) {
	ctx, at := span.Start(ctx, "gate.seal-notice")
	defer at.End()
	if err := useFor(t, "notice", record.SendPasscode, record.ActivateToken, record.PutWalletToken); err != nil {
		return VaultRow{}, err
	}
	return g.seal(ctx, "notice", body, func(k hsm.Key) []byte { return noticeAAD(tenant, id, k.ID) })
}

// OpenNotice opens a notice's body, to be delivered. The caller overwrites it after use.
func (g *Gate) OpenNotice(ctx context.Context, t *record.Ticket, tenant, id string, row VaultRow) ([]byte, error) {
	ctx, at := span.Start(ctx, "gate.open-notice")
	defer at.End()
	if err := t.Use(record.CallNetwork, "notice-open"); err != nil {
		return nil, err
	}
	return g.open(ctx, "notice", row, func(k hsm.Key) []byte { return noticeAAD(tenant, id, k.ID) })
}

// noticeAAD binds a notice to its place.
func noticeAAD(tenant, id, keyID string) []byte {
	return framed("mintmark-notice-v1", tenant, id, keyID)
}

// seal seals data with the active card-vault key: AES-256-GCM with a random IV.
func (g *Gate) seal(ctx context.Context, what string, data []byte, aad func(hsm.Key) []byte) (VaultRow, error) {
	return withActive(g, hsm.CardVault, func(key hsm.Key) (VaultRow, error) {
		iv := make([]byte, 12)
		_, _ = rand.Read(iv) // never fails (crypto/rand)
		sealed, err := g.keys.EncryptGCM(ctx, key.Name, iv, aad(key), data)
		if err != nil {
			return VaultRow{}, fmt.Errorf("seal %s: %w", what, err)
		}
		return VaultRow{Key: key.Name, IV: iv, Sealed: sealed}, nil
	})
}

// open opens what seal made, with the key that it was made with.
func (g *Gate) open(ctx context.Context, what string, row VaultRow, aad func(hsm.Key) []byte) ([]byte, error) {
	key, err := g.keys.Key(row.Key)
	if err != nil {
		return nil, err
	}
	if key.Purpose != hsm.CardVault {
		return nil, fmt.Errorf("open %s: key %s is for %s", what, key.Name, key.Purpose)
	}
	data, err := g.keys.DecryptGCM(ctx, key.Name, row.IV, aad(key), row.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", what, err)
	}
	return data, nil
}
