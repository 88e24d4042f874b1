package report

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/mintmark/mintmark/internal/audit"
)

// Signer signs reports with the active audit-report key; *signer.Gate is it.
type Signer interface {
	// SignStatement gives a text as a signed note under a name, and the key's SPKI.
	SignStatement(ctx context.Context, name, text string) (note string, spki []byte, err error)
}

// MaxText bounds a report's text in bytes: readers of signed notes take a megabyte.
const MaxText = 1e6 - 1000

// JSON gives the report as text: one JSON object, without a blank line.
func (r Report) JSON() (string, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return string(b) + "\n", err
}

// Sign gives the signed note of a text of the report. The report names the key that will sign
// it, so that whoever has the key's pin can find it there; another key is refused.
func Sign(ctx context.Context, s Signer, r Report, text string) (string, error) {
	if len(text) > MaxText {
		return "", fmt.Errorf("the report has %d bytes, and readers of signed notes take %d", len(text), int(MaxText))
	}
	signed, spki, err := s.SignStatement(ctx, r.Name, text)
	if err != nil {
		return "", fmt.Errorf("sign report: %w", err)
	}
	if base64.StdEncoding.EncodeToString(spki) != r.SPKI {
		return "", errors.New("sign report: another key signed than the report names")
	}
	key, err := audit.NewCheckpointKey(r.Name, spki)
	if err != nil {
		return "", fmt.Errorf("sign report: %w", err)
	}
	if _, err := note.Open([]byte(signed), note.VerifierList(key)); err != nil {
		return "", fmt.Errorf("sign report: %w", err)
	}
	return signed, nil
}

// Trust says which keys are trusted to sign reports: pins of a keyring, or keys as SPKI.
type Trust struct {
	Pins map[[sha256.Size]byte]bool
	Keys [][]byte
	// Name is the note's key name that is expected; empty for what the report says.
	Name string
}

// Verified is a report whose signature was verified.
type Verified struct {
	Text    string // the signed text: JSON or HTML
	Name    string
	At      time.Time
	Verdict Verdict
	Pin     string // SHA-256 of the SPKI of the key that signed, hex
}

// ErrSignature is returned for a report that no trusted key signed as it is.
var ErrSignature = errors.New("the report is not signed by a trusted key")

// Both forms name the key, the note's key name, the time and the verdict: as members of the
// JSON object, and as meta elements of the page.
func stated(text, what string) string {
	name := regexp.QuoteMeta(what)
	found := regexp.MustCompile(`(?m)^(?:  "` + name + `": "([^"]*)",?|<meta name="` + name + `" content="([^"]*)">)$`).FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return html.UnescapeString(found[1] + found[2])
}

// Verify verifies a report. Nothing of it is believed before its signature is, and nothing may
// stand beside the text and its one signature.
func Verify(signed string, t Trust) (Verified, error) {
	text, _, found := strings.Cut(signed, "\n\n— ")
	if !found {
		return Verified{}, errors.New("no report: a signed note is expected")
	}
	text += "\n"
	name := stated(text, "name")
	if t.Name != "" && name != t.Name {
		return Verified{}, fmt.Errorf("it is the report of %q, and not of %q", name, t.Name)
	}
	keys := t.Keys
	if named, err := base64.StdEncoding.DecodeString(stated(text, "spki")); err == nil && t.Pins[sha256.Sum256(named)] {
		keys = append([][]byte{named}, keys...)
	}
	for _, spki := range keys {
		key, err := audit.NewCheckpointKey(name, spki)
		if err != nil {
			return Verified{}, err
		}
		n, err := note.Open([]byte(signed), note.VerifierList(key))
		if err != nil || n.Text != text || len(n.Sigs)+len(n.UnverifiedSigs) != 1 {
			continue
		}
		at, err := time.Parse(time.RFC3339, stated(text, "at"))
		if err != nil {
			return Verified{}, errors.New("the signed text is no report: it has no time")
		}
		pin := key.Pin()
		return Verified{Text: text, Name: name, At: at, Verdict: Verdict(stated(text, "verdict")), Pin: fmt.Sprintf("%x", pin)}, nil
	}
	return Verified{}, ErrSignature
}
