package passkit

import (
	"net/url"
	"regexp"
	"strings"
)

// Validate checks pass.json by itself. Bundle.Validate checks the files beside it too.
func (p *Pass) Validate() []Finding {
	c := &checker{file: FilePass}
	p.checkIdentity(c)
	p.checkStyle(c)
	p.checkWebService(c)
	p.checkBarcodes(c)
	if p.NFC != nil {
		p.NFC.check(c, p)
	}
	p.checkRelevance(c)
	p.checkLooks(c)
	p.checkApps(c)
	p.Links.check(c)
	p.checkActions(c)
	p.checkSemantics(c)
	p.checkUpcoming(c)
	c.unknown("", p.Unknown)
	return c.found
}

// teamForm is what all team identifiers seen look like; Apple does not document it.
var teamForm = regexp.MustCompile(`^[A-Z0-9]{10}$`)

func (p *Pass) checkIdentity(c *checker) {
	if p.FormatVersion != 1 {
		c.err("/formatVersion", "is missing or not 1", "use 1")
	}
	for _, m := range []struct{ name, value, remedy string }{
		{"passTypeIdentifier", p.PassTypeIdentifier, "give the identifier registered with Apple, for example pass.com.example.card"},
		{"serialNumber", p.SerialNumber, "give each pass of a type its own"},
		{"teamIdentifier", p.TeamIdentifier, "give the team that registered the pass type"},
		{"organizationName", p.OrganizationName, "name who issues the pass"},
		{"description", p.Description, "say in a few words what the pass is; it is read aloud"},
	} {
		if m.value == "" {
			c.err("/"+m.name, "is missing", m.remedy)
		}
	}
	if p.PassTypeIdentifier != "" && !strings.HasPrefix(p.PassTypeIdentifier, "pass.") {
		c.err("/passTypeIdentifier", "does not begin with pass.", "use the identifier as registered with Apple")
	}
	if p.TeamIdentifier != "" && !teamForm.MatchString(p.TeamIdentifier) {
		c.warn("/teamIdentifier", "is not ten capital letters and digits", "use the team identifier, not the team's name")
	}
	if strings.ContainsFunc(p.SerialNumber, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
		c.warn("/serialNumber", "has a slash, a space or a control character, which devices put into addresses", "use letters, digits, dots and dashes")
	}
}

// minToken is how many characters a token has at least.
const minToken = 16

func (p *Pass) checkWebService(c *checker) {
	checkURL(c, "/webServiceURL", p.WebServiceURL)
	switch {
	case p.WebServiceURL != "" && p.AuthenticationToken == "":
		c.err("/authenticationToken", "is missing beside webServiceURL", "give at least 16 random characters, or remove webServiceURL")
	case p.WebServiceURL == "" && p.AuthenticationToken != "":
		c.err("/webServiceURL", "is missing beside authenticationToken", "give the service's address, or remove authenticationToken")
	case p.AuthenticationToken != "" && len(p.AuthenticationToken) < minToken:
		c.err("/authenticationToken", "has fewer than 16 characters", "make a longer one, at random")
	}
}

func (p *Pass) checkLooks(c *checker) {
	for _, m := range []struct {
		name  string
		value Color
	}{
		{"backgroundColor", p.BackgroundColor},
		{"foregroundColor", p.ForegroundColor},
		{"labelColor", p.LabelColor},
		{"stripColor", p.StripColor},
		{"footerBackgroundColor", p.FooterBackgroundColor},
	} {
		m.value.check(c, "/"+m.name)
	}
	if p.GroupingIdentifier != "" && !p.has(EventTicket, BoardingPass) {
		c.err("/groupingIdentifier", "is for event tickets and boarding passes only", "remove it")
	}
	if p.EventLogoText != "" && !p.prefers(PosterEventTicket) {
		c.warn("/eventLogoText", "has no effect without the scheme posterEventTicket", "use logoText")
	}
}

func (p *Pass) checkApps(c *checker) {
	for _, m := range []struct {
		name string
		ids  []int64
	}{
		{"associatedStoreIdentifiers", p.AssociatedStoreIdentifiers},
		{"auxiliaryStoreIdentifiers", p.AuxiliaryStoreIdentifiers},
	} {
		for i, id := range m.ids {
			if id <= 0 {
				c.err(index("/"+m.name, i), "is not an App Store identifier", "give the number from the app's address in the App Store")
			}
		}
	}
	if p.AppLaunchURL == "" {
		return
	}
	if len(p.AssociatedStoreIdentifiers) == 0 {
		c.err("/associatedStoreIdentifiers", "is missing beside appLaunchURL", "name the app, or remove appLaunchURL")
	}
	if u, err := url.Parse(p.AppLaunchURL); err != nil || u.Scheme == "" {
		c.err("/appLaunchURL", "is not an absolute address", "write it with the app's scheme, like example:card/1")
	}
}
