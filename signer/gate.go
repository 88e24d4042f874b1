package signer

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/mintmark/mintmark/hsm"
)

// Gate gives the operations. It is safe for concurrent use.
type Gate struct {
	token *hsm.Token
}

// New gives the gate to a token's keys.
func New(token *hsm.Token) *Gate { return &Gate{token: token} }

// ErrWrongSignature is returned when the token gave a signature that the pinned public
// key does not verify. The signature is dropped.
var ErrWrongSignature = errors.New("the token's signature does not verify against the pinned key")

// signRS256 signs message with the active key of a purpose and verifies before it
// returns: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2).
func (g *Gate) signRS256(ctx context.Context, purpose hsm.Purpose, message []byte) ([]byte, error) {
	key, err := g.token.Active(purpose)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(message)
	sig, err := g.token.Sign(ctx, key.Name, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	pub, err := g.token.Public(key.Name)
	if err != nil {
		return nil, err
	}
	rsaPub, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key %s is no RSA key", key.Name)
	}
	if err := rsa.VerifyPKCS1v15(rsaPub, crypto.SHA256, digest[:], sig); err != nil {
		return nil, fmt.Errorf("key %s: %w", key.Name, ErrWrongSignature)
	}
	return sig, nil
}
