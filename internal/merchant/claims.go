package merchant

import (
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxText bounds a claim that is text, in bytes of UTF-8.
const maxText = 255

// Claims are the documented claims of a merchant JWT. Text that is empty was absent.
type Claims struct {
	Issuer       string // iss
	Subject      string // sub: merchant user or application
	User         string // usr
	Audience     string // aud
	IssuedAt     time.Time
	Expires      time.Time
	Fingerprints []Fingerprint // aud_fingerprints
	SPConfig     string        // spCfg
	// What iOS adds.
	BusinessName string // mbn
	CategoryCode string // mcc
	TerminalID   string // x-tid
	ProviderID   string // tpid
	RefreshToken *bool  // refresh_token
}

// rawClaims are the claims undecoded; nil means absent.
type rawClaims struct {
	Issuer       jsontext.Value `json:"iss"`
	Subject      jsontext.Value `json:"sub"`
	User         jsontext.Value `json:"usr"`
	Audience     jsontext.Value `json:"aud"`
	IssuedAt     jsontext.Value `json:"iat"`
	Expires      jsontext.Value `json:"exp"`
	Fingerprints jsontext.Value `json:"aud_fingerprints"`
	SPConfig     jsontext.Value `json:"spCfg"`
	BusinessName jsontext.Value `json:"mbn"`
	CategoryCode jsontext.Value `json:"mcc"`
	TerminalID   jsontext.Value `json:"x-tid"`
	ProviderID   jsontext.Value `json:"tpid"`
	RefreshToken jsontext.Value `json:"refresh_token"`
}

// ParseClaims reads the verified payload of a merchant JWT. A claim of another type than
// the documented one is a *ClaimError, which a null is not: it counts as absent. aud may be
// an array of one, as JWTs may have it.
func ParseClaims(payload []byte) (Claims, error) {
	var raw rawClaims
	if err := json.Unmarshal(payload, &raw); err != nil {
		return Claims{}, &ClaimError{Claim: "set", Problem: "is no JSON object"}
	}
	var c Claims
	for _, t := range []struct {
		name string
		from jsontext.Value
		to   *string
	}{
		{"iss", raw.Issuer, &c.Issuer},
		{"sub", raw.Subject, &c.Subject},
		{"usr", raw.User, &c.User},
		{"aud", only(raw.Audience), &c.Audience},
		{"spCfg", raw.SPConfig, &c.SPConfig},
		{"mbn", raw.BusinessName, &c.BusinessName},
		{"mcc", raw.CategoryCode, &c.CategoryCode},
		{"x-tid", raw.TerminalID, &c.TerminalID},
		{"tpid", raw.ProviderID, &c.ProviderID},
	} {
		if absent(t.from) {
			continue
		}
		if t.from.Kind() != '"' || json.Unmarshal(t.from, t.to) != nil || !isText(*t.to) {
			return Claims{}, &ClaimError{Claim: t.name, Problem: "is not text of 1 to 255 printing characters"}
		}
	}
	var ok1, ok2 bool
	c.IssuedAt, ok1 = wholeSeconds(raw.IssuedAt)
	c.Expires, ok2 = wholeSeconds(raw.Expires)
	if !ok1 || !ok2 {
		return Claims{}, &ClaimError{Claim: "iat", Problem: "or exp is no NumericDate"}
	}
	if !absent(raw.RefreshToken) {
		c.RefreshToken = new(bool)
		if json.Unmarshal(raw.RefreshToken, c.RefreshToken) != nil {
			return Claims{}, &ClaimError{Claim: "refresh_token", Problem: "is neither true nor false"}
		}
	}
	if !absent(raw.Fingerprints) {
		if c.Fingerprints = fingerprints(raw.Fingerprints); c.Fingerprints == nil {
			return Claims{}, &ClaimError{Claim: "aud_fingerprints", Problem: "is no list of sha256/ and the Base64 of 32 bytes"}
		}
	}
	return c, nil
}

func absent(v jsontext.Value) bool { return v == nil || v.Kind() == 'n' }

// only is the one element of an array, and what is no array itself.
func only(v jsontext.Value) jsontext.Value {
	if v.Kind() != '[' {
		return v
	}
	var all []jsontext.Value
	if json.Unmarshal(v, &all) != nil || len(all) != 1 {
		return v
	}
	return all[0]
}

// fingerprints reads either form of aud_fingerprints; nil if it is neither.
func fingerprints(v jsontext.Value) []Fingerprint {
	var csv string
	if v.Kind() == '"' && json.Unmarshal(v, &csv) == nil {
		all, _ := SplitFingerprints(csv)
		return all
	}
	var list []string
	if v.Kind() == '[' && json.Unmarshal(v, &list) == nil {
		all, _ := ParseFingerprints(list)
		return all
	}
	return nil
}

// wholeSeconds reads a NumericDate (RFC 7519, 2) and drops a fraction.
func wholeSeconds(v jsontext.Value) (time.Time, bool) {
	if v.Kind() != '0' {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(math.Floor(f)), 0).UTC(), true
}

// isText reports whether s can stand in a claim: not empty, bounded, of printing
// characters.
func isText(s string) bool {
	if s == "" || len(s) > maxText || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// isCategoryCode reports whether s is a merchant category code (ISO 18245).
func isCategoryCode(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == 4
}

// hasIOS reports whether the token carries what iOS adds, and so may do without
// aud_fingerprints. [B]: which of the five claims that needs is in no table; refresh_token
// and tpid say nothing about a merchant.
func (c Claims) hasIOS() bool {
	return c.BusinessName != "" && c.CategoryCode != "" && c.TerminalID != ""
}
