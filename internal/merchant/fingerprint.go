package merchant

import (
	"encoding/base64"
	"strings"
)

// maxFingerprints bounds the fingerprints of one token.
const maxFingerprints = 16

// A Fingerprint names a TLS certificate: sha256/ and the Base64 of 32 bytes, with padding.
type Fingerprint string

// ParseFingerprint reports whether s is a fingerprint in its one form.
func ParseFingerprint(s string) (Fingerprint, bool) {
	value, ok := strings.CutPrefix(s, "sha256/")
	if !ok {
		return "", false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(value)
	// The decoder skips line ends; written anew they are gone.
	if err != nil || len(b) != 32 || base64.StdEncoding.EncodeToString(b) != value {
		return "", false
	}
	return Fingerprint(s), true
}

// ParseFingerprints reads the claim's list. The guides have it as comma-separated text in
// their tables and as an array in their samples: a text is split, an array is taken as is.
func ParseFingerprints(entries []string) ([]Fingerprint, bool) {
	if len(entries) == 0 || len(entries) > maxFingerprints {
		return nil, false
	}
	all := make([]Fingerprint, len(entries))
	for i, e := range entries {
		f, ok := ParseFingerprint(strings.TrimSpace(e))
		if !ok {
			return nil, false
		}
		all[i] = f
	}
	return all, true
}

// SplitFingerprints reads the comma-separated form.
func SplitFingerprints(csv string) ([]Fingerprint, bool) {
	return ParseFingerprints(strings.Split(csv, ","))
}

// joinFingerprints writes the comma-separated form.
func joinFingerprints(all []Fingerprint) string {
	texts := make([]string, len(all))
	for i, f := range all {
		texts[i] = string(f)
	}
	return strings.Join(texts, ",")
}
