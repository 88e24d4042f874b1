package passkit

// A Style is the member of pass.json that holds the fields and decides the layout.
type Style string

// The styles.
const (
	BoardingPass  Style = "boardingPass"
	Coupon        Style = "coupon"
	EventTicket   Style = "eventTicket"
	StoreCard     Style = "storeCard"
	Generic       Style = "generic"
	PosterGeneric Style = "posterGeneric" // iOS 27
)

// Styles are all styles.
func Styles() []Style {
	return []Style{BoardingPass, Coupon, EventTicket, StoreCard, Generic, PosterGeneric}
}

// A Scheme is a layout that Wallet prefers over the style's own if the semantics have
// what it needs (preferredStyleSchemes).
type Scheme string

// The schemes. Those of a style's own name stand for the style as it is.
const (
	PosterEventTicket    Scheme = "posterEventTicket"    // iOS 18, over eventTicket
	SemanticBoardingPass Scheme = "semanticBoardingPass" // iOS 26, over boardingPass
	PlainEventTicket     Scheme = "eventTicket"
	PlainBoardingPass    Scheme = "boardingPass"
)

// styleField is where a pass keeps the fields of a style.
func (p *Pass) styleField(s Style) **Fields {
	switch s {
	case BoardingPass:
		return &p.BoardingPass
	case Coupon:
		return &p.Coupon
	case EventTicket:
		return &p.EventTicket
	case StoreCard:
		return &p.StoreCard
	case Generic:
		return &p.Generic
	case PosterGeneric:
		return &p.PosterGeneric
	}
	return nil
}

// Fields are the fields under a style, nil if the pass does not have it.
func (p *Pass) Fields(s Style) *Fields {
	if at := p.styleField(s); at != nil {
		return *at
	}
	return nil
}

// Styles are the styles that the pass has, in the order of the function Styles.
func (p *Pass) Styles() (have []Style) {
	for _, s := range Styles() {
		if p.Fields(s) != nil {
			have = append(have, s)
		}
	}
	return have
}

// has reports whether the pass has one of the styles.
func (p *Pass) has(styles ...Style) bool {
	for _, s := range styles {
		if p.Fields(s) != nil {
			return true
		}
	}
	return false
}

// prefers reports whether the pass asks for a scheme.
func (p *Pass) prefers(s Scheme) bool {
	for _, have := range p.PreferredStyleSchemes {
		if have == s {
			return true
		}
	}
	return false
}

func (p *Pass) checkStyle(c *checker) {
	have := p.Styles()
	switch {
	case len(have) == 0:
		c.err("", "has no style", "add one of boardingPass, coupon, eventTicket, storeCard, generic, posterGeneric")
	case p.PosterGeneric != nil && len(have) == 1:
		c.warn("/posterGeneric", "stands alone, and devices before iOS 27 do not know it", "add generic with the same fields as a fallback")
	case p.PosterGeneric != nil && len(have) > 2, p.PosterGeneric == nil && len(have) > 1:
		c.err("/"+string(have[1]), "is a second style", "keep one; only posterGeneric may have one other style beside it")
	}
	for i, s := range p.PreferredStyleSchemes {
		path := index("/preferredStyleSchemes", i)
		switch s {
		case PosterEventTicket, PlainEventTicket:
			if p.EventTicket == nil {
				c.warn(path, "has no effect without the style eventTicket", "remove it or change the style")
			}
		case SemanticBoardingPass, PlainBoardingPass:
			if p.BoardingPass == nil {
				c.warn(path, "has no effect without the style boardingPass", "remove it or change the style")
			}
		default:
			c.warn(path, "is not a scheme known here", "use posterEventTicket or semanticBoardingPass")
		}
	}
	for _, s := range have {
		p.Fields(s).check(c, "/"+string(s), s)
	}
}
