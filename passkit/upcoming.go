package passkit

import "github.com/go-json-experiment/json/jsontext"

// An UpcomingEntry is one of the events that a poster event ticket stands for beside
// its own, from iOS 26 on. Dates, images and addresses in it are kept as they are.
type UpcomingEntry struct {
	Type       string `json:"type,omitzero"`       // required: event
	Identifier string `json:"identifier,omitzero"` // required, once in a pass
	Name       string `json:"name,omitzero"`       // required
	IsActive   *bool  `json:"isActive,omitzero"`

	DateInformation jsontext.Value `json:"dateInformation,omitzero"` // objects
	Images          jsontext.Value `json:"images,omitzero"`
	URLs            jsontext.Value `json:"URLs,omitzero"`
	Semantics       jsontext.Value `json:"semantics,omitzero"`

	BackFields                []Field `json:"backFields,omitzero"`
	AdditionalInfoFields      []Field `json:"additionalInfoFields,omitzero"`
	AuxiliaryStoreIdentifiers []int64 `json:"auxiliaryStoreIdentifiers,omitzero"`
	Unknown                   Members `json:",embed"`
}

func (p *Pass) checkUpcoming(c *checker) {
	const all = "/upcomingPassInformation"
	if len(p.UpcomingPassInformation) > 0 && !p.prefers(PosterEventTicket) {
		c.warn(all, "has no effect without the scheme posterEventTicket", "add it to preferredStyleSchemes or remove the entries")
	}
	seen := map[string]bool{}
	for i := range p.UpcomingPassInformation {
		e, path := &p.UpcomingPassInformation[i], index(all, i)
		if e.Type != "event" {
			c.err(member(path, "type"), "is not event, the only type there is", "use event")
		}
		if e.Identifier == "" || seen[e.Identifier] {
			c.err(member(path, "identifier"), "is missing, or an earlier entry's too", "give each entry its own")
		}
		seen[e.Identifier] = true
		if e.Name == "" {
			c.err(member(path, "name"), "is missing", "name the event")
		}
		for _, o := range []struct {
			name  string
			value jsontext.Value
		}{{"dateInformation", e.DateInformation}, {"images", e.Images}, {"URLs", e.URLs}, {"semantics", e.Semantics}} {
			checkObject(c, member(path, o.name), o.value)
		}
		for _, g := range []struct {
			name   string
			fields []Field
		}{{"backFields", e.BackFields}, {"additionalInfoFields", e.AdditionalInfoFields}} {
			for i := range g.fields {
				g.fields[i].check(c, index(member(path, g.name), i))
			}
		}
		c.unknown(path, e.Unknown)
	}
}
