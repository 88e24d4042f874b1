package signer

import (
	"context"
	"fmt"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
)

// CardIndex gives the value under which a tenant's card is found in the database:
// HMAC-SHA-256 in the token over tenant and externalCardId (PCI DSS 4.0.1, 3.5.1.1: a
// keyed hash, so that whoever holds the database cannot search it). It is for storing
// a card and for finding one. The key does not rotate by itself: a new one means to
// index every card anew.
func (g *Gate) CardIndex(ctx context.Context, t *record.Ticket, tenant, externalCardID string) ([]byte, error) {
	ctx, at := span.Start(ctx, "gate.card-index")
	defer at.End()
	if err := useFor(t, "card-index", record.SignCard, record.ActivationData, record.StoreCard, record.ReadCard, record.DeleteCard,
		record.DecideProvisioning, record.ActivateToken, record.SendPasscode); err != nil {
		return nil, err
	}
	key, err := g.keys.Active(hsm.CardIndex)
	if err != nil {
		return nil, err
	}
	mac, err := g.keys.HMAC(ctx, key.Name, framed("mintmark-card-index-v1", tenant, externalCardID))
	if err != nil {
		return nil, fmt.Errorf("compute card index: %w", err)
	}
	return mac, nil
}
