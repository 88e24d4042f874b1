package passkit_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
)

func TestATemplateOfEveryStyleIsValid(t *testing.T) {
	for _, s := range passkit.Styles() {
		b := bundle(t, s)
		if found := b.Validate(); len(found) > 0 {
			t.Errorf("%s: %v", s, found)
		}
		p, _, err := b.Pass()
		if err != nil || p.Fields(s) == nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := passkit.NewTemplate("poster"); err == nil {
		t.Error("a template of a style that there is not")
	}
}

// primary is the field that each template has first.
func primary(p *passkit.Pass) *passkit.Field { return &p.Fields(p.Styles()[0]).PrimaryFields[0] }

func TestEachFaultIsFoundAtItsPlace(t *testing.T) {
	readerKey := must(passtest.ReaderKey())
	nfc := func() *passkit.NFC { return &passkit.NFC{Message: "1", EncryptionPublicKey: readerKey} }
	at := func(lat, long float64) passkit.Location {
		return passkit.Location{Latitude: new(lat), Longitude: new(long)}
	}
	type edit = func(*passkit.Pass)
	for _, c := range []struct {
		name     string
		style    passkit.Style
		change   edit
		severity passkit.Severity
		path     string
	}{
		// Identity.
		{"format version", passkit.Generic, func(p *passkit.Pass) { p.FormatVersion = 2 }, passkit.Error, "/formatVersion"},
		{"no pass type", passkit.Generic, func(p *passkit.Pass) { p.PassTypeIdentifier = "" }, passkit.Error, "/passTypeIdentifier"},
		{"pass type without pass.", passkit.Generic, func(p *passkit.Pass) { p.PassTypeIdentifier = "com.example" }, passkit.Error, "/passTypeIdentifier"},
		{"no serial number", passkit.Generic, func(p *passkit.Pass) { p.SerialNumber = "" }, passkit.Error, "/serialNumber"},
		{"serial number with slash", passkit.Generic, func(p *passkit.Pass) { p.SerialNumber = "a/b" }, passkit.Warning, "/serialNumber"},
		{"no team", passkit.Generic, func(p *passkit.Pass) { p.TeamIdentifier = "" }, passkit.Error, "/teamIdentifier"},
		{"team's name", passkit.Generic, func(p *passkit.Pass) { p.TeamIdentifier = "Example" }, passkit.Warning, "/teamIdentifier"},
		{"no organization", passkit.Generic, func(p *passkit.Pass) { p.OrganizationName = "" }, passkit.Error, "/organizationName"},
		{"no description", passkit.Generic, func(p *passkit.Pass) { p.Description = "" }, passkit.Error, "/description"},

		// Style.
		{"no style", passkit.Generic, func(p *passkit.Pass) { p.Generic = nil }, passkit.Error, ""},
		{"two styles", passkit.Generic, func(p *passkit.Pass) { p.Coupon = p.Generic }, passkit.Error, "/generic"},
		{"poster with two styles", passkit.PosterGeneric, func(p *passkit.Pass) { p.Coupon = p.Generic }, passkit.Error, "/generic"},
		{"poster without fallback", passkit.PosterGeneric, func(p *passkit.Pass) { p.Generic = nil }, passkit.Warning, "/posterGeneric"},
		{"boarding pass without transit type", passkit.BoardingPass, func(p *passkit.Pass) { p.BoardingPass.TransitType = "" }, passkit.Error, "/boardingPass/transitType"},
		{"transit type unknown", passkit.BoardingPass, func(p *passkit.Pass) { p.BoardingPass.TransitType = "PKTransitTypeRocket" }, passkit.Error, "/boardingPass/transitType"},
		{"transit type elsewhere", passkit.Coupon, func(p *passkit.Pass) { p.Coupon.TransitType = passkit.TransitAir }, passkit.Error, "/coupon/transitType"},
		{"scheme of another style", passkit.Generic, func(p *passkit.Pass) { p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket} }, passkit.Warning, "/preferredStyleSchemes/0"},
		{"scheme unknown", passkit.EventTicket, func(p *passkit.Pass) { p.PreferredStyleSchemes = []passkit.Scheme{"poster"} }, passkit.Warning, "/preferredStyleSchemes/0"},

		// Fields.
		{"field without key", passkit.Generic, func(p *passkit.Pass) { primary(p).Key = "" }, passkit.Error, "/generic/primaryFields/0/key"},
		{"field without value", passkit.Generic, func(p *passkit.Pass) { primary(p).Value = passkit.Value{} }, passkit.Error, "/generic/primaryFields/0/value"},
		{"key twice", passkit.Generic, func(p *passkit.Pass) { p.Generic.BackFields[0].Key = primary(p).Key }, passkit.Error, "/generic/backFields/0/key"},
		{"change message without %@", passkit.Generic, func(p *passkit.Pass) { primary(p).ChangeMessage = "Changed" }, passkit.Warning, "/generic/primaryFields/0/changeMessage"},
		{"markup", passkit.Generic, func(p *passkit.Pass) { primary(p).AttributedValue = passkit.Text("<b>x</b>") }, passkit.Warning, "/generic/primaryFields/0/attributedValue"},
		{"alignment unknown", passkit.Generic, func(p *passkit.Pass) { p.Generic.SecondaryFields[0].TextAlignment = "left" }, passkit.Error, "/generic/secondaryFields/0/textAlignment"},
		{"alignment of a primary field", passkit.Generic, func(p *passkit.Pass) { primary(p).TextAlignment = passkit.AlignLeft }, passkit.Warning, "/generic/primaryFields/0/textAlignment"},
		{"detector unknown", passkit.Generic, func(p *passkit.Pass) { p.Generic.BackFields[0].DataDetectorTypes = []passkit.DataDetector{"x"} }, passkit.Error, "/generic/backFields/0/dataDetectorTypes/0"},
		{"detector in front", passkit.Generic, func(p *passkit.Pass) { primary(p).DataDetectorTypes = []passkit.DataDetector{passkit.DetectLink} }, passkit.Warning, "/generic/primaryFields/0/dataDetectorTypes"},
		{"currency of a text", passkit.Generic, func(p *passkit.Pass) { primary(p).CurrencyCode = "EUR" }, passkit.Error, "/generic/primaryFields/0/value"},
		{"currency's form", passkit.StoreCard, func(p *passkit.Pass) { primary(p).CurrencyCode = "Euro" }, passkit.Error, "/storeCard/primaryFields/0/currencyCode"},
		{"currency and number style", passkit.StoreCard, func(p *passkit.Pass) { primary(p).NumberStyle = passkit.NumberDecimal }, passkit.Warning, "/storeCard/primaryFields/0/currencyCode"},
		{"number style unknown", passkit.StoreCard, func(p *passkit.Pass) { primary(p).NumberStyle, primary(p).CurrencyCode = "x", "" }, passkit.Error, "/storeCard/primaryFields/0/numberStyle"},
		{"number and date", passkit.StoreCard, func(p *passkit.Pass) { primary(p).DateStyle = passkit.DateShort }, passkit.Error, "/storeCard/primaryFields/0"},
		{"date without offset", passkit.EventTicket, func(p *passkit.Pass) { p.EventTicket.AuxiliaryFields[0].Value = passkit.Text("2030-01-31T19:30") }, passkit.Error, "/eventTicket/auxiliaryFields/0/value"},
		{"date that is a number", passkit.EventTicket, func(p *passkit.Pass) { p.EventTicket.AuxiliaryFields[0].Value = passkit.Number(5) }, passkit.Error, "/eventTicket/auxiliaryFields/0/value"},
		{"date style unknown", passkit.EventTicket, func(p *passkit.Pass) { p.EventTicket.AuxiliaryFields[0].DateStyle = "x" }, passkit.Error, "/eventTicket/auxiliaryFields/0/dateStyle"},
		{"relative without style", passkit.Generic, func(p *passkit.Pass) { primary(p).IsRelative = new(true) }, passkit.Warning, "/generic/primaryFields/0"},
		{"row 2", passkit.EventTicket, func(p *passkit.Pass) { p.EventTicket.AuxiliaryFields[0].Row = new(2) }, passkit.Error, "/eventTicket/auxiliaryFields/0/row"},
		{"row elsewhere", passkit.Generic, func(p *passkit.Pass) { primary(p).Row = new(1) }, passkit.Warning, "/generic/primaryFields/0/row"},
		{"semantics of a field", passkit.Generic, func(p *passkit.Pass) { primary(p).Semantics = jsontext.Value(`"x"`) }, passkit.Error, "/generic/primaryFields/0/semantics"},
		{"too many primary fields", passkit.Generic, func(p *passkit.Pass) {
			p.Generic.PrimaryFields = append(p.Generic.PrimaryFields, passkit.Field{Key: "more", Value: passkit.Text("x")})
		}, passkit.Warning, "/generic/primaryFields"},
		{"footer fields elsewhere", passkit.Generic, func(p *passkit.Pass) {
			p.Generic.FooterFields = []passkit.Field{{Key: "f", Value: passkit.Text("x")}}
		}, passkit.Warning, "/generic/footerFields"},

		// Web service.
		{"service without token", passkit.Generic, func(p *passkit.Pass) { p.WebServiceURL = "https://example.com" }, passkit.Error, "/authenticationToken"},
		{"token without service", passkit.Generic, func(p *passkit.Pass) { p.AuthenticationToken = "0123456789abcdef" }, passkit.Error, "/webServiceURL"},
		{"short token", passkit.Generic, func(p *passkit.Pass) {
			p.WebServiceURL, p.AuthenticationToken = "https://example.com", "0123456789abcde"
		}, passkit.Error, "/authenticationToken"},
		{"plain http", passkit.Generic, func(p *passkit.Pass) {
			p.WebServiceURL, p.AuthenticationToken = "http://example.com", "0123456789abcdef"
		}, passkit.Warning, "/webServiceURL"},
		{"no address", passkit.Generic, func(p *passkit.Pass) {
			p.WebServiceURL, p.AuthenticationToken = "example.com", "0123456789abcdef"
		}, passkit.Error, "/webServiceURL"},

		// Barcodes.
		{"barcode format unknown", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].Format = "QR" }, passkit.Error, "/barcodes/0/format"},
		{"barcode without format", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].Format = "" }, passkit.Error, "/barcodes/0/format"},
		{"barcode without message", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].Message = "" }, passkit.Error, "/barcodes/0/message"},
		{"barcode without encoding", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].MessageEncoding = "" }, passkit.Error, "/barcodes/0/messageEncoding"},
		{"barcode beyond its encoding", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].Message = "€" }, passkit.Error, "/barcodes/0/message"},
		{"barcode of iOS 27 alone", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].Format = passkit.BarcodeCode39 }, passkit.Warning, "/barcodes"},
		{"EAN-13 with a wrong digit", passkit.Generic, func(p *passkit.Pass) {
			p.Barcodes[0].Format, p.Barcodes[0].Message = passkit.BarcodeEAN13, "4006381333932"
		}, passkit.Warning, "/barcodes/0/message"},
		{"odd digits in 2 of 5", passkit.Generic, func(p *passkit.Pass) { p.Barcodes[0].Format = passkit.BarcodeI2of5 }, passkit.Warning, "/barcodes/0/message"},
		{"barcode, deprecated", passkit.Generic, func(p *passkit.Pass) { p.Barcode, p.Barcodes = &p.Barcodes[0], nil }, passkit.Warning, "/barcode"},

		// NFC.
		{"nfc without message", passkit.Generic, func(p *passkit.Pass) { p.NFC = nfc(); p.NFC.Message = "" }, passkit.Error, "/nfc/message"},
		{"nfc with 65 bytes", passkit.Generic, func(p *passkit.Pass) { p.NFC = nfc(); p.NFC.Message = strings.Repeat("x", 65) }, passkit.Error, "/nfc/message"},
		{"nfc without key", passkit.Generic, func(p *passkit.Pass) { p.NFC = nfc(); p.NFC.EncryptionPublicKey = "" }, passkit.Error, "/nfc/encryptionPublicKey"},
		{"nfc with something as key", passkit.Generic, func(p *passkit.Pass) { p.NFC = nfc(); p.NFC.EncryptionPublicKey = "MFkw" }, passkit.Error, "/nfc/encryptionPublicKey"},
		{"nfc that sharing gets round", passkit.Generic, func(p *passkit.Pass) { p.NFC = nfc(); p.NFC.RequiresAuthentication = new(true) }, passkit.Warning, "/nfc/requiresAuthentication"},

		// Relevance.
		{"expiration without offset", passkit.Generic, func(p *passkit.Pass) { p.ExpirationDate = "2030-01-31T19:30:00" }, passkit.Error, "/expirationDate"},
		{"relevantDate alone", passkit.Generic, func(p *passkit.Pass) { p.RelevantDate = "2030-01-31T19:30Z" }, passkit.Warning, "/relevantDate"},
		{"neither moment nor span", passkit.Generic, func(p *passkit.Pass) { p.RelevantDates = []passkit.RelevantDate{{}} }, passkit.Error, "/relevantDates/0"},
		{"one end of a span", passkit.Generic, func(p *passkit.Pass) {
			p.RelevantDates = []passkit.RelevantDate{{StartDate: "2030-01-31T19:30Z"}}
		}, passkit.Error, "/relevantDates/0"},
		{"span backwards", passkit.Generic, func(p *passkit.Pass) {
			p.RelevantDates = []passkit.RelevantDate{{StartDate: "2030-01-31T19:30Z", EndDate: "2030-01-31T19:30+01:00"}}
		}, passkit.Error, "/relevantDates/0/endDate"},
		{"span of two days", passkit.Generic, func(p *passkit.Pass) {
			p.RelevantDates = []passkit.RelevantDate{{StartDate: "2030-01-29T19:30Z", EndDate: "2030-01-31T19:30Z"}}
		}, passkit.Warning, "/relevantDates/0"},
		{"eleven locations", passkit.Generic, func(p *passkit.Pass) {
			for range 11 {
				p.Locations = append(p.Locations, at(1, 1))
			}
		}, passkit.Error, "/locations"},
		{"latitude 91", passkit.Generic, func(p *passkit.Pass) { p.Locations = []passkit.Location{at(91, 0)} }, passkit.Error, "/locations/0/latitude"},
		{"no longitude", passkit.Generic, func(p *passkit.Pass) { p.Locations = []passkit.Location{{Latitude: new(0.0)}} }, passkit.Error, "/locations/0/longitude"},
		{"distance 0", passkit.Generic, func(p *passkit.Pass) { p.MaxDistance = new(0.0) }, passkit.Error, "/maxDistance"},
		{"beacon without UUID", passkit.Generic, func(p *passkit.Pass) { p.Beacons = []passkit.Beacon{{}} }, passkit.Error, "/beacons/0/proximityUUID"},

		// Looks, apps, links.
		{"colour's name", passkit.Generic, func(p *passkit.Pass) { p.LabelColor = "red" }, passkit.Error, "/labelColor"},
		{"colour out of range", passkit.Generic, func(p *passkit.Pass) { p.BackgroundColor = "rgb(256,0,0)" }, passkit.Error, "/backgroundColor"},
		{"colour with two parts", passkit.Generic, func(p *passkit.Pass) { p.ForegroundColor = "rgb(1,2)" }, passkit.Error, "/foregroundColor"},
		{"colour in hexadecimal", passkit.Generic, func(p *passkit.Pass) { p.StripColor = "#FF8800" }, passkit.Warning, "/stripColor"},
		{"grouping of a generic pass", passkit.Generic, func(p *passkit.Pass) { p.GroupingIdentifier = "g" }, passkit.Error, "/groupingIdentifier"},
		{"event logo text without poster", passkit.EventTicket, func(p *passkit.Pass) { p.EventLogoText = "x" }, passkit.Warning, "/eventLogoText"},
		{"launch address without app", passkit.Generic, func(p *passkit.Pass) { p.AppLaunchURL = "example:1" }, passkit.Error, "/associatedStoreIdentifiers"},
		{"app 0", passkit.Generic, func(p *passkit.Pass) { p.AssociatedStoreIdentifiers = []int64{0} }, passkit.Error, "/associatedStoreIdentifiers/0"},
		{"relative link", passkit.Generic, func(p *passkit.Pass) { p.SellURL = "/sell" }, passkit.Error, "/sellURL"},
		{"link to a script", passkit.Generic, func(p *passkit.Pass) { p.UpgradeURL = "javascript:alert(1)" }, passkit.Error, "/upgradeURL"},
		{"e-mail address", passkit.Generic, func(p *passkit.Pass) { p.ContactVenueEmail = "Alex <a@example.com>" }, passkit.Error, "/contactVenueEmail"},
		{"three actions", passkit.Generic, func(p *passkit.Pass) { p.FeaturedActions = make([]passkit.Action, 3) }, passkit.Error, "/featuredActions"},
		{"action without address", passkit.Generic, func(p *passkit.Pass) {
			p.FeaturedActions = []passkit.Action{{Identifier: "1", Type: "shop"}}
		}, passkit.Error, "/featuredActions/0/url"},
		{"place without identifier", passkit.Generic, func(p *passkit.Pass) {
			p.FeaturedActions = []passkit.Action{{Identifier: "1", Type: "place"}}
		}, passkit.Error, "/featuredActions/0/placeIdentifier"},

		// Semantics and what needs them.
		{"semantics that are no object", passkit.Generic, func(p *passkit.Pass) { p.Semantics = jsontext.Value(`[]`) }, passkit.Error, "/semantics"},
		{"poster event without name", passkit.EventTicket, func(p *passkit.Pass) { p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket} }, passkit.Error, "/semantics/eventName"},
		{"poster event without nfc", passkit.EventTicket, func(p *passkit.Pass) { p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket} }, passkit.Error, "/nfc"},
		{"poster event of sports", passkit.EventTicket, func(p *passkit.Pass) {
			p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket}
			p.Semantics = jsontext.Value(`{"eventType":"PKEventTypeSports"}`)
		}, passkit.Error, "/semantics/homeTeamAbbreviation"},
		{"poster event that ends first", passkit.EventTicket, func(p *passkit.Pass) {
			p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket}
			p.Semantics = jsontext.Value(`{"eventStartDate":"2030-01-31T19:30Z","eventEndDate":"2030-01-31T18:30Z"}`)
		}, passkit.Warning, "/semantics/eventEndDate"},
		{"semantic boarding pass without airline", passkit.BoardingPass, func(p *passkit.Pass) {
			p.PreferredStyleSchemes = []passkit.Scheme{passkit.SemanticBoardingPass}
			p.Semantics = jsontext.Value(`{"airlineCode":"","seats":[ ]}`)
		}, passkit.Error, "/semantics/airlineCode"},
		{"semantic boarding pass without seats", passkit.BoardingPass, func(p *passkit.Pass) {
			p.PreferredStyleSchemes = []passkit.Scheme{passkit.SemanticBoardingPass}
			p.Semantics = jsontext.Value(`{"seats":[ ]}`)
		}, passkit.Warning, "/semantics/seats"},
		{"upcoming event without scheme", passkit.EventTicket, func(p *passkit.Pass) {
			p.UpcomingPassInformation = []passkit.UpcomingEntry{{Type: "event", Identifier: "1", Name: "x"}}
		}, passkit.Warning, "/upcomingPassInformation"},
		{"upcoming events with one identifier", passkit.EventTicket, func(p *passkit.Pass) {
			e := passkit.UpcomingEntry{Type: "event", Identifier: "1", Name: "x"}
			p.UpcomingPassInformation = []passkit.UpcomingEntry{e, e}
		}, passkit.Error, "/upcomingPassInformation/1/identifier"},
		{"upcoming without type", passkit.EventTicket, func(p *passkit.Pass) {
			p.UpcomingPassInformation = []passkit.UpcomingEntry{{Identifier: "1", Name: "x"}}
		}, passkit.Error, "/upcomingPassInformation/0/type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _, err := bundle(t, c.style, c.change).Pass()
			if err != nil {
				t.Fatal(err)
			}
			found := p.Validate()
			complete(t, found)
			hits := 0
			for _, f := range found {
				if f.File == "pass.json" && f.Path == c.path && f.Severity == c.severity {
					hits++
				}
			}
			if hits != 1 {
				t.Errorf("want one %s at %q, have %v", c.severity, c.path, found)
			}
		})
	}
}

func TestASemanticPassWithAllItNeedsIsValid(t *testing.T) {
	boarding := bundle(t, passkit.BoardingPass, func(p *passkit.Pass) {
		p.PreferredStyleSchemes = []passkit.Scheme{passkit.SemanticBoardingPass, passkit.PlainBoardingPass}
		p.Semantics = jsontext.Value(`{"airlineCode":"EX","flightNumber":123,"passengerName":{"givenName":"A"},
			"originalDepartureDate":"2030-01-31T19:30Z","originalBoardingDate":"2030-01-31T19:00Z","originalArrivalDate":"2030-01-31T22:30Z",
			"departureAirportCode":"AAA","departureAirportTimeZone":"Europe/Berlin","departureCityName":"A",
			"destinationAirportCode":"BBB","destinationAirportTimeZone":"Europe/Berlin","destinationCityName":"B","seats":[{"seatNumber":"1"}]}`)
	})
	event := bundle(t, passkit.EventTicket, func(p *passkit.Pass) {
		p.PreferredStyleSchemes = []passkit.Scheme{passkit.PosterEventTicket, passkit.PlainEventTicket}
		p.NFC = &passkit.NFC{Message: "1", EncryptionPublicKey: must(passtest.ReaderKey()), RequiresAuthentication: new(false)}
		p.Semantics = jsontext.Value(`{"eventType":"PKEventTypeLivePerformance","eventName":"x","venueName":"y","eventStartDate":"2030-01-31T19:30Z",
			"seats":[{"seatNumber":"1"}],"performerNames":["A"],"artistIDs":["1"]}`)
	})
	for name, b := range map[string]*passkit.Bundle{"boarding": boarding, "event": event} {
		if found := b.Validate(); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}
