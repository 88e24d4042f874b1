package passkit

import (
	"fmt"
	"regexp"
	"time"
)

// A RelevantDate is when Wallet offers the pass: a moment, or a span of at most a day.
type RelevantDate struct {
	Date         Date    `json:"date,omitzero"`
	StartDate    Date    `json:"startDate,omitzero"`
	EndDate      Date    `json:"endDate,omitzero"`
	RelevantDate Date    `json:"relevantDate,omitzero"` // what iOS 18 called date
	Unknown      Members `json:",embed"`
}

// A Location is where Wallet offers the pass.
type Location struct {
	Latitude     *float64 `json:"latitude,omitzero"`  // required, degrees
	Longitude    *float64 `json:"longitude,omitzero"` // required, degrees
	Altitude     *float64 `json:"altitude,omitzero"`  // metres
	RelevantText string   `json:"relevantText,omitzero"`
	Unknown      Members  `json:",embed"`
}

// A Beacon is a Bluetooth Low Energy beacon near which Wallet offers the pass.
type Beacon struct {
	ProximityUUID string  `json:"proximityUUID,omitzero"` // required
	Major         *uint16 `json:"major,omitzero"`
	Minor         *uint16 `json:"minor,omitzero"`
	RelevantText  string  `json:"relevantText,omitzero"`
	Unknown       Members `json:",embed"`
}

// maxLocations is how many places Wallet takes.
const maxLocations = 10

var uuidForm = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

func (p *Pass) checkRelevance(c *checker) {
	p.ExpirationDate.check(c, "/expirationDate")
	p.RelevantDate.check(c, "/relevantDate")
	if p.RelevantDate != "" && len(p.RelevantDates) == 0 {
		c.warn("/relevantDate", "is deprecated since iOS 18", "add relevantDates; relevantDate may stay for older devices")
	}
	for i := range p.RelevantDates {
		p.RelevantDates[i].check(c, index("/relevantDates", i))
	}
	if len(p.Locations) > maxLocations {
		c.err("/locations", fmt.Sprintf("has %d places, and %d are the most", len(p.Locations), maxLocations), "keep those that matter most")
	}
	for i := range p.Locations {
		p.Locations[i].check(c, index("/locations", i))
	}
	if p.MaxDistance != nil && *p.MaxDistance <= 0 {
		c.err("/maxDistance", "is not above 0", "give metres, or remove it")
	}
	for i := range p.Beacons {
		b, path := &p.Beacons[i], index("/beacons", i)
		if !uuidForm.MatchString(b.ProximityUUID) {
			c.err(member(path, "proximityUUID"), "is not a UUID", "write it like 2F234454-CF6D-4A0F-ADF2-F4911BA9FFA6")
		}
		c.unknown(path, b.Unknown)
	}
}

func (r *RelevantDate) check(c *checker, path string) {
	r.Date.check(c, member(path, "date"))
	r.RelevantDate.check(c, member(path, "relevantDate"))
	start, hasStart := r.StartDate.check(c, member(path, "startDate"))
	end, hasEnd := r.EndDate.check(c, member(path, "endDate"))
	moment, span := r.Date != "" || r.RelevantDate != "", r.StartDate != "" || r.EndDate != ""
	switch {
	case moment == span:
		c.err(path, "is not either a moment or a span", "give date, or startDate and endDate")
	case span && (r.StartDate == "" || r.EndDate == ""):
		c.err(path, "has one end of a span only", "give startDate and endDate")
	case hasStart && hasEnd && !end.After(start):
		c.err(member(path, "endDate"), "is not after startDate", "exchange or correct them")
	case hasStart && hasEnd && end.Sub(start) > 24*time.Hour:
		c.warn(path, "is longer than 24 hours, which Wallet does not allow for one span", "split it")
	}
	c.unknown(path, r.Unknown)
}

func (l *Location) check(c *checker, path string) {
	for _, d := range []struct {
		name  string
		value *float64
		most  float64
	}{{"latitude", l.Latitude, 90}, {"longitude", l.Longitude, 180}} {
		switch {
		case d.value == nil:
			c.err(member(path, d.name), "is missing", "give it in degrees")
		case *d.value < -d.most || *d.value > d.most:
			c.err(member(path, d.name), fmt.Sprintf("is not between -%g and %g", d.most, d.most), "give it in degrees; check that the two are not exchanged")
		}
	}
	c.unknown(path, l.Unknown)
}
