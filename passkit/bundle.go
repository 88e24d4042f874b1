package passkit

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mintmark/mintmark/passkit/cms"
)

// A Bundle is the files of one pass by their names in the archive.
type Bundle struct {
	Files map[string][]byte
}

// Names of files in a bundle.
const (
	FileManifest  = "manifest.json"
	FileSignature = "signature"
)

// Media types of a pass and of several in one file.
const (
	MediaTypePass   = "application/vnd.apple.pkpass"
	MediaTypePasses = "application/vnd.apple.pkpasses"
)

// ErrNoPass is returned for a bundle without pass.json.
var ErrNoPass = errors.New("the bundle has no pass.json")

// Pass reads the bundle's pass.json; see Parse.
func (b *Bundle) Pass() (*Pass, []Finding, error) {
	text, ok := b.Files[FilePass]
	if !ok {
		return nil, []Finding{{Error, FilePass, "", "is missing", "add it"}}, ErrNoPass
	}
	return Parse(text)
}

// SetPass puts p into the bundle as pass.json.
func (b *Bundle) SetPass(p *Pass) error {
	text, err := p.Encode()
	if err != nil {
		return err
	}
	if b.Files == nil {
		b.Files = map[string][]byte{}
	}
	b.Files[FilePass] = text
	return nil
}

// Validate checks pass.json, personalization.json, images and localisations, and how
// they go together.
func (b *Bundle) Validate() []Finding {
	pass, found, err := b.Pass()
	if err == nil {
		found = append(found, pass.Validate()...)
	}
	found = append(found, b.checkPersonalization(pass)...)
	found = append(found, checkImages(b.Files, pass)...)
	found = append(found, checkPosterImages(b.Files, pass)...)
	found = append(found, checkLocalizations(b)...)
	return append(found, checkUnused(b.Files)...)
}

// checkPersonalization checks personalization.json, if there is one. pass may be nil.
func (b *Bundle) checkPersonalization(pass *Pass) []Finding {
	text, ok := b.Files[FilePersonalization]
	if !ok {
		return nil
	}
	personalization, found, err := ParsePersonalization(text)
	if err == nil {
		found = append(found, personalization.Validate()...)
	}
	c := &checker{file: FilePersonalization, found: found}
	if pass != nil && pass.WebServiceURL == "" {
		c.err("", "has no web service to send what it asks for to", "add webServiceURL and authenticationToken to pass.json, or remove the file")
	}
	return c.found
}

// checkPosterImages asks for what stands behind a poster, as Apple's pass-builder does
// for event tickets.
func checkPosterImages(files map[string][]byte, p *Pass) []Finding {
	if p == nil || p.EventTicket == nil || !p.prefers(PosterEventTicket) {
		return nil
	}
	for name := range files {
		if n, ok := parseImageName(name); ok && (n.kind == "artwork" || n.kind == "background") && !strings.Contains(name, "/") {
			return nil
		}
	}
	return []Finding{{Error, "", "", "artwork.png is missing, and posterEventTicket needs it or background.png", "add it, 358 x 448 points"}}
}

// Manifest is manifest.json: the SHA-1 of every file but itself and the signature, in
// lower-case hexadecimal, by name. SHA-1 is what devices read; the signature over the
// manifest is with SHA-256.
func (b *Bundle) Manifest() ([]byte, error) {
	names, sums := newNameSet(), make(map[string]string, len(b.Files))
	for name, content := range b.Files {
		if name == FileManifest || name == FileSignature {
			continue
		}
		if err := names.add(name); err != nil {
			return nil, fmt.Errorf("make manifest: %w", err)
		}
		sum := sha1.Sum(content)
		sums[name] = hex.EncodeToString(sum[:])
	}
	if _, ok := sums[FilePass]; !ok {
		return nil, fmt.Errorf("make manifest: %w", ErrNoPass)
	}
	return encode(sums)
}

// Pack makes the .pkpass of the bundle's files, a manifest of them and its signature.
// It takes the two as they are: manifest must be what Manifest gave for these files,
// and signature what was made of it. Without a signature (nil) the archive is one that
// is signed elsewhere, and no device installs it. The entries carry the time now.
func (b *Bundle) Pack(manifest, signature []byte, now time.Time) ([]byte, error) {
	files := make(map[string][]byte, len(b.Files)+2)
	for name, content := range b.Files {
		files[name] = content
	}
	files[FileManifest] = manifest
	delete(files, FileSignature)
	if signature != nil {
		files[FileSignature] = signature
	}
	return writeArchive(files, now)
}

// Build makes an archive that is not signed; see Pack.
func (b *Bundle) Build(now time.Time) ([]byte, error) {
	manifest, err := b.Manifest()
	if err != nil {
		return nil, err
	}
	return b.Pack(manifest, nil, now)
}

// A RefusedError is a pass that Sign did not sign, with all findings. At least one is
// an Error.
type RefusedError struct{ Findings []Finding }

// Error has the first error and how many there are.
func (e *RefusedError) Error() string {
	n, first := 0, ""
	for _, f := range e.Findings {
		if f.Severity == Error {
			if n++; n == 1 {
				first = f.String()
			}
		}
	}
	if n == 1 {
		return "pass not signed: " + first
	}
	return fmt.Sprintf("pass not signed: %s (the first of %d errors)", first, n)
}

// Sign makes the .pkpass: Validate and Preflight, manifest, signature at the time now,
// archive. If the findings have an error nothing is signed, and the error is a
// *RefusedError; warnings do not hinder.
func (b *Bundle) Sign(s cms.Signer, now time.Time) ([]byte, error) {
	found := b.Validate()
	if pass, _, err := b.Pass(); err == nil {
		found = append(found, Preflight(pass, s, now)...)
	}
	if HasErrors(found) {
		return nil, &RefusedError{found}
	}
	manifest, err := b.Manifest()
	if err != nil {
		return nil, err
	}
	signature, err := cms.SignDetached(manifest, s, now)
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	return b.Pack(manifest, signature, now)
}

// count is "1 key is", "3 keys are".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}
