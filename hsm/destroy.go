package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// ErrNotRetired is returned for a key that is still to be used and so is not destroyed.
var ErrNotRetired = errors.New("only a retired key is destroyed")

// Destroy destroys the retired key called name on this member: every object under its CKA_ID,
// the public half and a certificate too. It first makes sure that the key is the pinned one,
// and looks afterwards whether anything is left. The keyring is not touched; an entry whose
// key is gone is to be taken out.
//
// A token may keep copies of its own, and its backups have the key. Errors: ErrNotRetired,
// *KeyError, or one with RetryAfter.
func (t *Token) Destroy(ctx context.Context, name string) error {
	_, err := run(ctx, t, t.ec, "destroy", func(e *epoch) (struct{}, error) {
		k, err := e.usable(name, true)
		switch {
		case err != nil:
			return struct{}{}, err
		case k.State != Retired:
			return struct{}{}, ErrNotRetired
		}
		s, err := e.ctx.OpenSession(e.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return struct{}{}, ckr("C_OpenSession", err)
		}
		defer func() { _ = e.ctx.CloseSession(s) }()
		return struct{}{}, (&unit{e: e, s: s}).destroyKey(k.Key)
	})
	if err != nil {
		return fmt.Errorf("destroy key %s: %w", name, err)
	}
	return nil
}

// destroyKey destroys everything under a key's CKA_ID, the private or secret half first: an
// interruption leaves no key without its public half that could be taken for a whole one.
func (u *unit) destroyKey(k Key) error {
	private := []*pkcs11.Attribute{idAttribute(k), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true)}
	for _, template := range [][]*pkcs11.Attribute{private, private[:2]} {
		handles, err := u.find(template...)
		if err != nil {
			return err
		}
		for _, h := range handles {
			if err := u.e.ctx.DestroyObject(u.s, h); err != nil {
				return ckr("C_DestroyObject", err)
			}
		}
	}
	left, err := u.find(private[:2]...)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d objects under its CKA_ID are still there", len(left))
	}
	return err
}
