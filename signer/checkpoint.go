package signer

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/mintmark/mintmark/hsm"
)

// SignCheckpoint signs a checkpoint of the audit log with the active audit-checkpoint
// key: ECDSA over SHA-256, as ASN.1. It gives the public key's SPKI with it, against which
// the signature has been verified.
//
// It takes no ticket: a checkpoint is a statement about the record, and an entry for each
// would make the log feed itself.
func (g *Gate) SignCheckpoint(ctx context.Context, text []byte) (signature, spki []byte, err error) {
	digest := sha256.Sum256(text)
	signature, err = withActive(g, hsm.AuditCheckpoint, func(key hsm.Key) ([]byte, error) {
		pub, err := g.keys.Public(key.Name)
		if err != nil {
			return nil, err
		}
		if spki, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return nil, fmt.Errorf("encode checkpoint key: %w", err)
		}
		return g.keys.Sign(ctx, key.Name, digest[:], crypto.SHA256)
	})
	return signature, spki, err
}
