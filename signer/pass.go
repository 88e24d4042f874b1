package signer

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/span"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
)

// A PassIdentity is what passes of one type are signed with.
type PassIdentity struct {
	Key           string // the name of a pass key
	Certificate   *x509.Certificate
	Intermediates []*x509.Certificate // candidates; the certificate's issuer is picked
}

// SignPass makes the .pkpass of a bundle, signed at the time now. A bundle that a device
// would refuse, or that the certificate is not for, is a *passkit.RefusedError, and the
// token is not asked.
func (g *Gate) SignPass(ctx context.Context, t *record.Ticket, id PassIdentity, b *passkit.Bundle, now time.Time) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.sign-pass")
	defer at.End()
	if err := t.Use(record.SignPass, "pkpass"); err != nil {
		return record.Held[[]byte]{}, err
	}
	s, err := g.passSigner(ctx, id)
	if err != nil {
		return record.Held[[]byte]{}, err
	}
	pkpass, err := b.Sign(s, now)
	if err != nil {
		return record.Held[[]byte]{}, err
	}
	return record.Hold(t, "pkpass", pkpass, pkpass), nil
}

// SignPersonalization signs what a device asks to have signed when a pass becomes
// somebody's own, with the form and the key of a pass's signature. What could be a
// manifest is refused (passkit.ErrPersonalizationToken): it would be a forged pass.
func (g *Gate) SignPersonalization(ctx context.Context, t *record.Ticket, id PassIdentity, token []byte, now time.Time) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.sign-personalization")
	defer at.End()
	if err := t.Use(record.PersonalizePass, "signature"); err != nil {
		return record.Held[[]byte]{}, err
	}
	if err := passkit.CheckPersonalizationToken(token); err != nil {
		return record.Held[[]byte]{}, err
	}
	s, err := g.passSigner(ctx, id)
	if err != nil {
		return record.Held[[]byte]{}, err
	}
	signature, err := cms.SignDetached(token, s, now)
	if err != nil {
		return record.Held[[]byte]{}, err
	}
	return record.Hold(t, "signature", signature, signature), nil
}

func (g *Gate) passSigner(ctx context.Context, id PassIdentity) (cms.Signer, error) {
	key, err := g.keys.Key(id.Key)
	if err != nil {
		return cms.Signer{}, err
	}
	if key.Purpose != hsm.Pass {
		return cms.Signer{}, fmt.Errorf("sign pass: key %s is for %s", key.Name, key.Purpose)
	}
	s, err := g.keys.Signer(ctx, key.Name)
	if err != nil {
		return cms.Signer{}, err
	}
	return cms.Signer{Key: s, Certificate: id.Certificate, Intermediates: id.Intermediates}, nil
}
