package hsm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
)

// A Keyring is the reviewed list of the keys the service may use. It is a YAML file
// that stands under the operator's version control; a key of the token that is not
// listed is reported and never used.
//
//	environment: production
//	keys:
//	  - name: tav-2026
//	    purpose: tav-signing
//	    algorithm: RSA-2048
//	    id: 6f1c…                        # CKA_ID, hex
//	    pins:
//	      hsm-a: spki-sha256:9b1f…       # one entry per member of the set
//	    provenance: generated
//	    state: active
//	    created: "2026-11-22"
//
// Besides these a key may have a certificate, the date on which it was retired, an end of
// its cryptoperiod and the name by which its other side knows it.
type Keyring struct {
	// Environment is development, test or production; it must be the service's.
	Environment string `yaml:"environment"`
	// Keys are the keys, in any order.
	Keys []Key `yaml:"keys"`

	digest string
	bound  map[Purpose]bool // the purposes whose keys may be used; nil for all
}

// A Key is one entry of the keyring.
type Key struct {
	// Name is what the key is called inside mintmark, and its CKA_LABEL.
	Name string `yaml:"name"`
	// Purpose is the one use of the key.
	Purpose Purpose `yaml:"purpose"`
	// Algorithm is the key's type and size.
	Algorithm Algorithm `yaml:"algorithm"`
	// ID is the CKA_ID in hex; the key is found by it.
	ID string `yaml:"id"`
	// Pins holds, by member name, what the key on that member must answer to.
	Pins map[string]Pin `yaml:"pins"`
	// Provenance is generated (in the token) or imported.
	Provenance Provenance `yaml:"provenance"`
	// State is active, next or retired.
	State State `yaml:"state"`
	// Created is the date (YYYY-MM-DD) the key was made or imported.
	Created string `yaml:"created"`
	// Certificate is the path of a PEM file, relative to the keyring's folder, with the
	// key's certificate and the intermediates that lead from it towards a root; see Chain.
	// Only keys that have a public half have one.
	Certificate string `yaml:"certificate,omitempty"`
	// Retired is the date (YYYY-MM-DD) on which the key was retired.
	Retired string `yaml:"retired,omitempty"`
	// Until is the date (YYYY-MM-DD) by which the key is to be retired. Default: what
	// CryptoperiodEnd computes from the purpose.
	Until string `yaml:"until,omitempty"`
	// Alias is the name under which the key's other side knows it, where there is one: the
	// keyAlias of TAV version 4, Visa's key set identifier. It stands in place of the
	// configuration's, so that name and key change in one step.
	Alias string `yaml:"alias,omitempty"`

	chain []*x509.Certificate
}

// Provenance says where a key came into being.
type Provenance string

// The provenances.
const (
	Generated Provenance = "generated" // in the token; never outside one
	Imported  Provenance = "imported"  // it has been outside a token
)

// State says whether a key may be used for new work.
type State string

// The states.
const (
	Active  State = "active"  // used for new work
	Next    State = "next"    // published; opens and verifies, makes nothing yet
	Retired State = "retired" // still opens and verifies what it made; makes nothing new
)

// maxKeyring bounds a keyring file in bytes.
const maxKeyring = 4 << 20

// ErrNoKeyring is returned where there is no keyring file.
var ErrNoKeyring = errors.New("there is no such file")

// LoadKeyring reads and checks a keyring file and the certificates that it names. The
// error names everything that is wrong at once; it is ErrNoKeyring where there is no file.
func LoadKeyring(path string) (*Keyring, error) {
	b, err := readFile(path, maxKeyring)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load keyring %s: %w", path, ErrNoKeyring)
	}
	if err != nil {
		return nil, fmt.Errorf("load keyring: %w", err)
	}
	r, err := decodeKeyring(b)
	if err == nil {
		err = errors.Join(r.check(), r.readCertificates(filepath.Dir(path)))
	}
	if err != nil {
		return nil, fmt.Errorf("load keyring %s: %w", path, err)
	}
	return r, nil
}

// ParseKeyring reads and checks a keyring that stands in no folder: certificates are not
// read. Unknown members and a second YAML document are refused.
func ParseKeyring(b []byte) (*Keyring, error) {
	r, err := decodeKeyring(b)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func decodeKeyring(b []byte) (*Keyring, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	var r Keyring
	if err := dec.Decode(&r); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var rest any
	if err := dec.Decode(&rest); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	sum := sha256.Sum256(b)
	r.digest = hex.EncodeToString(sum[:])
	return &r, nil
}

// Only gives a view of the keyring for a process that has some roles and not others: of
// the keys only those of these purposes may be used, and no more than before. The others
// remain known, so that a token's key is not reported as unlisted for being somebody
// else's; they are not proved, and whoever asks for one gets KeyNotBound.
func (r *Keyring) Only(these ...Purpose) *Keyring {
	view := *r
	view.Keys = slices.Clone(r.Keys)
	view.bound = map[Purpose]bool{}
	for _, p := range these {
		view.bound[p] = r.binds(p)
	}
	return &view
}

// binds reports whether keys of a purpose may be used.
func (r *Keyring) binds(p Purpose) bool { return r.bound == nil || r.bound[p] }

// Digest is the SHA-256, in hex, of the file that the keyring was read from.
func (r *Keyring) Digest() string { return r.digest }

// Find gives the key called name.
func (r *Keyring) Find(name string) (Key, bool) {
	for _, k := range r.Keys {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// Active gives the key that new work of a purpose uses; the first, where several may be
// active since they are used by name. The error is a *KeyError.
func (r *Keyring) Active(p Purpose) (Key, error) {
	if !r.binds(p) {
		return Key{}, &KeyError{Name: string(p), Problem: KeyNotBound}
	}
	for _, k := range r.Keys {
		if k.Purpose == p && k.State == Active {
			return k, nil
		}
	}
	return Key{}, &KeyError{Name: string(p), Problem: KeyNotListed}
}

// Save writes the keyring to path, replacing it whole or not at all. Certificates stay
// where they are, and their paths as written.
func (r *Keyring) Save(path string) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	b, err := yaml.MarshalWithOptions(r, yaml.IndentSequence(true))
	if err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	if err := replaceFile(path, b); err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	sum := sha256.Sum256(b)
	r.digest = hex.EncodeToString(sum[:])
	return nil
}

var (
	keyName  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	keyAlias = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	keyDate  = time.DateOnly
)

// check reports everything that is wrong with the keyring.
func (r *Keyring) check() error {
	var wrong []error
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	switch r.Environment {
	case "development", "test", "production":
	default:
		say("environment is %q; it must be development, test or production", r.Environment)
	}
	names, ids, active := map[string]bool{}, map[string]string{}, map[Purpose]string{}
	for i, k := range r.Keys {
		at := fmt.Sprintf("keys[%d] (%s)", i, k.Name)
		for _, err := range k.check() {
			say("%s: %w", at, err)
		}
		if names[k.Name] {
			say("%s: the name is used twice", at)
		}
		names[k.Name] = true
		if other, ok := ids[k.ID]; ok {
			say("%s: id is also that of %s", at, other)
		}
		ids[k.ID] = k.Name
		if k.State != Active || k.Purpose.Several() {
			continue
		}
		if other, ok := active[k.Purpose]; ok {
			say("%s: %s is active for %s too; make one of them next or retired", at, other, k.Purpose)
		}
		active[k.Purpose] = k.Name
	}
	return errors.Join(wrong...)
}

func (k Key) check() []error {
	var wrong []error
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	if !keyName.MatchString(k.Name) {
		say("name must be 1 to 64 characters of a-z, 0-9, '.', '_', '-'")
	}
	if err := k.Purpose.Check(k.Algorithm); err != nil {
		say("%w", err)
	}
	if id, err := hex.DecodeString(k.ID); err != nil || len(id) == 0 || len(id) > 64 || hex.EncodeToString(id) != k.ID {
		say("id must be 1 to 64 bytes in lower-case hex")
	}
	if k.Provenance != Generated && k.Provenance != Imported {
		say("provenance is %q; it must be generated or imported", k.Provenance)
	}
	if k.State != Active && k.State != Next && k.State != Retired {
		say("state is %q; it must be active, next or retired", k.State)
	}
	if _, err := time.Parse(keyDate, k.Created); err != nil {
		say("created is %q; it must be a date, YYYY-MM-DD", k.Created)
	}
	if k.Retired != "" {
		_, err := time.Parse(keyDate, k.Retired)
		switch {
		case err != nil:
			say("retired is %q; it must be a date, YYYY-MM-DD", k.Retired)
		case k.State != Retired:
			say("retired is set, and state is %q", k.State)
		case k.Retired < k.Created:
			say("retired is %s, before created", k.Retired)
		}
	}
	if _, err := time.Parse(keyDate, k.Until); k.Until != "" && (err != nil || k.Until < k.Created) {
		say("until is %q; it must be a date, YYYY-MM-DD, not before created", k.Until)
	}
	if k.Alias != "" && !keyAlias.MatchString(k.Alias) {
		say("alias must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'")
	}
	if k.Certificate != "" && !k.Algorithm.Public() {
		say("certificate is set, and a key of algorithm %q has none", k.Algorithm)
	}
	if filepath.IsAbs(k.Certificate) {
		say("certificate is %q; it must be relative to the keyring's folder", k.Certificate)
	}
	for member, pin := range k.Pins {
		if err := pin.check(k.Algorithm); err != nil {
			say("pins.%s: %w", member, err)
		}
	}
	return wrong
}

// ckaID is the key's CKA_ID.
func (k Key) ckaID() []byte {
	id, _ := hex.DecodeString(k.ID) // checked when the keyring was read
	return id
}
