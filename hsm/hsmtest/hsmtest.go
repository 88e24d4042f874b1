// Package hsmtest gives tests what the rooms above hsm stand on: an open token, with a
// real SoftHSM behind it and one active key of each purpose on it.
//
//	token := hsmtest.New(t)
//	gate := signer.New(token.Token)
//	…
//	if token.Calls() != 0 {
//		t.Error("the token was asked")
//	}
//
// As softhsm.New it is for tests that run one after the other. The keys are made once for each
// set that tests ask for: those of two tests may be the same.
package hsmtest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/softhsm"
)

// Member is the name under which the token is opened.
const Member = "test"

// environment is that of the keyring.
const environment = "test"

// A Token is an open token of one test. Its keys are named after their purposes.
type Token struct {
	*hsm.Token // replaced by Reopen

	on     *softhsm.Token
	ring   *hsm.Keyring
	counts counts
}

// An Option makes one thing about the keys different.
type Option func([]hsm.NewKey) []hsm.NewKey

// With adds a key.
func With(k hsm.NewKey) Option {
	return func(keys []hsm.NewKey) []hsm.NewKey { return append(keys, k) }
}

// Without leaves out the key of a purpose.
func Without(p hsm.Purpose) Option {
	return func(keys []hsm.NewKey) []hsm.NewKey {
		return slices.DeleteFunc(keys, func(k hsm.NewKey) bool { return k.Purpose == p })
	}
}

// New makes a token with its keys and opens it; the test's end closes and removes it.
func New(t softhsm.TB, options ...Option) *Token {
	t.Helper()
	p := prototypeOf(t, options)
	tok := &Token{on: softhsm.NewFrom(t, p.image), ring: &hsm.Keyring{Environment: environment, Keys: slices.Clone(p.keys)}}
	tok.Token = tok.open(t)
	tok.counts.reset()
	t.Cleanup(func() { tok.shut(t) })
	return tok
}

// Image gives what New opens: a token's files and its keyring, for tests whose processes each
// open a copy, as replicated HSMs are.
func Image(t softhsm.TB, options ...Option) (softhsm.Image, *hsm.Keyring) {
	t.Helper()
	p := prototypeOf(t, options)
	return p.image, &hsm.Keyring{Environment: environment, Keys: slices.Clone(p.keys)}
}

// prototypeOf gives the token that these options ask for.
func prototypeOf(t softhsm.TB, options []Option) prototype {
	t.Helper()
	var keys []hsm.NewKey
	for _, p := range hsm.Purposes() {
		k := hsm.NewKey{Name: string(p), Purpose: p}
		if p == hsm.Pass {
			k.Algorithm = hsm.P256 // made in no time; RSA has its own tests
		}
		keys = append(keys, k)
	}
	for _, option := range options {
		keys = option(keys)
	}
	p, ok := prototypes[fmt.Sprint(keys)]
	if !ok {
		p = newPrototype(t, keys)
		prototypes[fmt.Sprint(keys)] = p
	}
	return p
}

// prototypes are the tokens that tests asked for, by their keys: making keys takes longer than
// most tests do.
var prototypes = map[string]prototype{}

// A prototype is a token as a test finds it.
type prototype struct {
	image softhsm.Image
	keys  []hsm.Key
}

func newPrototype(t softhsm.TB, keys []hsm.NewKey) prototype {
	t.Helper()
	tok := &Token{on: softhsm.New(t), ring: &hsm.Keyring{Environment: environment}}
	tok.Token = tok.open(t)
	var p prototype
	for _, k := range keys {
		entry, err := tok.make(k)
		if err != nil {
			t.Fatal(err)
		}
		p.keys = append(p.keys, entry)
	}
	tok.shut(t)
	var err error
	if p.image, err = tok.on.Image(); err != nil {
		t.Fatal(err)
	}
	return p
}

// TDEAKey is the value of every triple DES key: tests play the network, which has it too.
var TDEAKey = []byte("0123456789abcdefFEDCBA98")

func (tok *Token) make(k hsm.NewKey) (hsm.Key, error) {
	if k.Algorithm == hsm.TDEA || (k.Algorithm == "" && k.Purpose.DefaultAlgorithm() == hsm.TDEA) {
		return tok.ImportTDEA(context.Background(), k, TDEAKey, time.Now())
	}
	entry, _, err := tok.Generate(context.Background(), k, time.Now())
	return entry, err
}

// Reopen closes the token, has the keyring changed and opens the token with it, as a
// restart after an operator's work would. The calls so far are forgotten.
func (tok *Token) Reopen(t softhsm.TB, change func(*hsm.Keyring)) {
	t.Helper()
	tok.shut(t)
	tok.ring = &hsm.Keyring{Environment: tok.ring.Environment, Keys: slices.Clone(tok.ring.Keys)}
	change(tok.ring)
	tok.Token = tok.open(t)
	tok.counts.reset()
}

// Calls is how often the token was asked for anything.
func (tok *Token) Calls() int { return tok.counts.of("") }

// CallsOf is how often the token was asked for one operation, as hsm.Observer names it.
func (tok *Token) CallsOf(op string) int { return tok.counts.of(op) }

func (tok *Token) open(t softhsm.TB) *hsm.Token {
	t.Helper()
	opened, err := hsm.Open(context.Background(), hsm.Config{
		Name: Member, Module: tok.on.Module, TokenLabel: tok.on.Label, PINFile: tok.on.PINFile,
		CallTimeout: 5 * time.Minute, // RSA keys are made here, on whatever machine it is
		Keyring:     tok.ring, Observer: &tok.counts, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func (tok *Token) shut(t softhsm.TB) {
	t.Helper()
	if err := tok.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// counts is the hsm.Observer behind Calls.
type counts struct {
	mu   sync.Mutex // guards byOp
	byOp map[string]int
}

// MemberState counts nothing.
func (c *counts) MemberState(_, _ string) {}

func (c *counts) TokenCall(op, _ string, _, _ time.Duration, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byOp == nil {
		c.byOp = map[string]int{}
	}
	c.byOp[op]++
}

// of counts one operation, or all if op is empty.
func (c *counts) of(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if op != "" {
		return c.byOp[op]
	}
	n := 0
	for _, k := range c.byOp {
		n += k
	}
	return n
}

func (c *counts) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byOp = nil
}

// SoftHSM is the token behind it, for tests that prepare it as nobody should.
func (tok *Token) SoftHSM() *softhsm.Token { return tok.on }
