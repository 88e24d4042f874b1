package passkit

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strconv"
)

// ErrStyle is returned for a style that there is not.
var ErrStyle = errors.New("not a style")

// What a template has as identifiers, for the issuer to replace.
const (
	TemplatePassType = "pass.com.example.card"
	TemplateTeam     = "ABCDE12345"
)

// NewTemplate makes a bundle to begin with: pass.json, readably written, and images of
// one colour in their places, for a style. Validate finds no error in it.
func NewTemplate(s Style) (*Bundle, error) {
	p := &Pass{
		FormatVersion:      1,
		PassTypeIdentifier: TemplatePassType,
		SerialNumber:       "1",
		TeamIdentifier:     TemplateTeam,
		OrganizationName:   "Example",
		Description:        "Example pass",
		LogoText:           "Example",
		BackgroundColor:    RGB(20, 60, 120),
		ForegroundColor:    RGB(255, 255, 255),
		LabelColor:         RGB(200, 210, 230),
		Barcodes:           []Barcode{{Format: BarcodeQR, Message: "1", MessageEncoding: "iso-8859-1"}},
	}
	at := p.styleField(s)
	if at == nil {
		return nil, fmt.Errorf("%w: %s", ErrStyle, named(string(s)))
	}
	*at = templateFields(s)
	if s == PosterGeneric { // for devices before iOS 27
		p.Generic = templateFields(Generic)
	}
	text, err := p.EncodeReadably()
	if err != nil {
		return nil, err
	}
	b := &Bundle{Files: map[string][]byte{FilePass: text}}
	for _, kind := range templateImages[s] {
		for scale := 1; scale <= 3; scale++ {
			if err := b.addImage(kind, scale); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// templateImages are the images in a template: the icon, and those that show where the
// style has a place for one.
var templateImages = map[Style][]string{
	BoardingPass:  {"icon", "logo", "footer"},
	Coupon:        {"icon", "logo", "strip"},
	EventTicket:   {"icon", "logo", "background", "thumbnail"},
	StoreCard:     {"icon", "logo", "strip"},
	Generic:       {"icon", "logo", "thumbnail"},
	PosterGeneric: {"icon", "logo", "primaryLogo", "artwork"},
}

func templateFields(s Style) *Fields {
	field := func(key, label string, value Value) Field { return Field{Key: key, Label: label, Value: value} }
	f := &Fields{
		PrimaryFields:   []Field{field("title", "TITLE", Text("Example"))},
		SecondaryFields: []Field{field("name", "NAME", Text("Alex Example"))},
		BackFields:      []Field{field("terms", "Terms", Text("Replace this text."))},
	}
	switch s {
	case BoardingPass:
		f.TransitType = TransitAir
		f.PrimaryFields = []Field{field("from", "FROM", Text("AAA")), field("to", "TO", Text("BBB"))}
		gate := field("gate", "GATE", Text("1"))
		gate.ChangeMessage = "Gate changed to %@."
		f.HeaderFields = []Field{gate}
	case StoreCard:
		balance := field("balance", "BALANCE", Number(25))
		balance.CurrencyCode = "EUR"
		f.PrimaryFields = []Field{balance}
	case EventTicket:
		date := field("date", "DATE", Text("2030-01-31T19:30:00+01:00"))
		date.DateStyle, date.TimeStyle = DateMedium, DateShort
		f.AuxiliaryFields = []Field{date}
	}
	return f
}

// addImage adds an image of one colour, as large as Wallet shows it; the background of
// an event ticket, which is shown blurred, in the size of the Wallet Developer Guide,
// which other tools insist on.
func (b *Bundle) addImage(kind string, scale int) error {
	k, name := imageKinds[kind], kind
	if kind == "background" {
		k.width, k.height = 180, 220
	}
	if scale > 1 {
		name += "@" + strconv.Itoa(scale) + "x"
	}
	img := image.NewPaletted(image.Rect(0, 0, k.width*scale, k.height*scale), color.Palette{color.NRGBA{60, 120, 200, 255}})
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return fmt.Errorf("draw %s: %w", kind, err)
	}
	b.Files[name+".png"] = out.Bytes()
	return nil
}
