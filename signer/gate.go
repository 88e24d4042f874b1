package signer

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
)

// Keys are what the gate asks of the HSM: *hsm.HSM for a set of members, *hsm.Token for
// one. Both retry what may be retried; an error with a method RetryAfter says that a
// later try may succeed, a *hsm.KeyError which key cannot be used.
type Keys interface {
	// Ready reports, without asking any token, whether work can be taken.
	Ready() error
	Active(p hsm.Purpose) (hsm.Key, error)
	Key(name string) (hsm.Key, error)
	// Listed gives the keyring's keys of a purpose, whatever their state.
	Listed(p hsm.Purpose) []hsm.Key
	Public(name string) (crypto.PublicKey, error)
	// Signer gives a key as a crypto.Signer; each of its signatures is bounded by ctx.
	Signer(ctx context.Context, name string) (crypto.Signer, error)
	Sign(ctx context.Context, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	AgreeAndSeal(ctx context.Context, s hsm.Sealing) (hsm.Sealed, error)
	EncryptGCM(ctx context.Context, name string, iv, aad, plaintext []byte) ([]byte, error)
	DecryptGCM(ctx context.Context, name string, iv, aad, ciphertext []byte) ([]byte, error)
	HMAC(ctx context.Context, name string, data []byte) ([]byte, error)
	// Random gives n bytes of the token's random numbers.
	Random(ctx context.Context, n int) ([]byte, error)
	EncryptTDEA(ctx context.Context, name string, plaintext []byte) ([]byte, error)
	AgreeKey(ctx context.Context, name string, peer *ecdh.PublicKey, otherInfo []byte) ([]byte, error)
}

var (
	_ Keys = (*hsm.HSM)(nil)
	_ Keys = (*hsm.Token)(nil)
)

// Gate gives the operations. It is safe for concurrent use.
type Gate struct {
	keys Keys
	ids  sync.Map // of identified, by the name of the key
}

// New gives the gate to keys.
func New(keys Keys) *Gate { return &Gate{keys: keys} }

// needs are the purposes that an operation uses keys of.
var needs = map[record.Operation][]hsm.Purpose{
	record.SignCard:           {hsm.CardIndex, hsm.CardVault},
	record.ActivationData:     {hsm.CardIndex, hsm.CardVault},
	record.StoreCard:          {hsm.CardIndex, hsm.CardVault, hsm.CardTransport},
	record.ReadCard:           {hsm.CardIndex, hsm.CardVault},
	record.DeleteCard:         {hsm.CardIndex},
	record.SignMerchantToken:  {hsm.MerchantJWT},
	record.SignProximityToken: {hsm.ProximityToken},
	record.SignPass:           {hsm.Pass},
	record.PersonalizePass:    {hsm.Pass},
	record.SearchCards:        {hsm.CardVault},
	record.DecideProvisioning: {hsm.CardIndex},
	record.ActivateToken:      {hsm.CardIndex, hsm.CardVault},
	record.SendPasscode:       {hsm.CardIndex, hsm.CardVault, hsm.Passcode},
	record.VerifyPasscode:     {hsm.Passcode},
	record.CallNetwork:        {hsm.ConnectorJWS},
}

// Ready reports whether an operation has a chance at the moment: a member takes work, and
// the keys are there. It costs nothing: who would claim something single-use asks first.
func (g *Gate) Ready(op record.Operation) error { return g.ready(needs[op]) }

// ReadyInline is Ready for record.SignCard of a card that came with the request: it needs
// the key that it was encrypted to, and the one by which decisions about it are found, but
// nothing of the vault.
func (g *Gate) ReadyInline() error { return g.ready([]hsm.Purpose{hsm.CardTransport, hsm.CardIndex}) }

func (g *Gate) ready(purposes []hsm.Purpose) error {
	if err := g.keys.Ready(); err != nil {
		return err
	}
	for _, purpose := range purposes {
		if _, err := g.keys.Active(purpose); err != nil {
			return err
		}
	}
	return nil
}

// useFor marks an output as made, under a ticket for any of the operations.
func useFor(t *record.Ticket, output string, ops ...record.Operation) error {
	op := ops[0]
	if t != nil && slices.Contains(ops, t.Intent().Operation) {
		op = t.Intent().Operation
	}
	return t.Use(op, output)
}

// signRS256 signs message with the active key of a purpose: RSASSA-PKCS1-v1_5 with
// SHA-256 (RFC 8017, 8.2). What comes back has been verified against the pinned public
// key, where the member that signed can be told to be wrong and another be asked. alias is
// what the other side calls the key that signed; empty if its entry says nothing.
func (g *Gate) signRS256(ctx context.Context, purpose hsm.Purpose, message []byte) (sig []byte, alias string, err error) {
	digest := sha256.Sum256(message)
	sig, err = withActive(g, purpose, func(key hsm.Key) ([]byte, error) {
		alias = key.Alias
		return g.keys.Sign(ctx, key.Name, digest[:], crypto.SHA256)
	})
	return sig, alias, err
}
