package hsm

import (
	"context"
	"crypto"
	"io"
)

// Signer gives the active key called name as a crypto.Signer, for TLS, CMS and JWT.
//
// Its Public is the pinned key. Its Sign is Token.Sign: the token's own randomness is
// used, and RSASSA-PSS is refused. The context bounds each signature; one that lives as
// long as the process, as TLS needs it, is given context.Background(). Each signature has
// Config.CallTimeout at most, including its time in the queue.
//
// Errors: *KeyError, also for a key that is next or retired and would not sign; *DownError
// while nothing is known of the keys. A Signer outlives epochs: what comes later is its
// Sign's error.
func (t *Token) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	return memberSigner(ctx, t, name)
}

func memberSigner(ctx context.Context, m Member, name string) (crypto.Signer, error) {
	pub, err := signerKey(name, m.Public, m)
	if err != nil {
		return nil, err
	}
	return &signer{pub: pub, sign: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return signInTime(ctx, m, name, digest, opts)
	}}, nil
}

// Signer gives the active key called name as a crypto.Signer; see Token.Signer. It is
// there also while no member is, once the key has been proved. Each signature has
// Config.CallTimeout at most for each member that is asked.
func (h *HSM) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	pub, err := signerKey(name, h.Public, h.members...)
	if err != nil {
		return nil, err
	}
	return &signer{pub: pub, sign: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return ask(ctx, h, signing(ctx, h, name), func(ctx context.Context, t Member) ([]byte, error) { return signInTime(ctx, t, name, digest, opts) })
	}}, nil
}

// signerKey gives the public key of the key called name, if a member's keyring has it sign:
// while they take up another keyring it need not be every one's.
func signerKey(name string, public func(string) (crypto.PublicKey, error), members ...Member) (crypto.PublicKey, error) {
	problem := map[State]KeyProblem{Next: KeyNext, Retired: KeyRetired}
	var k Key
	for _, m := range members {
		k, _ = m.keyring().Find(name)
		if problem[k.State] == "" {
			return public(name)
		}
	}
	return nil, &KeyError{Name: name, Problem: problem[k.State]}
}

// signInTime is Sign for callers that may have no deadline of their own.
func signInTime(ctx context.Context, t Member, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, t.callTimeout())
	defer cancel()
	return t.Sign(ctx, name, digest, opts)
}

// signer is a key of a token, or of several, as a crypto.Signer.
type signer struct {
	pub  crypto.PublicKey
	sign func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (s *signer) Public() crypto.PublicKey { return s.pub }

func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(digest, opts)
}
