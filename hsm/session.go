package hsm

import (
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// sessions are the read-only sessions of one epoch. A read-only session can create,
// derive and use session objects, and cannot write the token. Where the module opens none
// (AWS CloudHSM's answers CKR_FUNCTION_FAILED [C]) they are read-write ones; what is done in
// them is the same.
//
// There are never more than the lane admits, and as many again while errors are looked
// into: take opens one when none is idle.
type sessions struct {
	ctx  *pkcs11.Ctx
	slot uint
	idle chan pkcs11.SessionHandle

	readWrite atomic.Bool // set when a read-only session was refused and a read-write one was not
}

func newSessions(ctx *pkcs11.Ctx, slot uint, size int) *sessions {
	return &sessions{ctx: ctx, slot: slot, idle: make(chan pkcs11.SessionHandle, size)}
}

func (p *sessions) take() (pkcs11.SessionHandle, error) {
	select {
	case s := <-p.idle:
		return s, nil
	default:
		return p.open()
	}
}

func (p *sessions) open() (pkcs11.SessionHandle, error) {
	if !p.readWrite.Load() {
		s, err := p.ctx.OpenSession(p.slot, pkcs11.CKF_SERIAL_SESSION)
		err = ckr("C_OpenSession", err)
		if c := classify(err); err == nil || (c != ClassRequest && c != ClassSuspect) {
			return s, err
		}
	}
	s, err := p.ctx.OpenSession(p.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err == nil {
		p.readWrite.Store(true)
	}
	return s, ckr("C_OpenSession", err)
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
