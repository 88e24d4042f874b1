package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// The subjects of bench.
const (
	rawRSA  = "raw RSA-2048"
	rawP256 = "raw P-256"
	rawCard = "raw sealed card"
)

// subjects are what is measured: each operation raw, and through the gate with its record.
func (o benchOptions) subjects(ctx context.Context, token *hsm.Token, g *benchGate, ring *hsm.Keyring) ([]bench.Subject, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	id := func(p hsm.Purpose) string {
		k, _ := ring.Active(p) // made just now
		return k.ID
	}
	loop := func(name string, args ...string) bench.Subject {
		l := bench.RawLoop{Program: self, Args: append(o.token(), args...)}
		return bench.Subject{Name: name, Measure: func(n int, d time.Duration) (bench.Point, error) { return l.Measure(ctx, n, d) }}
	}
	gate := func(name, against string, do func(context.Context) error) bench.Subject {
		return bench.Subject{Name: name, Raw: against, Measure: func(n int, d time.Duration) (bench.Point, error) {
			p, err := bench.Loop(n, d, bench.Own, func(int) error { return errors.Join(ctx.Err(), do(ctx)) })
			p.ClientCPU = 0 // there is no client: all of it is the gate's
			return p, err
		}}
	}
	all := []bench.Subject{
		loop(rawRSA, "--work", "rsa", "--rsa-id", id(hsm.MerchantJWT)),
		gate("gate: RS256 JWT", rawRSA, g.merchantJWT),
		loop(rawP256, "--work", "p256", "--p256-id", id(hsm.ProximityToken)),
		gate("gate: ES256 JWT", rawP256, g.proximityToken),
	}
	against := ""
	if token.KDF() == "digest-key" { // the way that the raw loop knows
		against = rawCard
		all = append(all, loop(rawCard, "--work", "card", "--rsa-id", id(hsm.TAVSigning), "--hmac-id", id(hsm.CardIndex), "--aes-id", id(hsm.CardVault)))
	}
	return append(all, gate("gate: sealed card", against, g.card)), nil
}

// benchGate is the gate of a token with a log of its own, in a directory that goes away.
type benchGate struct {
	gate  *signer.Gate
	log   *audit.Log
	store *store.Store
	dir   string

	to  *ecdh.PublicKey
	row signer.VaultRow
	tav signer.TAV
}

func newBenchGate(ctx context.Context, token *hsm.Token) (*benchGate, error) {
	dir, err := os.MkdirTemp("", "mintmark-bench-")
	if err != nil {
		return nil, err
	}
	g := &benchGate{gate: signer.New(token), dir: dir}
	if g.store, err = store.Open(ctx, filepath.Join(dir, "bench.db"), config.Test); err != nil {
		return nil, errors.Join(exit(exitStorage, err), os.RemoveAll(dir))
	}
	g.log = audit.New(g.store, time.Now)
	if err := g.prepare(ctx); err != nil {
		return nil, errors.Join(exit(exitHSM, err), g.close())
	}
	return g, nil
}

// prepare makes what a card is sealed from: a row of the vault, a receiver, a published test
// number that no issuer issues.
func (g *benchGate) prepare(ctx context.Context) error {
	receiver, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	pan, err := secret.ParsePAN([]byte("5204245250001488"))
	if err != nil {
		return err
	}
	g.to = receiver.PublicKey()
	g.tav = signer.TAV{Version: signer.TAVv3, PAN: pan, Expiry: secret.NewText("1249"), ValidUntil: time.Now().Add(24 * time.Hour)}
	ticket, err := g.log.Open(benchIntent(record.StoreCard))
	if err != nil {
		return err
	}
	g.row, err = g.gate.SealVault(ctx, ticket, benchMember, "row", make([]byte, 240))
	return err
}

func (g *benchGate) close() error { return errors.Join(g.store.Close(), os.RemoveAll(g.dir)) }

func benchIntent(op record.Operation) record.Intent {
	return record.Intent{Operation: op, Tenant: benchMember, Issuer: benchMember, Subject: benchMember, RequestID: newName(), Refs: map[string]string{"aud": benchMember}}
}

// newName is a name that nothing has.
func newName() string { return rand.Text() }

func benchClaims() jwt.MapClaims {
	now := time.Now()
	return jwt.MapClaims{
		"iss": benchMember, "sub": "merchant-1", "usr": "cashier-1", "aud": benchMember, "mbn": "Corner Shop", "mcc": "5411", "x-tid": "00000001",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
}

func (g *benchGate) merchantJWT(ctx context.Context) error {
	return g.signed(ctx, record.SignMerchantToken, g.gate.SignMerchantJWT)
}

func (g *benchGate) proximityToken(ctx context.Context) error {
	return g.signed(ctx, record.SignProximityToken, g.gate.SignProximityToken)
}

// signed takes a JWT from its ticket to its release.
func (g *benchGate) signed(ctx context.Context, op record.Operation, sign func(context.Context, *record.Ticket, jwt.Claims) (signer.SignedJWT, error)) error {
	ticket, err := g.log.Open(benchIntent(op))
	if err != nil {
		return err
	}
	made, err := sign(ctx, ticket, benchClaims())
	if err != nil {
		return err
	}
	receipt, err := g.log.Conclude(ctx, ticket, record.Done(made.Token.Digest()))
	if err != nil {
		return err
	}
	_, err = made.Token.Release(receipt)
	return err
}

// card does a signed card's token work, between its two records.
func (g *benchGate) card(ctx context.Context) error {
	ticket, err := g.log.Begin(ctx, benchIntent(record.SignCard))
	if err != nil {
		return err
	}
	_, err1 := g.gate.CardIndex(ctx, ticket, benchMember, "card-1")
	payload, err2 := g.gate.OpenVault(ctx, ticket, benchMember, "row", g.row)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	sealed, err1 := g.gate.SealECCv2(ctx, ticket, g.to, payload)
	tav, err2 := g.gate.SignTAV(ctx, ticket, g.tav)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	receipt, err := g.log.Conclude(ctx, ticket, record.Done(tav.Digest(), sealed.EphemeralPublicKey.Digest(), sealed.EncryptedData.Digest()))
	if err != nil {
		return err
	}
	_, err1 = tav.Release(receipt)
	_, err2 = sealed.EncryptedData.Release(receipt)
	return errors.Join(err1, err2)
}
