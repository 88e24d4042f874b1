package hsm

import (
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

// A KeyStatus is a key of the keyring as this token has it.
type KeyStatus struct {
	Key
	// Problem is empty when the key was found and proved and is not retired. Its State says
	// whether new work uses it.
	Problem KeyProblem
}

// Keys gives the state of every key of the keyring, in its order.
func (t *Token) Keys() []KeyStatus {
	var found tokenKeys
	if e := t.current.Load(); e != nil {
		found = e.keys
	}
	return t.keyring().statuses(found)
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
	Library  string `json:"library"` // CK_INFO: manufacturer, description and version
	Label    string `json:"label"`
	Serial   string `json:"serial"`
	Model    string `json:"model"`
	Firmware string `json:"firmware"`
	Flags    uint   `json:"flags"` // CK_TOKEN_INFO flags
	// MaxSessions is how many sessions the token allows: the smaller of its limits for all
	// and for read-write ones, which most of ours are. 0 for any number, or unknown.
	MaxSessions uint `json:"maxSessions,omitempty"`
}

// maxSessions reads CK_TOKEN_INFO.ulMaxSessionCount and ulMaxRwSessionCount.
func maxSessions(limits ...uint) uint {
	var least uint
	for _, n := range limits {
		known := n != pkcs11.CK_EFFECTIVELY_INFINITE && n != pkcs11.CK_UNAVAILABLE_INFORMATION
		if known && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}

// Sessions is how many sessions the member may have open at once: one that keeps the
// login and crypto11's pool, twice while one epoch takes the place of another, and two for
// each operation of the EC lane, of which one is for looking into an error.
func (t *Token) Sessions() int { return 2*(1+t.pool()) + 2*t.cfg.ECConcurrency }

// pool is how many sessions crypto11 operates in: one for each place in any lane, so that
// who was admitted never waits for one. A unit of work uses one at a time.
func (t *Token) pool() int { return t.cfg.RSAConcurrency + t.cfg.ECConcurrency + tlsConcurrency }

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
			MaxSessions: maxSessions(tok.MaxSessionCount, tok.MaxRwSessionCount),
		}, nil
	})
}
