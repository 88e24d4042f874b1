package passkit

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Fields are the groups of fields of a style.
type Fields struct {
	TransitType TransitType `json:"transitType,omitzero"` // boardingPass: required; elsewhere not allowed

	HeaderFields    []Field `json:"headerFields,omitzero"`
	PrimaryFields   []Field `json:"primaryFields,omitzero"`
	SecondaryFields []Field `json:"secondaryFields,omitzero"`
	AuxiliaryFields []Field `json:"auxiliaryFields,omitzero"`
	FooterFields    []Field `json:"footerFields,omitzero"` // posterGeneric
	BackFields      []Field `json:"backFields,omitzero"`

	AdditionalInfoFields []Field `json:"additionalInfoFields,omitzero"` // the poster layouts, below the pass

	Unknown Members `json:",embed"`
}

// TransitType is what a boarding pass is for.
type TransitType string

// The transit types.
const (
	TransitAir     TransitType = "PKTransitTypeAir"
	TransitBoat    TransitType = "PKTransitTypeBoat"
	TransitBus     TransitType = "PKTransitTypeBus"
	TransitGeneric TransitType = "PKTransitTypeGeneric"
	TransitTrain   TransitType = "PKTransitTypeTrain"
)

// A Field is one label and value.
type Field struct {
	Key             string `json:"key,omitzero"` // required, once in a style
	Label           string `json:"label,omitzero"`
	Value           Value  `json:"value,omitzero"`           // required
	AttributedValue Value  `json:"attributedValue,omitzero"` // shown instead; <a href> is its only markup

	ChangeMessage     string         `json:"changeMessage,omitzero"`     // shown on a change, %@ is the new value
	DataDetectorTypes []DataDetector `json:"dataDetectorTypes,omitzero"` // back fields; nil: all, empty: none
	TextAlignment     TextAlignment  `json:"textAlignment,omitzero"`     // neither primary nor back fields

	// The format of a number: one of them.
	CurrencyCode string      `json:"currencyCode,omitzero"` // ISO 4217
	NumberStyle  NumberStyle `json:"numberStyle,omitzero"`

	// The format of a date.
	DateStyle       DateStyle `json:"dateStyle,omitzero"`
	TimeStyle       DateStyle `json:"timeStyle,omitzero"`
	IsRelative      *bool     `json:"isRelative,omitzero"`
	IgnoresTimeZone *bool     `json:"ignoresTimeZone,omitzero"`

	Row *int `json:"row,omitzero"` // 0 or 1, auxiliary fields of an eventTicket

	Semantics jsontext.Value `json:"semantics,omitzero"` // an object
	Unknown   Members        `json:",embed"`
}

// DateStyle is how a date, or a time of day, is written out.
type DateStyle string

// The date styles.
const (
	DateNone   DateStyle = "PKDateStyleNone"
	DateShort  DateStyle = "PKDateStyleShort"
	DateMedium DateStyle = "PKDateStyleMedium"
	DateLong   DateStyle = "PKDateStyleLong"
	DateFull   DateStyle = "PKDateStyleFull"
)

// NumberStyle is how a number is written out.
type NumberStyle string

// The number styles.
const (
	NumberDecimal    NumberStyle = "PKNumberStyleDecimal"
	NumberPercent    NumberStyle = "PKNumberStylePercent"
	NumberScientific NumberStyle = "PKNumberStyleScientific"
	NumberSpellOut   NumberStyle = "PKNumberStyleSpellOut"
)

// TextAlignment is where in its place a field stands.
type TextAlignment string

// The alignments.
const (
	AlignLeft    TextAlignment = "PKTextAlignmentLeft"
	AlignCenter  TextAlignment = "PKTextAlignmentCenter"
	AlignRight   TextAlignment = "PKTextAlignmentRight"
	AlignNatural TextAlignment = "PKTextAlignmentNatural"
)

// A DataDetector makes something in a back field's text a link.
type DataDetector string

// The data detectors.
const (
	DetectPhoneNumber   DataDetector = "PKDataDetectorTypePhoneNumber"
	DetectLink          DataDetector = "PKDataDetectorTypeLink"
	DetectAddress       DataDetector = "PKDataDetectorTypeAddress"
	DetectCalendarEvent DataDetector = "PKDataDetectorTypeCalendarEvent"
)

// A Value is what a field shows: a text, or a number. A date is a text in the form of
// Date. The zero Value is absent.
type Value struct {
	kind jsontext.Kind // '"' or '0'; 0 if absent
	text string        // the text, or the number as JSON writes it
}

// Text is a value that is a text.
func Text(s string) Value { return Value{'"', s} }

// Number is a value that is a number.
func Number(f float64) Value { return Value{'0', strconv.FormatFloat(f, 'f', -1, 64)} }

// IsZero reports whether the value is absent.
func (v Value) IsZero() bool { return v.kind == 0 }

// IsNumber reports whether the value is a number.
func (v Value) IsNumber() bool { return v.kind == '0' }

// String is the text, or the number as JSON writes it.
func (v Value) String() string { return v.text }

// MarshalJSONTo writes the text or number.
func (v Value) MarshalJSONTo(e *jsontext.Encoder) error {
	switch v.kind {
	case '"':
		return e.WriteToken(jsontext.String(v.text))
	case '0':
		return e.WriteValue(jsontext.Value(v.text))
	}
	return e.WriteToken(jsontext.Null)
}

// UnmarshalJSONFrom reads a text or number; null is absent.
func (v *Value) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	switch raw.Kind() {
	case '"':
		v.kind = '"'
		return json.Unmarshal(raw, &v.text)
	case '0':
		*v = Value{'0', string(raw)}
		return nil
	case 'n':
		*v = Value{}
		return nil
	}
	return errValue
}

var errValue = errors.New("neither text nor number")

// place is a group of fields by its name in pass.json.
type place struct {
	name   string
	fields []Field
	styles []Style // that have it; nil: all
	most   int     // that Wallet shows; 0: any number
}

// places are the groups, and what Wallet shows of them (Wallet Developer Guide, Pass
// Design and Creation: 3 header fields, 1 primary field, 2 on boarding passes).
func (f *Fields) places(s Style) []place {
	primary := 1
	if s == BoardingPass {
		primary = 2
	}
	return []place{
		{"headerFields", f.HeaderFields, nil, 3},
		{"primaryFields", f.PrimaryFields, nil, primary},
		{"secondaryFields", f.SecondaryFields, nil, 0},
		{"auxiliaryFields", f.AuxiliaryFields, nil, 0},
		{"footerFields", f.FooterFields, []Style{PosterGeneric}, 0},
		{"backFields", f.BackFields, nil, 0},
		{"additionalInfoFields", f.AdditionalInfoFields, []Style{EventTicket, PosterGeneric}, 0},
	}
}

// check checks the fields of one style, at path.
func (f *Fields) check(c *checker, path string, s Style) {
	switch {
	case s == BoardingPass && f.TransitType == "":
		c.err(member(path, "transitType"), "is missing", "say what the pass is for, for example "+string(TransitAir))
	case s != BoardingPass && f.TransitType != "":
		c.err(member(path, "transitType"), "is for boarding passes only", "remove it")
	}
	oneOf(c, member(path, "transitType"), f.TransitType, TransitAir, TransitBoat, TransitBus, TransitGeneric, TransitTrain)
	keys := map[string]bool{}
	for _, p := range f.places(s) {
		at := member(path, p.name)
		if len(p.fields) > 0 && p.styles != nil && !slices.Contains(p.styles, s) {
			c.warn(at, "are not shown by this style", "move them to another group")
		}
		if p.most > 0 && len(p.fields) > p.most {
			c.warn(at, fmt.Sprintf("has %d fields, and Wallet shows %d", len(p.fields), p.most), "move some to another group")
		}
		for i := range p.fields {
			field, at := &p.fields[i], index(at, i)
			if keys[field.Key] && field.Key != "" {
				c.err(member(at, "key"), "is the key of an earlier field too", "give each field of the pass its own key")
			}
			keys[field.Key] = true
			field.check(c, at)
			field.checkPlace(c, at, p.name, s)
		}
	}
	c.unknown(path, f.Unknown)
}

// currencyCode is the form of ISO 4217; the list itself grows.
var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

// check checks what does not depend on where the field stands.
func (f *Field) check(c *checker, path string) {
	if f.Key == "" {
		c.err(member(path, "key"), "is missing", "give the field a key of its own")
	}
	if f.Value.IsZero() {
		c.err(member(path, "value"), "is missing", "give the field a value, if need be an empty text")
	}
	if f.ChangeMessage != "" && !strings.Contains(f.ChangeMessage, "%@") {
		c.warn(member(path, "changeMessage"), "does not contain %@, so that the new value is not shown", "write %@ where the new value should stand")
	}
	if foreignMarkup(f.AttributedValue.String()) {
		c.warn(member(path, "attributedValue"), "has markup other than <a href>", "use <a href='…'>…</a> only")
	}
	oneOf(c, member(path, "textAlignment"), f.TextAlignment, AlignLeft, AlignCenter, AlignRight, AlignNatural)
	for i, d := range f.DataDetectorTypes {
		oneOf(c, index(member(path, "dataDetectorTypes"), i), d, DetectPhoneNumber, DetectLink, DetectAddress, DetectCalendarEvent)
	}
	f.checkNumber(c, path)
	f.checkDate(c, path)
	checkObject(c, member(path, "semantics"), f.Semantics)
	c.unknown(path, f.Unknown)
}

func (f *Field) checkNumber(c *checker, path string) {
	oneOf(c, member(path, "numberStyle"), f.NumberStyle, NumberDecimal, NumberPercent, NumberScientific, NumberSpellOut)
	formatted := f.CurrencyCode != "" || f.NumberStyle != ""
	if formatted && !f.Value.IsZero() && !f.Value.IsNumber() {
		c.err(member(path, "value"), "has a number's format and is a text", "write the number without quotes, or remove numberStyle and currencyCode")
	}
	if f.CurrencyCode != "" && !currencyCode.MatchString(f.CurrencyCode) {
		c.err(member(path, "currencyCode"), "is not an ISO 4217 code", "use three capital letters, for example EUR")
	}
	if f.CurrencyCode != "" && f.NumberStyle != "" {
		c.warn(member(path, "currencyCode"), "stands beside numberStyle, and only one can count", "keep one of the two")
	}
}

func (f *Field) checkDate(c *checker, path string) {
	for _, s := range []struct {
		name  string
		value DateStyle
	}{{"dateStyle", f.DateStyle}, {"timeStyle", f.TimeStyle}} {
		oneOf(c, member(path, s.name), s.value, DateNone, DateShort, DateMedium, DateLong, DateFull)
	}
	if f.DateStyle == "" && f.TimeStyle == "" {
		if f.IsRelative != nil || f.IgnoresTimeZone != nil {
			c.warn(path, "has isRelative or ignoresTimeZone without a dateStyle or timeStyle", "add a style or remove them")
		}
		return
	}
	if f.NumberStyle != "" || f.CurrencyCode != "" {
		c.err(path, "has the format of a number and of a date", "keep either numberStyle and currencyCode or dateStyle and timeStyle")
		return
	}
	if _, err := Date(f.Value.String()).Time(); !f.Value.IsZero() && (err != nil || f.Value.IsNumber()) {
		c.err(member(path, "value"), "has a date's format and is no date with an offset", dateRemedy)
	}
}

// checkPlace checks what is right in some groups only.
func (f *Field) checkPlace(c *checker, path, group string, s Style) {
	if f.TextAlignment != "" && (group == "primaryFields" || group == "backFields") {
		c.warn(member(path, "textAlignment"), "has no effect on primary and back fields", "remove it")
	}
	if len(f.DataDetectorTypes) > 0 && group != "backFields" && group != "additionalInfoFields" {
		c.warn(member(path, "dataDetectorTypes"), "has no effect on the front of the pass", "remove it or move the field to the back")
	}
	if f.Row == nil {
		return
	}
	if *f.Row != 0 && *f.Row != 1 {
		c.err(member(path, "row"), "is neither 0 nor 1", "use 0 or 1")
	}
	if group != "auxiliaryFields" || s != EventTicket {
		c.warn(member(path, "row"), "has an effect on auxiliary fields of event tickets only", "remove it")
	}
}

var markup = regexp.MustCompile(`(?i)<\s*(/?[a-z][a-z0-9]*)`)

// foreignMarkup reports whether a text has tags other than a.
func foreignMarkup(s string) bool {
	for _, m := range markup.FindAllStringSubmatch(s, -1) {
		if !strings.EqualFold(strings.TrimPrefix(m[1], "/"), "a") {
			return true
		}
	}
	return false
}

// checkObject says that a value kept as it is must be an object.
func checkObject(c *checker, path string, v jsontext.Value) {
	if v != nil && v.Kind() != '{' {
		c.err(path, "is not an object", "begin it with { and end it with }")
	}
}
