package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
)

// raw is a second hand on the member's library, which shares its login: PKCS#11 has one
// state a process. It keeps neither session nor handle.
type raw struct {
	ctx            *pkcs11.Ctx
	label, serial  string
	library, token string // for people
}

// newRaw loads the library a second time, which gives the same one; the member has
// initialized it.
func newRaw(ctx context.Context, module string, tok *hsm.Token) (*raw, error) {
	info, err := tok.Info(ctx)
	if err != nil {
		return nil, err
	}
	r := &raw{ctx: pkcs11.New(module), label: info.Label, serial: info.Serial, library: info.Library}
	if r.ctx == nil {
		return nil, fmt.Errorf("load %s a second time", module)
	}
	r.token = fmt.Sprintf("label %q, serial %s, model %s, firmware %s", info.Label, info.Serial, info.Model, info.Firmware)
	return r, nil
}

// close lets go of the library, which stays loaded.
func (r *raw) close() { r.ctx.Destroy() }

// slot finds the token; its number may change with every initialization.
func (r *raw) slot() (uint, error) {
	slots, err := r.ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("C_GetSlotList: %w", err)
	}
	for _, s := range slots {
		info, err := r.ctx.GetTokenInfo(s)
		if err == nil && info.Label == r.label && info.SerialNumber == r.serial {
			return s, nil
		}
	}
	return 0, errors.New("the token is gone")
}

// hand is a read-write session for one piece of work.
type hand struct {
	*pkcs11.Ctx
	s pkcs11.SessionHandle
}

// do lends a session.
func (r *raw) do(fn func(h hand) error) error {
	slot, err := r.slot()
	if err != nil {
		return err
	}
	s, err := r.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("C_OpenSession: %w", err)
	}
	err = fn(hand{r.ctx, s})
	_ = r.ctx.CloseSession(s) // which ends what a failed call left active
	return err
}

// find gives the handles of all objects that match.
func (h hand) find(template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := h.FindObjectsInit(h.s, template); err != nil {
		return nil, fmt.Errorf("C_FindObjectsInit: %w", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		some, _, err := h.FindObjects(h.s, 100)
		if err != nil || len(some) == 0 {
			return all, errors.Join(err, h.FindObjectsFinal(h.s))
		}
		all = append(all, some...)
	}
}

// half finds the one object of a class under a key's CKA_ID.
func (h hand) half(class uint, id []byte) (pkcs11.ObjectHandle, error) {
	all, err := h.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return 0, err
	}
	if len(all) != 1 {
		return 0, fmt.Errorf("%d objects of class %d under one CKA_ID", len(all), class)
	}
	return all[0], nil
}

// read reads one attribute.
func (h hand) read(o pkcs11.ObjectHandle, attribute uint) ([]byte, error) {
	at, err := h.GetAttributeValue(h.s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		return nil, err
	}
	return at[0].Value, nil
}

// destroyAll destroys every key whose label begins with Prefix, and no other. It gives the
// labels of those that are still there.
func (r *raw) destroyAll() (left []string, err error) {
	err = r.do(func(h hand) error {
		if err := h.eachDisposable(func(o pkcs11.ObjectHandle, _ string) { _ = h.DestroyObject(h.s, o) }); err != nil {
			return err
		}
		return h.eachDisposable(func(_ pkcs11.ObjectHandle, label string) { left = append(left, label) })
	})
	return left, err
}

func (h hand) eachDisposable(do func(pkcs11.ObjectHandle, string)) error {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_SECRET_KEY} {
		all, err := h.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
		if err != nil {
			return err
		}
		for _, o := range all {
			label, err := h.read(o, pkcs11.CKA_LABEL)
			if err == nil && strings.HasPrefix(string(label), Prefix) {
				do(o, string(label))
			}
		}
	}
	return nil
}

// class is what package hsm makes of an error's code.
func class(err error) (hsm.Class, string) {
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return hsm.ClassExhausted, fmt.Sprint(err)
	}
	e := &hsm.Error{Code: uint(rv)}
	return e.Class(), codeName(rv)
}

// codeName is a code's name without the number before it.
func codeName(rv pkcs11.Error) string {
	text := rv.Error()
	if _, name, ok := strings.Cut(text, "CKR_"); ok {
		return "CKR_" + name
	}
	return text
}
