package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"github.com/mintmark/mintmark/hsm"
)

// A Plan is the reviewed file: what is done, on which member, and by whom. What it does not
// say is not done. Steps are done in the order of the members here.
type Plan struct {
	// Ceremony is what it is called: a-z, 0-9, '.', '_', '-'.
	Ceremony string `yaml:"ceremony"`
	// Environment must be the configuration's.
	Environment string `yaml:"environment"`
	// Member is the HSM member that it is done on.
	Member string `yaml:"member"`
	// People are those who answer for it: two or more, each with a key of their own.
	People []Person `yaml:"people"`

	// Adopt takes over keys that were imported with the vendor's tools.
	Adopt []Adopt `yaml:"adopt"`
	// Generate makes keys.
	Generate []Generate `yaml:"generate"`
	// Pin pins keys that stand on another member too.
	Pin []PinFrom `yaml:"pin"`
	// States moves keys on in their life.
	States []StateChange `yaml:"states"`
	// Certificates take up what a CA issued.
	Certificates []Certificate `yaml:"certificates"`
	// Requests make requests for certificates.
	Requests []Request `yaml:"requests"`
	// Destroy destroys retired keys.
	Destroy []Destroy `yaml:"destroy"`

	text []byte
}

// A Person signs the file. One of SSH and Certificate is set.
type Person struct {
	Name string `yaml:"name"`
	// SSH is a public key as in authorized_keys: type and Base64.
	SSH string `yaml:"ssh"`
	// Certificate is an X.509 certificate in PEM.
	Certificate string `yaml:"certificate"`
}

// Generate is a key to make.
type Generate struct {
	Name      string        `yaml:"name"`
	Purpose   hsm.Purpose   `yaml:"purpose"`
	Algorithm hsm.Algorithm `yaml:"algorithm"` // empty for the purpose's default
	State     hsm.State     `yaml:"state"`     // active or next; empty for next
	Until     string        `yaml:"until"`     // end of the cryptoperiod; empty for the purpose's
	Alias     string        `yaml:"alias"`
	// Template, where it is given, must be what the purpose's keys are made from.
	Template *hsm.Template `yaml:"template"`
}

// Adopt is a key to take over.
type Adopt struct {
	Generate `yaml:",inline"`
	ID       string `yaml:"id"` // CKA_ID, hex
	// Pin is what the key must answer to: a sample, an HMAC, the SHA-256 of its public half,
	// or tdea-kcv: and the check value of the network's letter.
	Pin hsm.Pin `yaml:"pin"`
}

// PinFrom pins a listed key on this member, if it answers to the pin of another one.
type PinFrom struct {
	Key  string `yaml:"key"`
	From string `yaml:"from"` // the other member
}

// A StateChange moves a key on.
type StateChange struct {
	Key   string    `yaml:"key"`
	State hsm.State `yaml:"state"` // active or retired
}

// A Certificate is taken up for a key.
type Certificate struct {
	Key    string `yaml:"key"`
	File   string `yaml:"file"`   // beside the plan
	SHA256 string `yaml:"sha256"` // of the file, hex: what was reviewed is what is taken up
}

// A Request asks for a certificate.
type Request struct {
	Key          string   `yaml:"key"`
	CommonName   string   `yaml:"commonName"`
	Organization string   `yaml:"organization"`
	Unit         string   `yaml:"unit"`
	Country      string   `yaml:"country"`
	Email        string   `yaml:"email"`
	DNS          []string `yaml:"dns"`
	Out          string   `yaml:"out"` // the file to make
}

// Destroy destroys a retired key.
type Destroy struct {
	Key string  `yaml:"key"`
	Pin hsm.Pin `yaml:"pin"` // of this member, as the keyring has it
}

// maxPlan bounds a plan in bytes.
const maxPlan = 1 << 20

// Parse reads a plan. Unknown and repeated members and a second document are refused, and so
// is what a reader might see otherwise than the parser: see plain.
func Parse(text []byte) (*Plan, error) {
	if len(text) > maxPlan {
		return nil, errors.New("the file is larger than 1 MiB")
	}
	if err := plain(text); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	p := &Plan{text: bytes.Clone(text)}
	if err := dec.Decode(p); err != nil {
		return nil, err
	}
	var rest any
	if err := dec.Decode(&rest); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	return p, nil
}

// plain reports what would have people review another text than is carried out: characters
// that cannot be seen or turn the direction of writing, line breaks that not every program
// takes for one, anchors, aliases and tags.
func plain(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("the file is not UTF-8")
	}
	unseen := func(r rune) bool { return r != '\n' && r != ' ' && !unicode.IsPrint(r) || r == utf8.RuneError }
	if i := bytes.IndexFunc(text, unseen); i >= 0 {
		r, _ := utf8.DecodeRune(text[i:])
		return fmt.Errorf("line %d has the character %U, which cannot be seen", 1+bytes.Count(text[:i], []byte("\n")), r)
	}
	for _, t := range lexer.Tokenize(string(text)) {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType:
			return fmt.Errorf("line %d: %s: anchors, aliases, tags and directives are not taken: write out what is meant", t.Position.Line, t.Type)
		default:
		}
	}
	return nil
}

// Digest is the SHA-256 of the plan's file, hex.
func (p *Plan) Digest() string { return digest(p.text) }

var (
	planName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,79}$`) // destroy- and the name of a key
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
)

// Check reports everything that is wrong with the plan for a keyring, without a token.
func (p *Plan) Check(ring *hsm.Keyring, now time.Time) error {
	var wrong []error
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	if !planName.MatchString(p.Ceremony) {
		say("ceremony must be 1 to 80 characters of a-z, 0-9, '.', '_', '-'")
	}
	if p.Environment != ring.Environment {
		say("environment is %q, and the keyring's is %q", p.Environment, ring.Environment)
	}
	if len(p.Adopt)+len(p.Pin)+len(p.Generate)+len(p.States)+len(p.Certificates)+len(p.Requests)+len(p.Destroy) == 0 {
		say("there is nothing to do")
	}
	wrong = append(wrong, p.checkPeople()...)
	wrong = append(wrong, p.checkFiles(ring)...)
	after, errs := p.rehearse(ring, now)
	wrong = append(wrong, errs...)
	if len(errs) == 0 {
		if err := errors.Join(after.Check(), after.Follows(ring)); err != nil {
			say("the keyring would be wrong: %w", err)
		}
		if _, err := after.Active(hsm.AuditReport); err != nil {
			say("no key for %s would be active, and the transcript could not be signed: generate one", hsm.AuditReport)
		}
	}
	return errors.Join(wrong...)
}

// rehearse does on a copy of the keyring what the plan does, with keys that are not there.
func (p *Plan) rehearse(ring *hsm.Keyring, now time.Time) (after *hsm.Keyring, wrong []error) {
	after = ring.Clone()
	for i, a := range p.Adopt {
		k := a.entry(now)
		k.ID, k.Provenance = a.ID, hsm.Imported
		at := fmt.Sprintf("adopt[%d] (%s)", i, a.Name)
		if a.Pin == "" {
			wrong = append(wrong, fmt.Errorf("%s: pin is missing: what is taken over must be known", at))
		}
		wrong = append(wrong, a.addTo(after, k, at)...)
	}
	for i, g := range p.Generate {
		k := g.entry(now)
		k.ID = fmt.Sprintf("%x", g.Name)
		wrong = append(wrong, g.addTo(after, k, fmt.Sprintf("generate[%d] (%s)", i, g.Name))...)
	}
	return after, append(wrong, p.rehearseChanges(ring, after, now)...)
}

// addTo adds the entry of a new key to the copy.
func (g Generate) addTo(after *hsm.Keyring, k hsm.Key, at string) (wrong []error) {
	if want := hsm.TemplateOf(k.Purpose, k.Algorithm); g.Template != nil && !g.Template.Equal(want) {
		wrong = append(wrong, fmt.Errorf("%s: template is not the one of %s: %+v", at, k.Purpose, want))
	}
	if _, ok := after.Find(g.Name); ok {
		wrong = append(wrong, fmt.Errorf("%s: %w in the keyring or the plan", at, hsm.ErrKeyExists))
	}
	if slices.ContainsFunc(after.Keys, func(other hsm.Key) bool { return other.ID == k.ID }) {
		wrong = append(wrong, fmt.Errorf("%s: id is another key's", at))
	}
	after.Keys = append(after.Keys, k)
	return wrong
}

// rehearseChanges does what the plan does to keys that are there; ring is the keyring before.
func (p *Plan) rehearseChanges(ring, after *hsm.Keyring, now time.Time) (wrong []error) {
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	for i, f := range p.Pin {
		k, ok := after.Find(f.Key)
		_, from := k.Pins[f.From]
		if _, here := k.Pins[p.Member]; !ok || !from || here || f.From == p.Member {
			say("pin[%d] (%s): the key must be listed, have a pin of member %q, and none of %q", i, f.Key, f.From, p.Member)
		}
	}
	for i, s := range p.States {
		if err := after.SetState(s.Key, s.State, now.UTC().Format(time.DateOnly)); err != nil {
			say("states[%d]: %w", i, err)
		}
	}
	for _, name := range p.certified() {
		if k, ok := after.Find(name); !ok || !k.Purpose.Certified() || k.State == hsm.Retired {
			say("certificate or request for %s: the key must be listed, be for something that others certify and not be retired", name)
		}
	}
	for i, d := range p.Destroy {
		k, _ := ring.Find(d.Key)
		if k.State != hsm.Retired || k.Pins[p.Member] != d.Pin || d.Pin == "" {
			say("destroy[%d] (%s): the key must be retired in the keyring already, and have this pin there", i, d.Key)
			continue
		}
		if err := after.Destroyed(d.Key, p.Member); err != nil {
			say("destroy[%d]: %w", i, err)
		}
	}
	return wrong
}

// certified are the keys of the certificates and requests.
func (p *Plan) certified() []string {
	var all []string
	for _, c := range p.Certificates {
		all = append(all, c.Key)
	}
	for _, r := range p.Requests {
		all = append(all, r.Key)
	}
	return all
}

// entry is the keyring entry of the key, but for what only the token can say.
func (g Generate) entry(now time.Time) hsm.Key {
	k := hsm.Key{
		Name: g.Name, Purpose: g.Purpose, Algorithm: g.Algorithm, State: g.State, Until: g.Until, Alias: g.Alias,
		Provenance: hsm.Generated, Created: now.UTC().Format(time.DateOnly), Pins: map[string]hsm.Pin{},
	}
	if k.Algorithm == "" {
		k.Algorithm = g.Purpose.DefaultAlgorithm()
	}
	if k.State == "" {
		k.State = hsm.Next
	}
	return k
}

// newKey is what the token is told to make.
func (g Generate) newKey(now time.Time) hsm.NewKey {
	k := g.entry(now)
	return hsm.NewKey{Name: k.Name, Purpose: k.Purpose, Algorithm: k.Algorithm, State: k.State}
}

// checkFiles reports names of files that are wrong, used twice, or those of certificates that
// stand beside the keyring already: what comes of a ceremony is put there.
func (p *Plan) checkFiles(ring *hsm.Keyring) []error {
	var wrong []error
	seen := map[string]bool{KeyringFile: true, TranscriptFile: true}
	for _, k := range ring.Keys {
		seen[k.Certificate] = true
	}
	for _, d := range p.Destroy {
		seen[publicFile(d.Key)] = true
	}
	check := func(at, name string) {
		if !fileName.MatchString(name) || name != filepath.Base(name) {
			wrong = append(wrong, fmt.Errorf("%s: %q is no plain file name", at, name))
		}
		if seen[name] {
			wrong = append(wrong, fmt.Errorf("%s: %s is used twice", at, name))
		}
		seen[name] = true
	}
	for i, c := range p.Certificates {
		check(fmt.Sprintf("certificates[%d].file", i), c.File)
		if len(c.SHA256) != 64 || strings.ToLower(c.SHA256) != c.SHA256 {
			wrong = append(wrong, fmt.Errorf("certificates[%d].sha256 must be the file's SHA-256 in lower-case hex", i))
		}
	}
	for i, r := range p.Requests {
		check(fmt.Sprintf("requests[%d].out", i), r.Out)
		if r.CommonName == "" {
			wrong = append(wrong, fmt.Errorf("requests[%d].commonName is missing", i))
		}
	}
	return wrong
}
