package devdir

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"time"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/keycert"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// merchantCertificate is the certificate of the merchant-jwt key, beside the keyring.
const merchantCertificate = "merchant-jwt.crt"

// makeCertificate makes the certificate in which partners get the key of merchant JWTs.
func (d *Dir) makeCertificate(ctx context.Context) error {
	ring, err := hsm.LoadKeyring(d.keyring())
	if err != nil {
		return err
	}
	key, err := ring.Active(hsm.MerchantJWT)
	if err != nil || key.Certificate != "" {
		return err
	}
	t, err := hsm.Open(ctx, d.hsmConfig(ring))
	if err != nil {
		return err
	}
	made, err := d.certify(ctx, t, key)
	if err = errors.Join(err, t.Close(ctx)); err != nil {
		return err
	}
	if err := writeFile(d.path(merchantCertificate), made); err != nil {
		return err
	}
	for i := range ring.Keys {
		if ring.Keys[i].Name == key.Name {
			ring.Keys[i].Certificate = merchantCertificate
		}
	}
	return ring.Save(d.keyring())
}

func (d *Dir) certify(ctx context.Context, t *hsm.Token, key hsm.Key) (made []byte, err error) {
	s, err := store.Open(ctx, d.path("mintmark.db"), Environment)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	now := time.Now()
	return keycert.Issue(ctx, audit.New(s, time.Now), signer.New(t), signer.SelfSigned{
		Key: key.Name, Subject: pkix.Name{CommonName: "mintmark development: " + MerchantIssuer},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(2, 0, 0),
	})
}
