package ceremony

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/passkit"
)

// The files that a ceremony makes beside the certificates and requests.
const (
	KeyringFile    = "keyring.yaml"
	TranscriptFile = "transcript.txt"
)

// Token is what a ceremony asks of the member; *hsm.Token is one.
type Token interface {
	Name() string
	Inventory(ctx context.Context) (hsm.Inventory, error)
	Use(ctx context.Context, ring *hsm.Keyring) error
	Generate(ctx context.Context, n hsm.NewKey, now time.Time) (entry hsm.Key, narrowed bool, err error)
	Adopt(ctx context.Context, n hsm.NewKey, id string, now time.Time) (hsm.Key, error)
	Answers(ctx context.Context, k hsm.Key, pin hsm.Pin) (bool, error)
	Public(name string) (crypto.PublicKey, error)
	Destroy(ctx context.Context, name string) error
	SelfTest(ctx context.Context, name string) error
}

var _ Token = (*hsm.Token)(nil)

// A Place is where a plan is carried out.
type Place struct {
	Token Token
	Ring  *hsm.Keyring // as it was before, which the token is opened with
	// Folder holds the certificates that the plan names.
	Folder string
	// Request makes a request for a certificate in PEM, on record. Its key is active.
	Request func(ctx context.Context, r Request) ([]byte, error)
	Now     func() time.Time
	// Say tells people what is being done.
	Say func(format string, a ...any)
}

// A Step is one thing that was done.
type Step struct {
	Do  string `json:"do"`
	Key string `json:"key"`
	// Found is what came of it: the pin of a key, the digest of a file.
	Found    string        `json:"found,omitempty"`
	Template *hsm.Template `json:"template,omitempty"`
}

// Done is what a run has done, also one that failed.
type Done struct {
	Steps []Step
	Ring  *hsm.Keyring
	Files map[string][]byte // certificates and requests, by name
}

// ErrToken is wrapped by what a rehearsal finds on the token.
var ErrToken = errors.New("the token is not as the plan has it")

// Rehearse makes sure that the token is as the plan has it, and changes nothing: no label or
// CKA_ID of a key to make is taken, what is taken over or destroyed is there and is what it
// is said to be, and the certificates are for their keys.
func (p *Plan) Rehearse(ctx context.Context, at Place) error {
	if at.Token.Name() != p.Member {
		return fmt.Errorf("%w: member is %q, and it is %q", ErrToken, p.Member, at.Token.Name())
	}
	inv, err := at.Token.Inventory(ctx)
	if err != nil {
		return err
	}
	wrong := p.takenLabels(inv)
	for _, a := range p.Adopt {
		k := a.entry(at.Now())
		k.ID, k.Provenance = a.ID, hsm.Imported
		wrong = append(wrong, answers(ctx, at.Token, k, a.Pin))
	}
	for _, f := range p.Pin {
		k, _ := at.Ring.Find(f.Key)
		wrong = append(wrong, answers(ctx, at.Token, k, k.Pins[f.From]))
	}
	for _, d := range p.Destroy {
		k, _ := at.Ring.Find(d.Key)
		wrong = append(wrong, answers(ctx, at.Token, k, d.Pin))
	}
	for _, c := range p.Certificates {
		k, ok := at.Ring.Find(c.Key)
		if !ok {
			wrong = append(wrong, fmt.Errorf("certificate for %s: the key has none before the ceremony is over", c.Key))
			continue
		}
		_, err := c.read(at, k)
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// takenLabels reports keys to make whose labels stand on the token.
func (p *Plan) takenLabels(inv hsm.Inventory) (wrong []error) {
	taken := map[string]bool{}
	for _, k := range inv.Keys {
		for _, o := range k.Objects {
			taken[o.Label] = true
		}
	}
	for _, o := range inv.Unlisted {
		taken[o.Label] = true
	}
	for _, g := range p.Generate {
		if taken[g.Name] {
			wrong = append(wrong, fmt.Errorf("%w: the label %s is taken", ErrToken, g.Name))
		}
	}
	return wrong
}

// answers reports a key that is not there, or is another one.
func answers(ctx context.Context, t Token, k hsm.Key, pin hsm.Pin) error {
	same, err := t.Answers(ctx, k, pin)
	if err == nil && !same {
		err = fmt.Errorf("%w: key %s does not answer to its pin", ErrToken, k.Name)
	}
	return err
}

// read gives a certificate that was reviewed and is for its key, in PEM as the keyring has
// it, also where it came in DER.
func (c Certificate) read(at Place, k hsm.Key) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(at.Folder, c.File))
	if err != nil {
		return nil, err
	}
	if digest(b) != c.SHA256 {
		return nil, fmt.Errorf("certificate %s is another file than the one that was reviewed", c.File)
	}
	chain, err := CheckedChain(b, c.File, k, at.Now())
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, link := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: link.Raw})...)
	}
	return text, nil
}

// CheckedChain reads what a certificate's file holds, in PEM or DER, the key's own first. One
// that is not the key's, has ended, or, for passes, lacks its issuer is refused by the name of
// its file: no certificate that cannot serve comes to a key, in a ceremony or beside one.
func CheckedChain(b []byte, file string, k hsm.Key, now time.Time) ([]*x509.Certificate, error) {
	chain, err := hsm.ParseChain(b)
	if err == nil {
		err = k.CheckCertificate(chain[0], now)
	}
	if err == nil && k.Purpose == hsm.Pass {
		err = passkit.CheckCertificates(chain, passkit.AppleIntermediates(), nil)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s for key %s: %w", file, k.Name, err)
	}
	return chain, nil
}

// Run carries the plan out, after Rehearse. Keys are made, the keyring changes, requests are
// signed; then every new key is proved, and only when all are, keys are destroyed: what takes
// a key's place works before the key is gone. Its error says at what it stopped; what it gives
// beside it was done and is to be accounted for.
func (p *Plan) Run(ctx context.Context, at Place) (Done, error) {
	r := &running{plan: p, at: at, done: Done{Ring: at.Ring.Clone(), Files: map[string][]byte{}}}
	for _, do := range []func(context.Context) error{r.adopt, r.generate, r.pin, r.states, r.certificates, r.requests, r.prove, r.destroy} {
		if err := do(ctx); err != nil {
			return r.done, err
		}
	}
	return r.done, nil
}

// running is a run under way.
type running struct {
	plan *Plan
	at   Place
	done Done
	made []string // the keys that are new on this member
}

func (r *running) did(do, key, found string) {
	r.done.Steps = append(r.done.Steps, Step{Do: do, Key: key, Found: found})
	r.at.Say("%s %s: %s", do, key, found)
}

// entry gives the keyring's entry of a key, to be changed.
func (r *running) entry(name string) *hsm.Key {
	i := slices.IndexFunc(r.done.Ring.Keys, func(k hsm.Key) bool { return k.Name == name })
	return &r.done.Ring.Keys[i] // the rehearsal has found it
}

// add takes a new key in.
func (r *running) add(do string, g Generate, k hsm.Key) {
	k.Until, k.Alias = g.Until, g.Alias
	r.done.Ring.Keys = append(r.done.Ring.Keys, k)
	r.made = append(r.made, k.Name)
	r.did(do, k.Name, string(k.Pins[r.plan.Member]))
	template := hsm.TemplateOf(k.Purpose, k.Algorithm)
	r.done.Steps[len(r.done.Steps)-1].Template = &template
}

func (r *running) adopt(ctx context.Context) error {
	for _, a := range r.plan.Adopt {
		k, err := r.at.Token.Adopt(ctx, a.newKey(r.at.Now()), a.ID, r.at.Now())
		if err == nil {
			err = answers(ctx, r.at.Token, k, a.Pin) // not only when it was rehearsed
		}
		if err != nil {
			return err
		}
		r.add("adopt", a.Generate, k)
	}
	return nil
}

func (r *running) generate(ctx context.Context) error {
	for _, g := range r.plan.Generate {
		k, narrowed, err := r.at.Token.Generate(ctx, g.newKey(r.at.Now()), r.at.Now())
		if err != nil {
			return err
		}
		r.add("generate", g, k)
		if !narrowed {
			r.did("note", k.Name, "the token took neither CKA_ALLOWED_MECHANISMS nor CKA_COPYABLE=false")
		}
	}
	return nil
}

func (r *running) pin(ctx context.Context) error {
	for _, f := range r.plan.Pin {
		k := r.entry(f.Key)
		if err := answers(ctx, r.at.Token, *k, k.Pins[f.From]); err != nil {
			return err
		}
		k.Pins = maps.Clone(k.Pins)
		k.Pins[r.plan.Member] = k.Pins[f.From]
		r.made = append(r.made, k.Name)
		r.did("pin", k.Name, string(k.Pins[f.From]))
	}
	return nil
}

func (r *running) states(context.Context) error {
	for _, s := range r.plan.States {
		if err := r.done.Ring.SetState(s.Key, s.State, r.at.Now().UTC().Format(time.DateOnly)); err != nil {
			return err
		}
		r.did("state", s.Key, string(s.State))
	}
	return nil
}

func (r *running) certificates(context.Context) error {
	for _, c := range r.plan.Certificates {
		k := r.entry(c.Key)
		b, err := c.read(r.at, *k)
		if err != nil {
			return err
		}
		k.Certificate, r.done.Files[c.File] = c.File, b
		r.did("certificate", c.Key, "sha256:"+c.SHA256)
	}
	return nil
}

// requests has each key sign its request, as its purpose's active one for that moment.
func (r *running) requests(ctx context.Context) error {
	for _, q := range r.plan.Requests {
		if err := r.at.Token.Use(ctx, r.done.Ring.Clone().Promoted(q.Key)); err != nil {
			return err
		}
		b, err := r.at.Request(ctx, q)
		if err != nil {
			return err
		}
		r.done.Files[q.Out] = b
		r.did("request", q.Key, "sha256:"+digest(b))
	}
	return nil
}

// destroy destroys keys, while the token still has the keyring that knows them. A public half
// is kept: old checkpoints, statements and requests are verified with it, and the keyring
// pins it no longer.
func (r *running) destroy(ctx context.Context) error {
	for _, d := range r.plan.Destroy {
		if err := r.keepPublic(r.entry(d.Key)); err != nil {
			return err
		}
		if err := r.at.Token.Destroy(ctx, d.Key); err != nil {
			return err
		}
		if err := r.done.Ring.Destroyed(d.Key, r.plan.Member); err != nil {
			return err
		}
		r.did("destroy", d.Key, string(d.Pin))
	}
	return r.done.Ring.Check()
}

func (r *running) keepPublic(k *hsm.Key) error {
	if !k.Algorithm.Public() {
		return nil
	}
	pub, err := r.at.Token.Public(k.Name)
	if err != nil {
		return fmt.Errorf("keep the public half of %s: %w", k.Name, err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return fmt.Errorf("keep the public half of %s: %w", k.Name, err)
	}
	r.done.Files[publicFile(k.Name)] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return nil
}

// publicFile is where the public half of a destroyed key is kept.
func publicFile(key string) string { return key + ".pem" }

// prove takes the new keyring into use and makes sure of every new key: it answers to its
// pin, it does its work, and if it was generated it has the flags of its purpose and no other.
func (r *running) prove(ctx context.Context) error {
	if err := errors.Join(r.done.Ring.Check(), r.at.Token.Use(ctx, r.done.Ring.Clone())); err != nil {
		return err
	}
	inv, err := r.at.Token.Inventory(ctx)
	if err != nil {
		return err
	}
	for _, k := range inv.Keys {
		if !slices.Contains(r.made, k.Name) {
			continue
		}
		if k.Problem != "" || len(k.Deviations) != 0 && k.Provenance == hsm.Generated {
			return fmt.Errorf("%w: key %s: %s %v", ErrToken, k.Name, k.Problem, k.Deviations)
		}
		if len(k.Deviations) != 0 { // of what somebody else made, for those who review it
			r.did("note", k.Name, strings.Join(k.Deviations, ", "))
		}
		if k.Algorithm.Public() && k.State != hsm.Retired { // one that is retired makes nothing, here too
			if err := r.at.Token.SelfTest(ctx, k.Name); err != nil {
				return fmt.Errorf("prove key %s: %w", k.Name, err)
			}
		}
		r.did("prove", k.Name, "answers to its pin")
	}
	return nil
}
