package signer

import (
	"context"
	"strconv"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// VaultRow is a card as it stands in the database: AES-256-GCM under a token key.
type VaultRow struct {
	Key    string // the keyring's name of the key
	IV     []byte // 12 random bytes
	Sealed []byte // ciphertext and 16-byte tag
}

// SealVault seals a card's data for the row called id of a tenant, with the active
// card-vault key. The row's place is associated data: a row moved to another tenant,
// another id or another key does not open.
func (g *Gate) SealVault(ctx context.Context, t *record.Ticket, tenant, id string, data []byte) (VaultRow, error) {
	ctx, at := span.Start(ctx, "gate.seal-vault")
	defer at.End()
	if err := useFor(t, "card-vault", record.StoreCard, record.RekeyCard); err != nil {
		return VaultRow{}, err
	}
	return g.seal(ctx, "card row", data, func(k hsm.Key) []byte { return vaultAAD(tenant, id, k.ID) })
}

// OpenVault opens the row called id of a tenant for the operation that t was issued
// for: one row, or, for record.SearchCards, each row once. The caller overwrites the data
// after use.
func (g *Gate) OpenVault(ctx context.Context, t *record.Ticket, tenant, id string, row VaultRow) ([]byte, error) {
	ctx, at := span.Start(ctx, "gate.open-vault")
	defer at.End()
	output := "card-vault-open"
	if t != nil && t.Intent().Operation == record.SearchCards {
		output += " " + id
	}
	if err := useFor(t, output, record.SignCard, record.ActivationData, record.ReadCard, record.RekeyCard, record.SearchCards, record.ActivateToken); err != nil {
		return nil, err
	}
	return g.open(ctx, "card row", row, func(k hsm.Key) []byte { return vaultAAD(tenant, id, k.ID) })
}

// VaultKey names the key that new rows are sealed under.
func (g *Gate) VaultKey() (string, error) {
	key, err := g.keys.Active(hsm.CardVault)
	return key.Name, err
}

// vaultAAD binds a row to its place: each part with its length before it.
func vaultAAD(tenant, id, keyID string) []byte {
	return framed("mintmark-card-vault-v1", tenant, id, keyID)
}

// framed joins texts so that no two different lists give the same bytes.
func framed(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = strconv.AppendInt(b, int64(len(p)), 10)
		b = append(b, ':')
		b = append(b, p...)
	}
	return b
}
