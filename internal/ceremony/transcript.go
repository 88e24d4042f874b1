package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"

	"github.com/mintmark/mintmark/hsm"
)

// A Transcript says what was done, with everything that is needed to do it again on a fresh
// token: the file that was signed, and the keyring before. Its text is JSON, to be signed as
// a note.
type Transcript struct {
	Transcript  string `json:"transcript"` // Version
	Ceremony    string `json:"ceremony"`
	Environment string `json:"environment"`
	Member      string `json:"member"`
	// Key is the SPKI of the audit-report key that signs the note, DER.
	Key        []byte    `json:"key"`
	Began      time.Time `json:"began"`
	Ended      time.Time `json:"ended"`
	Software   string    `json:"software"`
	Token      hsm.Info  `json:"token"`
	PlanSHA256 string    `json:"planSha256"`
	Plan       string    `json:"plan"`
	People     []Signed  `json:"people"`
	Before     string    `json:"keyringBefore"`
	Steps      []Step    `json:"steps"`
	After      string    `json:"keyringAfter"`
	// Files are the SHA-256 of the files that were made, by name.
	Files map[string]string `json:"files"`
	// Failed says at what a ceremony stopped; what stands in Steps was done.
	Failed string `json:"failed,omitempty"`
}

// Version names the transcript's form.
const Version = "mintmark-ceremony-v1"

// Account writes down what was done of a plan.
func (p *Plan) Account(people []Signed, before *hsm.Keyring, done Done) (Transcript, error) {
	t := Transcript{
		Transcript: Version, Ceremony: p.Ceremony, Environment: p.Environment, Member: p.Member,
		PlanSHA256: p.Digest(), Plan: string(p.text), People: people, Steps: done.Steps, Files: map[string]string{},
	}
	b, err1 := keyringText(before)
	a, err2 := keyringText(done.Ring)
	if err := errors.Join(err1, err2); err != nil {
		return t, err
	}
	t.Before, t.After = b, a
	for name, content := range done.Files {
		t.Files[name] = digest(content)
	}
	t.Files[KeyringFile] = digest([]byte(a))
	return t, nil
}

// keyringText is a keyring as a file.
func keyringText(r *hsm.Keyring) (string, error) {
	b, err := yaml.MarshalWithOptions(r, yaml.IndentSequence(true))
	return string(b), err
}

// Text is the transcript's text: JSON over several lines, none of them empty. It is indented by
// blanks: a note has no tabs.
func (t Transcript) Text() (string, error) {
	var b bytes.Buffer
	if err := json.MarshalWrite(&b, t, jsontext.WithIndent("  "), json.Deterministic(true)); err != nil {
		return "", err
	}
	return strings.TrimRight(b.String(), "\n") + "\n", nil
}

// ErrTranscript is wrapped by everything that is wrong with a transcript.
var ErrTranscript = errors.New("not a transcript that holds together")

// ParseTranscript reads a transcript's text and makes sure that it holds together: the plan
// is the one that the people signed, and the keyring the one whose digest is named. Whether
// the note around it is signed by the right key is the caller's to see.
func ParseTranscript(text string) (Transcript, *Plan, error) {
	var t Transcript
	if err := json.Unmarshal([]byte(text), &t, json.RejectUnknownMembers(true)); err != nil {
		return t, nil, fmt.Errorf("%w: it cannot be read", ErrTranscript)
	}
	if t.Transcript != Version {
		return t, nil, fmt.Errorf("%w: its form is %q", ErrTranscript, t.Transcript)
	}
	plan, err := Parse([]byte(t.Plan))
	if err != nil {
		return t, nil, fmt.Errorf("%w: its plan cannot be read", ErrTranscript)
	}
	if errs := plan.checkPeople(); len(errs) != 0 {
		return t, nil, fmt.Errorf("%w: %w", ErrTranscript, errors.Join(errs...))
	}
	var signatures [][]byte
	for _, s := range t.People {
		signatures = append(signatures, s.Signature)
	}
	people, err := plan.Verify(signatures, t.Began)
	if err != nil {
		return t, nil, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	if !slices.EqualFunc(people, t.People, Signed.equal) || t.Ceremony != plan.Ceremony || t.Environment != plan.Environment || t.Member != plan.Member {
		return t, nil, fmt.Errorf("%w: it names other people or another place than its plan", ErrTranscript)
	}
	if t.PlanSHA256 != digest([]byte(t.Plan)) || t.Files[KeyringFile] != digest([]byte(t.After)) {
		return t, nil, fmt.Errorf("%w: its digests are of something else", ErrTranscript)
	}
	return t, plan, nil
}

// Structure is what is equal of two keyrings that one plan made on two tokens: everything but
// the keys themselves, and the days.
func Structure(r *hsm.Keyring) []string {
	all := make([]string, 0, len(r.Keys)+1)
	all = append(all, "environment "+r.Environment)
	for _, k := range r.Keys {
		all = append(all, fmt.Sprintf("%s: %s %s %s %s until %q alias %q certificate %q on %v",
			k.Name, k.Purpose, k.Algorithm, k.Provenance, k.State, k.Until, k.Alias, k.Certificate, slices.Sorted(maps.Keys(k.Pins))))
	}
	return all
}
