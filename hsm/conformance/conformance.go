// Package conformance tries a PKCS#11 token, with keys of its own that it removes again:
// what it can do of all that mintmark asks of a token, and what it does differently.
//
//	report := conformance.Run(ctx, member, conformance.Everything)
//	report.Print(os.Stdout)
//	if err := report.Err(); err != nil { … }
//
// The tests run it on each real module at hand; mintmark doctor --conformance runs it on
// an operator's own.
//
// Whatever the service does is done by the service's own code, package hsm, and what comes
// out is held against crypto/… of the standard library, which never saw it made. Beside it
// stands a second hand on the same library (raw), which no code of hsm is behind: it plays
// the operator who imports and destroys, and the trouble that ends sessions, the login, or
// the module under a working member.
//
// # What it leaves behind
//
// Nothing. Every key that is made has a label that begins with Prefix; all keys with such a
// label are destroyed at the end, whatever came before it, and at the beginning, for a run
// that was killed. Two runs on one token at a time would therefore disturb each other. No
// other object is written to, and no PIN tried but the configured one.
//
// # What it does not show
//
// Speed; what a cluster does when a member of it is lost; what a vendor's library does when
// its network goes: docs/hsm has what is known of these.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// Prefix begins the label of every key that a run makes.
const Prefix = "mintmark-conformance-"

// Outcome is what trying a capability gave.
type Outcome string

// The outcomes.
const (
	Yes     Outcome = "yes"
	No      Outcome = "no"
	Untried Outcome = "untried" // what it builds on is not there
)

// A Result is what one capability gave.
type Result struct {
	Capability string  `json:"capability"`
	Needed     bool    `json:"needed"` // by one of the keys that Run was told of
	Outcome    Outcome `json:"outcome"`
	Note       string  `json:"note,omitempty"`
}

// A Report is what a run found out about one member.
type Report struct {
	Member  string   `json:"member"`
	Module  string   `json:"module"` // its path
	Library string   `json:"library,omitempty"`
	Token   string   `json:"token,omitempty"`
	Date    string   `json:"date"` // UTC, YYYY-MM-DD
	Results []Result `json:"results,omitempty"`
	// Left are the labels of keys that could not be destroyed.
	Left []string `json:"left,omitempty"`
	// Error is why the run ended before it had tried everything.
	Error string `json:"error,omitempty"`
}

// Err reports nil if the token has all that is needed, and nothing was left on it.
func (r Report) Err() error {
	var wrong []error
	if r.Error != "" {
		wrong = append(wrong, errors.New(r.Error))
	}
	for _, c := range r.Results {
		if c.Needed && c.Outcome != Yes {
			wrong = append(wrong, fmt.Errorf("%s: %s: %s", c.Capability, c.Outcome, c.Note))
		}
	}
	if len(r.Left) > 0 {
		wrong = append(wrong, fmt.Errorf("disposable keys are left on the token: %s", strings.Join(r.Left, ", ")))
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("member %s: %w", r.Member, errors.Join(wrong...))
}

// Everything is a key of each purpose and algorithm that mintmark has, for Run.
var Everything = everything()

func everything() []hsm.Key {
	var all []hsm.Key
	for _, p := range hsm.Purposes() {
		all = append(all, hsm.Key{Purpose: p, Algorithm: p.DefaultAlgorithm()})
	}
	return all
}

// Run tries the member that cfg describes; of its keyring only the environment is looked
// at. The purposes and algorithms of needs say which capabilities it must have. Nobody else
// in this process may have the module open, since it is finalized more than once.
func Run(ctx context.Context, cfg hsm.Config, needs []hsm.Key) Report {
	cfg.Keyring = &hsm.Keyring{Environment: cfg.Keyring.Environment}
	cfg.KeepAlive = 24 * time.Hour // no call but those that are tried
	cfg.OnWedged, cfg.Observer = nil, nil
	cfg.Log = slog.New(slog.DiscardHandler) // what is wrong is in the results
	b := &bench{cfg: cfg, needs: needs, keys: map[string]hsm.Key{}, missing: map[string]string{}}
	b.report = Report{Member: cfg.Name, Module: cfg.Module, Date: time.Now().UTC().Format(time.DateOnly)}
	if err := b.run(ctx); err != nil {
		b.report.Error = err.Error()
	}
	return b.report
}

// bench is one run.
type bench struct {
	cfg    hsm.Config
	needs  []hsm.Key
	tok    *hsm.Token
	raw    *raw
	keys   map[string]hsm.Key // the disposable keys, by what they are for
	report Report
	// missing says of a key that there is none, why.
	missing map[string]string
	ways    []hsm.Probe // of the key derivation, once they were tried
	// narrowed counts the keys whose narrowing attributes the token took, and all keys.
	narrowed, generated int
}

// A check tries one capability. Its note says what came out; an error is No, one that is
// errUntried Untried.
type check struct {
	name   string
	needed func(hsm.Key) bool // by a key of this purpose and algorithm; nil for no key
	try    func(ctx context.Context, b *bench) (note string, err error)
}

// untried is why a capability was not tried.
type untried string

func (u untried) Error() string { return string(u) }

// run opens the token, makes the keys, tries everything and removes the keys.
func (b *bench) run(ctx context.Context) (err error) {
	if err := b.openAny(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if b.raw, err = newRaw(ctx, b.cfg.Module, b.tok); err != nil {
		return err
	}
	defer b.raw.close()
	b.report.Library, b.report.Token = b.raw.library, b.raw.token
	defer func() { err = errors.Join(err, b.clean(ctx)) }()
	if err := b.destroyAll(); err != nil { // what a killed run has left
		return err
	}
	if err := b.makeKeys(ctx); err != nil {
		return err
	}
	for _, c := range b.checks() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.try(ctx, c)
	}
	return nil
}

func (b *bench) try(ctx context.Context, c check) {
	r := Result{Capability: c.name, Outcome: Yes}
	for _, k := range b.needs {
		r.Needed = r.Needed || (c.needed != nil && c.needed(k))
	}
	note, err := c.try(ctx, b)
	r.Note = note
	var why untried
	switch {
	case errors.As(err, &why):
		r.Outcome, r.Note = Untried, why.Error()
	case err != nil:
		r.Outcome, r.Note = No, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	b.report.Results = append(b.report.Results, r)
}

// openAny opens the token; one that cannot agree on keys as one that signs only.
func (b *bench) openAny(ctx context.Context) error {
	err := b.open(ctx)
	if err == nil || b.cfg.SignaturesOnly || errors.Is(err, hsm.ErrLoginRefused) || errors.Is(err, hsm.ErrTokenNotFound) {
		return err
	}
	b.cfg.SignaturesOnly = true
	if b.open(ctx) != nil {
		return err
	}
	return nil
}

func (b *bench) open(ctx context.Context) (err error) {
	b.tok, err = hsm.Open(ctx, b.cfg)
	return err
}

// closeWithin bounds what is done at the end, beside the last call, which an interrupted run
// waits for.
const closeWithin = 30 * time.Second

func (b *bench) close() error {
	if b.tok == nil { // it could not be opened again
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin+b.cfg.CallTimeout)
	defer cancel()
	err := b.tok.Close(ctx)
	if err == nil {
		b.tok = nil
	}
	return err
}

// reopen opens the token with all keys made so far in its keyring.
func (b *bench) reopen(ctx context.Context) error {
	if err := b.close(); err != nil {
		return err
	}
	ring := &hsm.Keyring{Environment: b.cfg.Keyring.Environment}
	for _, k := range b.keys {
		ring.Keys = append(ring.Keys, k)
	}
	b.cfg.Keyring = ring
	return b.open(ctx)
}

// clean destroys all disposable keys. After an interrupt, and in trouble, it closes the member
// first and opens it anew: a call that was left in the token may be making a key, and a key that
// is destroyed under a call crashes SoftHSM.
func (b *bench) clean(ctx context.Context) error {
	if ctx.Err() == nil && b.tok != nil && b.tok.Ready() == nil && b.destroyAll() == nil {
		return nil
	}
	if err := b.close(); err != nil {
		b.tok = nil // it has had its time
		return uncleaned(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin+b.cfg.CallTimeout)
	defer cancel()
	b.cfg.Keyring = &hsm.Keyring{Environment: b.cfg.Keyring.Environment}
	if err := b.open(ctx); err != nil {
		return uncleaned(err)
	}
	return b.destroyAll()
}

// destroyAll destroys all disposable keys. Nobody else is at work.
func (b *bench) destroyAll() (err error) {
	if b.report.Left, err = b.raw.destroyAll(); err != nil {
		return uncleaned(err)
	}
	return nil
}

func uncleaned(err error) error {
	return fmt.Errorf("remove the disposable keys (labels that begin with %s): %w", Prefix, err)
}

// checks are all of them, in the order in which they are printed. What ends sessions and
// logins comes last.
func (b *bench) checks() []check {
	var all []check
	all = append(all, b.signing()...)
	all = append(all, agreement()...)
	all = append(all, secretKeys()...)
	all = append(all, templates()...)
	return append(all, recovery()...)
}

// always is needed by every key.
func always(hsm.Key) bool { return true }
