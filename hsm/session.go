package hsm

import (
	"github.com/miekg/pkcs11"
)

// sessions are the read-only sessions of one epoch. A read-only session can create,
// derive and use session objects, and cannot write the token.
//
// There are never more than the lane admits, and as many again while errors are looked
// into: take opens one when none is idle.
type sessions struct {
	ctx  *pkcs11.Ctx
	slot uint
	idle chan pkcs11.SessionHandle
}

func newSessions(ctx *pkcs11.Ctx, slot uint, size int) *sessions {
	return &sessions{ctx: ctx, slot: slot, idle: make(chan pkcs11.SessionHandle, size)}
}

func (p *sessions) take() (pkcs11.SessionHandle, error) {
	select {
	case s := <-p.idle:
		return s, nil
	default:
		s, err := p.ctx.OpenSession(p.slot, pkcs11.CKF_SERIAL_SESSION)
		return s, ckr("C_OpenSession", err)
	}
}

// give returns a session after use. One that is not sound is closed instead, which
// also destroys every session object it created and ends its active operation.
func (p *sessions) give(s pkcs11.SessionHandle, sound bool) {
	if sound {
		select {
		case p.idle <- s:
			return
		default:
		}
	}
	_ = p.ctx.CloseSession(s)
}

// close closes the idle sessions. The caller has seen to it that none is out.
func (p *sessions) close() {
	for {
		select {
		case s := <-p.idle:
			_ = p.ctx.CloseSession(s)
		default:
			return
		}
	}
}
