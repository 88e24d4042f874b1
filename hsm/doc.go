// Package hsm owns the PKCS#11 modules and the tokens behind them. It is the only
// package that imports miekg/pkcs11 and crypto11, and the only code that logs in.
//
// An HSM is a set of members that come up, fail and come back by themselves; a Token is
// one of them, which a command opens alone:
//
//	tok, err := hsm.Open(ctx, hsm.Config{
//		Name:       "main",
//		Module:     "/usr/lib/softhsm/libsofthsm2.so",
//		TokenLabel: "issuer",
//		PINFile:    "/run/credentials/pin",
//		Keyring:    ring,
//	})
//	…
//	defer tok.Close(ctx)
//	key, err := tok.Active(hsm.TAVSigning)
//	sig, err := tok.Sign(ctx, key.Name, digest[:], crypto.SHA256)
//	sealed, err := tok.AgreeAndSeal(ctx, hsm.Sealing{Peer: …, Plaintext: …})
//	signer, err := tok.Signer(ctx, key.Name) // a crypto.Signer, for TLS, CMS and JWT
//
// What it promises:
//
//   - One owner per module opens crypto11 first and miekg/pkcs11 beside it; both share
//     one login. crypto11 backs the long-lived signing keys; what it cannot do
//     (ephemeral pairs, key agreement, C_DigestKey, attributes, secret keys without its
//     panics) goes through miekg, except calls whose output has a known length: these
//     go to the module with a buffer of ours, which is overwritten.
//   - Every session and object handle belongs to an epoch, the time between one login
//     and its end. A handle is never used outside its epoch: after C_Finalize and
//     C_Initialize an old handle number may name another key, and sign with it.
//   - A key is used only if it is in the keyring and the token's key answers to its pin;
//     all pins are checked once an epoch, in one enumerating pass. A key that is missing
//     or differs is unusable by itself; the others serve.
//   - A keyring is taken up while work goes on (Use), as a new epoch: what was done by the
//     old one is over when Use returns, and a key that is retired makes nothing from then on.
//   - An ephemeral key pair seals exactly one payload and is destroyed on every path;
//     both are counted (Stats).
//   - Errors are classed by their CKR code (Class), never by text.
//   - Calls are admitted through bounded lanes, of which none keeps another one waiting;
//     the time in the queue and the time in the token are reported apart (Observer).
//
// A member's module may have a process of its own (Config.Isolation): whoever calls Start with
// such a configuration calls ServeMember when its first argument is MemberCommand. A call that
// hangs inside a vendor's library for good, or crashes, then costs that process.
//
// What it does not promise: a call that hangs cannot be cancelled; in this process it is for
// Config.OnWedged to end it. Where the shared secret itself must be read (KDF way
// read-and-wipe), it passes through C memory that the binding frees without overwriting.
package hsm
