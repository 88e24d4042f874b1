package passkit

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// need is a semantic tag that a scheme asks for.
type need struct {
	tag      string
	severity Severity
}

// The tags without which Wallet falls back from a scheme to the style as it is, and
// those that it would like, as Apple's pass-builder has them.
var (
	posterEventNeeds = []need{{"eventName", Error}, {"venueName", Error}, {"eventStartDate", Warning}, {"seats", Warning}}
	sportsNeeds      = []need{{"awayTeamAbbreviation", Error}, {"homeTeamAbbreviation", Error}}
	liveNeeds        = []need{{"performerNames", Error}, {"artistIDs", Warning}}

	semanticBoardingNeeds = []need{
		{"airlineCode", Error}, {"flightNumber", Error}, {"passengerName", Error},
		{"originalDepartureDate", Error}, {"originalBoardingDate", Error}, {"originalArrivalDate", Error},
		{"departureAirportCode", Error}, {"departureAirportTimeZone", Error}, {"departureCityName", Warning},
		{"destinationAirportCode", Error}, {"destinationAirportTimeZone", Warning}, {"destinationCityName", Warning},
		{"seats", Warning},
	}
)

// checkSemantics checks the tags that the preferred scheme needs. The others are kept
// unlooked at: there are about a hundred, and more every year.
func (p *Pass) checkSemantics(c *checker) {
	checkObject(c, "/semantics", p.Semantics)
	var tags map[string]jsontext.Value
	if p.Semantics != nil && json.Unmarshal(p.Semantics, &tags) != nil {
		return
	}
	switch {
	case p.EventTicket != nil && p.prefers(PosterEventTicket):
		checkNeeds(c, tags, PosterEventTicket, posterEventNeeds)
		switch text(tags["eventType"]) {
		case "PKEventTypeSports":
			checkNeeds(c, tags, PosterEventTicket, sportsNeeds)
		case "PKEventTypeLivePerformance":
			checkNeeds(c, tags, PosterEventTicket, liveNeeds)
		}
		p.checkPosterEvent(c, tags)
	case p.BoardingPass != nil && p.prefers(SemanticBoardingPass):
		checkNeeds(c, tags, SemanticBoardingPass, semanticBoardingNeeds)
	}
}

func checkNeeds(c *checker, tags map[string]jsontext.Value, s Scheme, needs []need) {
	for _, n := range needs {
		if !empty(tags[n.tag]) {
			continue
		}
		path, remedy := member("/semantics", n.tag), "add it, or remove "+string(s)+" from preferredStyleSchemes"
		if n.severity == Error {
			c.err(path, "is missing, and "+string(s)+" needs it", remedy)
		} else {
			c.warn(path, "is missing, and "+string(s)+" would show it", remedy)
		}
	}
}

// checkPosterEvent checks what a poster event ticket needs beside tags that are there.
func (p *Pass) checkPosterEvent(c *checker, tags map[string]jsontext.Value) {
	switch {
	case p.NFC == nil:
		c.err("/nfc", "is missing, and posterEventTicket needs it", "add it, or remove posterEventTicket from preferredStyleSchemes")
	case p.NFC.RequiresAuthentication == nil:
		c.err("/nfc/requiresAuthentication", "is missing, and posterEventTicket needs it", "say true or false")
	}
	start, errStart := Date(text(tags["eventStartDate"])).Time()
	end, errEnd := Date(text(tags["eventEndDate"])).Time()
	if errStart == nil && errEnd == nil && start.After(end) {
		c.warn("/semantics/eventEndDate", "is before eventStartDate", "exchange or correct them")
	}
}

// text is the text that v is, or empty.
func text(v jsontext.Value) (s string) {
	if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// empty reports whether a value says nothing.
func empty(v jsontext.Value) bool {
	v = v.Clone()
	if v == nil || v.Compact() != nil {
		return true
	}
	switch string(v) {
	case `null`, `""`, `[]`, `{}`:
		return true
	}
	return false
}
