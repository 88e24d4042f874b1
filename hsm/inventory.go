package hsm

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

// A KeyStatus is a key of the keyring as this token has it.
type KeyStatus struct {
	Key
	// Problem is empty when the key may be used for new work.
	Problem KeyProblem
}

// Keys gives the state of every key of the keyring, in its order.
func (t *Token) Keys() []KeyStatus {
	e := t.current.Load()
	all := make([]KeyStatus, 0, len(t.cfg.Keyring.Keys))
	for _, k := range t.cfg.Keyring.Keys {
		problem := KeyNotListed // when this epoch began
		if tk := e.keys[k.Name]; tk != nil {
			problem = tk.problem
		}
		all = append(all, KeyStatus{Key: k, Problem: problem})
	}
	return all
}

// Unlisted lists the private and secret keys of the token that no entry of the keyring
// names. They are never used.
func (t *Token) Unlisted() []Object { return t.current.Load().unlisted }

// SessionObjects counts the keys on the token that are session objects of this
// process. It is 0 whenever no key agreement is in flight.
func (t *Token) SessionObjects(ctx context.Context) (int, error) {
	n := 0
	err := t.work(ctx, "count-session-objects", func(u *unit) error {
		found, err := u.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
		n = len(found)
		return err
	})
	return n, err
}

// Info describes the module and the token.
type Info struct {
	Library  string // CK_INFO: manufacturer, description and version
	Label    string
	Serial   string
	Model    string
	Firmware string
	Flags    uint // CK_TOKEN_INFO flags
}

// Info reads the module's and the token's description.
func (t *Token) Info(ctx context.Context) (Info, error) {
	var out Info
	err := t.run(ctx, t.ec, "info", func(e *epoch) error {
		lib, err := e.ctx.GetInfo()
		if err != nil {
			return ckr("C_GetInfo", err)
		}
		tok, err := e.ctx.GetTokenInfo(e.slot)
		if err != nil {
			return ckr("C_GetTokenInfo", err)
		}
		out = Info{
			Library: fmt.Sprintf("%s, %s, %d.%d", lib.ManufacturerID, lib.LibraryDescription, lib.LibraryVersion.Major, lib.LibraryVersion.Minor),
			Label:   tok.Label, Serial: tok.SerialNumber, Model: tok.Model,
			Firmware: fmt.Sprintf("%d.%d", tok.FirmwareVersion.Major, tok.FirmwareVersion.Minor),
			Flags:    tok.Flags,
		}
		return nil
	})
	return out, err
}
