// Package signer is the gate: every use of a key passes through it, one operation a
// file. An operation checks three things before the token is asked, and has the fourth
// from package hsm, where another member can be asked if one signs wrongly:
//
//	the ticket   record.Ticket, so that the intent is durable and this output new
//	the purpose  the key is the active one of exactly this operation's purpose
//	the input    lengths and forms, so that nothing malformed reaches the token
//	the output   a signature has been verified against the pinned public key
//
// and hands the output over as a record.Held, which opens only with the receipt of its
// recorded result:
//
//	held, err := gate.SignTAV(ctx, ticket, signer.TAV{…})
//	receipt, err := recorder.Conclude(ctx, ticket, record.Done(held.Digest()))
//	activationData, err := held.Release(receipt)
//
// It knows formats (ECC_v2, TAV, JWS, JWK sets, the vault's rows), not HTTP and not SQL.
//
// Errors with a method RetryAfter (see package hsm) say that a later try may succeed.
package signer
