package passkit

import (
	"net/mail"
	"net/url"
)

// Links are the pages and addresses around a pass.
type Links struct {
	// Of a poster event ticket, in its event guide.
	AccessibilityURL         string `json:"accessibilityURL,omitzero"`
	AddOnURL                 string `json:"addOnURL,omitzero"`
	BagPolicyURL             string `json:"bagPolicyURL,omitzero"`
	ContactVenueEmail        string `json:"contactVenueEmail,omitzero"`
	ContactVenuePhoneNumber  string `json:"contactVenuePhoneNumber,omitzero"`
	ContactVenueWebsite      string `json:"contactVenueWebsite,omitzero"`
	DirectionsInformationURL string `json:"directionsInformationURL,omitzero"`
	MerchandiseURL           string `json:"merchandiseURL,omitzero"`
	OrderFoodURL             string `json:"orderFoodURL,omitzero"`
	ParkingInformationURL    string `json:"parkingInformationURL,omitzero"`
	PurchaseParkingURL       string `json:"purchaseParkingURL,omitzero"`
	SellURL                  string `json:"sellURL,omitzero"`
	TransferURL              string `json:"transferURL,omitzero"`
	TransitInformationURL    string `json:"transitInformationURL,omitzero"`

	// Of a semantic boarding pass.
	ChangeSeatURL                string `json:"changeSeatURL,omitzero"`
	EntertainmentURL             string `json:"entertainmentURL,omitzero"`
	ManagementURL                string `json:"managementURL,omitzero"`
	PurchaseAdditionalBaggageURL string `json:"purchaseAdditionalBaggageURL,omitzero"`
	PurchaseLoungeAccessURL      string `json:"purchaseLoungeAccessURL,omitzero"`
	PurchaseWifiURL              string `json:"purchaseWifiURL,omitzero"`
	RegisterServiceAnimalURL     string `json:"registerServiceAnimalURL,omitzero"`
	ReportLostBagURL             string `json:"reportLostBagURL,omitzero"`
	RequestWheelchairURL         string `json:"requestWheelchairURL,omitzero"`
	TransitProviderEmail         string `json:"transitProviderEmail,omitzero"`
	TransitProviderPhoneNumber   string `json:"transitProviderPhoneNumber,omitzero"`
	TransitProviderWebsiteURL    string `json:"transitProviderWebsiteURL,omitzero"`
	UpgradeURL                   string `json:"upgradeURL,omitzero"`
}

func (l *Links) check(c *checker) {
	for _, u := range []struct{ name, value string }{
		{"accessibilityURL", l.AccessibilityURL},
		{"addOnURL", l.AddOnURL},
		{"bagPolicyURL", l.BagPolicyURL},
		{"contactVenueWebsite", l.ContactVenueWebsite},
		{"directionsInformationURL", l.DirectionsInformationURL},
		{"merchandiseURL", l.MerchandiseURL},
		{"orderFoodURL", l.OrderFoodURL},
		{"parkingInformationURL", l.ParkingInformationURL},
		{"purchaseParkingURL", l.PurchaseParkingURL},
		{"sellURL", l.SellURL},
		{"transferURL", l.TransferURL},
		{"transitInformationURL", l.TransitInformationURL},
		{"changeSeatURL", l.ChangeSeatURL},
		{"entertainmentURL", l.EntertainmentURL},
		{"managementURL", l.ManagementURL},
		{"purchaseAdditionalBaggageURL", l.PurchaseAdditionalBaggageURL},
		{"purchaseLoungeAccessURL", l.PurchaseLoungeAccessURL},
		{"purchaseWifiURL", l.PurchaseWifiURL},
		{"registerServiceAnimalURL", l.RegisterServiceAnimalURL},
		{"reportLostBagURL", l.ReportLostBagURL},
		{"requestWheelchairURL", l.RequestWheelchairURL},
		{"transitProviderWebsiteURL", l.TransitProviderWebsiteURL},
		{"upgradeURL", l.UpgradeURL},
	} {
		checkURL(c, "/"+u.name, u.value)
	}
	for _, m := range []struct{ name, value string }{
		{"contactVenueEmail", l.ContactVenueEmail},
		{"transitProviderEmail", l.TransitProviderEmail},
	} {
		if a, err := mail.ParseAddress(m.value); m.value != "" && (err != nil || a.Address != m.value) {
			c.err("/"+m.name, "is not an e-mail address", "write it like someone@example.com")
		}
	}
}

// checkURL checks an address that a device opens in a browser or calls.
func checkURL(c *checker, path, value string) {
	if value == "" {
		return
	}
	switch u, err := url.Parse(value); {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		c.err(path, "is not an absolute https address", "write it like https://example.com/path")
	case u.Scheme == "http":
		c.warn(path, "is not https", "use https; devices refuse or warn otherwise")
	}
}

// An Action is a link below the face of a pass, from iOS 27 on. A pass has at most two.
type Action struct {
	Identifier      string  `json:"identifier,omitzero"`      // required, once in a pass
	Type            string  `json:"type,omitzero"`            // required
	URL             string  `json:"url,omitzero"`             // required, unless the type is place
	PlaceIdentifier string  `json:"placeIdentifier,omitzero"` // of Maps; required if the type is place
	Unknown         Members `json:",embed"`
}

// maxActions is how many actions Wallet shows.
const maxActions = 2

func (p *Pass) checkActions(c *checker) {
	if len(p.FeaturedActions) > maxActions {
		c.err("/featuredActions", "has more than two actions", "keep two")
	}
	seen := map[string]bool{}
	for i := range p.FeaturedActions {
		a, path := &p.FeaturedActions[i], index("/featuredActions", i)
		switch {
		case a.Identifier == "":
			c.err(member(path, "identifier"), "is missing", "give the action a name of its own")
		case seen[a.Identifier]:
			c.err(member(path, "identifier"), "is the identifier of an earlier action too", "give each its own")
		}
		seen[a.Identifier] = true
		switch {
		case a.Type == "":
			c.err(member(path, "type"), "is missing", "use a type that Apple documents, for example shop")
		case a.Type == "place" && a.PlaceIdentifier == "":
			c.err(member(path, "placeIdentifier"), "is missing", "give the identifier of a place in Maps, or use another type")
		case a.Type != "place" && a.URL == "":
			c.err(member(path, "url"), "is missing", "give the address to open")
		}
		if u, err := url.Parse(a.URL); err != nil || a.URL != "" && u.Scheme == "" { // tel: for calls
			c.err(member(path, "url"), "is not an absolute address", "write it like https://example.com/path")
		}
		c.unknown(path, a.Unknown)
	}
}
