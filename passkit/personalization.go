package passkit

import (
	"bytes"
	"errors"
)

// A Personalization is personalization.json: what a rewards pass asks of whoever
// installs it, before the web service makes it theirs.
type Personalization struct {
	RequiredPersonalizationFields []PersonalField `json:"requiredPersonalizationFields,omitzero"` // required
	Description                   string          `json:"description,omitzero"`                   // required
	TermsAndConditions            string          `json:"termsAndConditions,omitzero"`            // <a href> is its only markup
	Unknown                       Members         `json:",embed"`
}

// A PersonalField is something the device asks for.
type PersonalField string

// The fields.
const (
	PersonalName         PersonalField = "PKPassPersonalizationFieldName"
	PersonalPostalCode   PersonalField = "PKPassPersonalizationFieldPostalCode"
	PersonalEmailAddress PersonalField = "PKPassPersonalizationFieldEmailAddress"
	PersonalPhoneNumber  PersonalField = "PKPassPersonalizationFieldPhoneNumber"
)

// FilePersonalization is the name of personalization.json in a bundle.
const FilePersonalization = "personalization.json"

// ParsePersonalization reads personalization.json as Parse reads pass.json.
func ParsePersonalization(b []byte) (*Personalization, []Finding, error) {
	return decode[Personalization](FilePersonalization, b)
}

// Encode writes personalization.json on one line.
func (p *Personalization) Encode() ([]byte, error) { return encode(p) }

// Validate checks personalization.json by itself.
func (p *Personalization) Validate() []Finding {
	c := &checker{file: FilePersonalization}
	const fields = "/requiredPersonalizationFields"
	if len(p.RequiredPersonalizationFields) == 0 {
		c.err(fields, "is missing", "name at least one field, for example "+string(PersonalName))
	}
	seen := map[PersonalField]bool{}
	for i, f := range p.RequiredPersonalizationFields {
		if f == "" || seen[f] {
			c.err(index(fields, i), "is empty, or stands twice", "name each field once")
		}
		seen[f] = true
		oneOf(c, index(fields, i), f, PersonalName, PersonalPostalCode, PersonalEmailAddress, PersonalPhoneNumber)
	}
	if p.Description == "" {
		c.err("/description", "is missing", "say what the program is")
	}
	if foreignMarkup(p.TermsAndConditions) {
		c.warn("/termsAndConditions", "has markup other than <a href>", "use <a href='…'>…</a> only")
	}
	c.unknown("", p.Unknown)
	return c.found
}

// maxPersonalizationToken bounds a personalization token. Apple does not document its
// size.
const maxPersonalizationToken = 256

// ErrPersonalizationToken is returned for bytes that are not to be signed as a
// personalization token.
var ErrPersonalizationToken = errors.New("not a personalization token: it is empty, longer than 256 bytes, or could be a manifest")

// CheckPersonalizationToken refuses what could be a manifest. A device has its token
// signed with the pass's key, in the form of a pass signature: who gets a manifest
// signed that way has forged a pass. It does not make signing any token safe; that it
// is asked for once, for a pass that was issued with personalization.json, is the web
// service's to hold.
func CheckPersonalizationToken(token []byte) error {
	if len(token) == 0 || len(token) > maxPersonalizationToken || bytes.IndexByte(token, '{') >= 0 {
		return ErrPersonalizationToken
	}
	return nil
}
