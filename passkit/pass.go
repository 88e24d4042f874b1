package passkit

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/go-json-experiment/json/jsontext"
)

// A Pass is pass.json. Texts that are absent and texts that are empty are the same;
// other optional members are pointers or slices, nil if absent. Semantics and UserInfo
// are kept as they are.
type Pass struct {
	// Which pass it is. All are required.
	FormatVersion      int    `json:"formatVersion"` // 1
	PassTypeIdentifier string `json:"passTypeIdentifier,omitzero"`
	SerialNumber       string `json:"serialNumber,omitzero"`
	TeamIdentifier     string `json:"teamIdentifier,omitzero"`
	OrganizationName   string `json:"organizationName,omitzero"`
	Description        string `json:"description,omitzero"` // read aloud

	// The web service: both or neither.
	WebServiceURL       string              `json:"webServiceURL,omitzero"`
	AuthenticationToken AuthenticationToken `json:"authenticationToken,omitzero"`

	// The style: one of them, or PosterGeneric with another for devices before iOS 27.
	BoardingPass  *Fields `json:"boardingPass,omitzero"`
	Coupon        *Fields `json:"coupon,omitzero"`
	EventTicket   *Fields `json:"eventTicket,omitzero"`
	StoreCard     *Fields `json:"storeCard,omitzero"`
	Generic       *Fields `json:"generic,omitzero"`
	PosterGeneric *Fields `json:"posterGeneric,omitzero"`

	// What it does at the reader.
	Barcodes []Barcode `json:"barcodes,omitzero"`
	Barcode  *Barcode  `json:"barcode,omitzero"` // before iOS 9
	NFC      *NFC      `json:"nfc,omitzero"`

	// When it counts.
	ExpirationDate Date           `json:"expirationDate,omitzero"`
	Voided         *bool          `json:"voided,omitzero"`
	RelevantDates  []RelevantDate `json:"relevantDates,omitzero"`
	RelevantDate   Date           `json:"relevantDate,omitzero"` // before iOS 18
	Locations      []Location     `json:"locations,omitzero"`
	MaxDistance    *float64       `json:"maxDistance,omitzero"` // metres
	Beacons        []Beacon       `json:"beacons,omitzero"`

	// How it looks.
	LogoText                string   `json:"logoText,omitzero"`
	EventLogoText           string   `json:"eventLogoText,omitzero"` // poster event ticket
	LogoSymbolName          string   `json:"logoSymbolName,omitzero"`
	BackgroundColor         Color    `json:"backgroundColor,omitzero"`
	ForegroundColor         Color    `json:"foregroundColor,omitzero"`
	LabelColor              Color    `json:"labelColor,omitzero"`
	StripColor              Color    `json:"stripColor,omitzero"`
	FooterBackgroundColor   Color    `json:"footerBackgroundColor,omitzero"`   // poster event ticket
	UseAutomaticColors      *bool    `json:"useAutomaticColors,omitzero"`      // poster event ticket
	SuppressHeaderDarkening *bool    `json:"suppressHeaderDarkening,omitzero"` // poster event ticket
	SuppressStripShine      *bool    `json:"suppressStripShine,omitzero"`
	PreferredStyleSchemes   []Scheme `json:"preferredStyleSchemes,omitzero"`
	GroupingIdentifier      string   `json:"groupingIdentifier,omitzero"` // eventTicket and boardingPass
	SharingProhibited       *bool    `json:"sharingProhibited,omitzero"`

	// The apps and pages around it.
	AssociatedStoreIdentifiers []int64  `json:"associatedStoreIdentifiers,omitzero"`
	AuxiliaryStoreIdentifiers  []int64  `json:"auxiliaryStoreIdentifiers,omitzero"` // poster event ticket
	AppLaunchURL               string   `json:"appLaunchURL,omitzero"`
	FeaturedActions            []Action `json:"featuredActions,omitzero"`
	Links

	Semantics               jsontext.Value  `json:"semantics,omitzero"` // an object
	UpcomingPassInformation []UpcomingEntry `json:"upcomingPassInformation,omitzero"`
	UserInfo                jsontext.Value  `json:"userInfo,omitzero"` // for the associated app

	Unknown Members `json:",embed"`
}

// FilePass is the name of pass.json in a bundle.
const FilePass = "pass.json"

// Parse reads a pass.json of at most 1 MiB, strictly: see ErrDocument. Members that no
// field stands for are kept in Unknown. The findings are about what only the text
// shows; Validate has the rest.
func Parse(b []byte) (*Pass, []Finding, error) { return decode[Pass](FilePass, b) }

// Encode writes pass.json on one line. The same pass gives the same bytes.
func (p *Pass) Encode() ([]byte, error) { return encode(p) }

// EncodeReadably is Encode with line breaks.
func (p *Pass) EncodeReadably() ([]byte, error) { return encodeReadably(p) }

// An AuthenticationToken is the secret that devices show the web service for this pass
// (Authorization: ApplePass …). It is in the clear in pass.json, and nowhere else:
// printing and logging give a placeholder.
type AuthenticationToken string

// String is a placeholder.
func (AuthenticationToken) String() string { return "(authentication token)" }

// GoString is a placeholder.
func (AuthenticationToken) GoString() string { return "(authentication token)" }

// Matches reports in constant time whether shown is the token. The empty token matches
// nothing.
func (t AuthenticationToken) Matches(shown string) bool {
	a, b := sha256.Sum256([]byte(t)), sha256.Sum256([]byte(shown))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && t != ""
}
