package hsm

import (
	"context"

	"github.com/mintmark/mintmark/internal/span"
)

// calling is what a member is asked for, as traces have it: the operation, as metrics call
// it, and the PKCS#11 function that does its work, by which mechanism. Around that function
// stand those that prepare it and clean up; docs/pkcs11.md lists the calls of one sealed card.
type calling struct{ op, function, mechanism string }

var (
	sealing        = calling{"hsm.agree-and-seal", "C_DeriveKey", "CKM_ECDH1_DERIVE"}
	agreeing       = calling{"hsm.agree", "C_DeriveKey", "CKM_ECDH1_DERIVE"}
	encryptingGCM  = calling{"hsm.encrypt", "C_Encrypt", "CKM_AES_GCM"}
	decryptingGCM  = calling{"hsm.decrypt", "C_Decrypt", "CKM_AES_GCM"}
	encryptingTDEA = calling{"hsm.encrypt", "C_Encrypt", "CKM_DES3_CBC"}
	computingHMAC  = calling{"hsm.hmac", "C_Sign", "CKM_SHA256_HMAC"}
	drawing        = calling{"hsm.random", "C_GenerateRandom", ""}
	signingRSA     = calling{"hsm.sign", "C_Sign", "CKM_RSA_PKCS"}
	signingECDSA   = calling{"hsm.sign", "C_Sign", "CKM_ECDSA"}
)

// signing is what a signature with the key called name is.
func signing(ctx context.Context, h *HSM, name string) calling {
	if !span.On(ctx) {
		return calling{}
	}
	if k, _ := h.ring.Load().Find(name); k.Algorithm == P256 {
		return signingECDSA
	}
	return signingRSA
}

// admitted is the moment at which work has got its place on a member: what comes before it in
// the span was spent in the queue.
const admitted = "admitted"

// traced has a member do the work, with a span of its own.
func traced[T any](ctx context.Context, m Member, what calling, do func(context.Context, Member) (T, error)) (T, error) {
	ctx, at := span.Start(ctx, what.op)
	if !at.On() {
		return do(ctx, m)
	}
	defer at.End()
	at.Set(span.Member, m.Name())
	at.Set(span.Function, what.function)
	if what.mechanism != "" {
		at.Set(span.Mechanism, what.mechanism)
	}
	v, err := do(ctx, m)
	at.Set(span.Outcome, outcome(err))
	if err != nil {
		at.Failed()
	}
	return v, err
}
