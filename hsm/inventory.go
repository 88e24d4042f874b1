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
		problem := KeyNotListed // when this epoch began, or there is none
		if e != nil && e.keys[k.Name] != nil {
			problem = e.keys[k.Name].problem
			if e.keys[k.Name].lost.Load() {
				problem = KeyLost
			}
		}
		all = append(all, KeyStatus{Key: k, Problem: problem})
	}
	return all
}

// Unlisted lists the private and secret keys of the token that no entry of the keyring
// names. They are never used.
func (t *Token) Unlisted() []Object {
	if e := t.current.Load(); e != nil {
		return e.unlisted
	}
	return nil
}

// SessionObjects counts the keys on the token that are session objects of this
// process. It is 0 whenever no key agreement is in flight.
func (t *Token) SessionObjects(ctx context.Context) (int, error) {
	return work(ctx, t, "count-session-objects", func(u *unit) (int, error) {
		found, err := u.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
		return len(found), err
	})
}

// Info describes the module and the token.
type Info struct {
	Library  string // CK_INFO: manufacturer, description and version
	Label    string
	Serial   string
	Model    string
	Firmware string
	Flags    uint // CK_TOKEN_INFO flags
	// MaxSessions is how many sessions the token allows; 0 for any number, or unknown.
	MaxSessions uint
}

// maxSessions reads CK_TOKEN_INFO.ulMaxSessionCount.
func maxSessions(n uint) uint {
	if n == pkcs11.CK_EFFECTIVELY_INFINITE || n == pkcs11.CK_UNAVAILABLE_INFORMATION {
		return 0
	}
	return n
}

// Sessions is how many sessions the member may have open at once: one that keeps the
// login and one for each RSA operation, twice while one epoch takes the place of another,
// and two for each other operation in flight, of which one is for looking into an error.
func (t *Token) Sessions() int { return 2 * (1 + t.cfg.RSAConcurrency + t.cfg.ECConcurrency) }

// Info reads the module's and the token's description.
func (t *Token) Info(ctx context.Context) (Info, error) {
	return run(ctx, t, t.ec, "info", func(e *epoch) (Info, error) {
		lib, err := e.ctx.GetInfo()
		if err != nil {
			return Info{}, ckr("C_GetInfo", err)
		}
		tok, err := e.ctx.GetTokenInfo(e.slot)
		if err != nil {
			return Info{}, ckr("C_GetTokenInfo", err)
		}
		return Info{
			Library: fmt.Sprintf("%s, %s, %d.%d", lib.ManufacturerID, lib.LibraryDescription, lib.LibraryVersion.Major, lib.LibraryVersion.Minor),
			Label:   tok.Label, Serial: tok.SerialNumber, Model: tok.Model,
			Firmware:    fmt.Sprintf("%d.%d", tok.FirmwareVersion.Major, tok.FirmwareVersion.Minor),
			Flags:       tok.Flags,
			MaxSessions: maxSessions(tok.MaxSessionCount),
		}, nil
	})
}
