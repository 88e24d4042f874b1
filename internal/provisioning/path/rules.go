package path

// A Rule is one sentence of the table, and its code.
type Rule struct {
	Name     string // stable; a decision's reasons and requirements name it
	Section  string // of the guide
	Sentence string
	look     func(a Attempt, t Thresholds, score int, d *Decision) bool
}

// A Decision is what the rules make of an attempt.
type Decision struct {
	Path     Color
	Score    int           // of risk, 0 to MaxScore
	Reasons  []string      // the names of the rules that applied, in the table's order
	Required []Requirement // what is still to be done; nil if the attempt is declined
}

// Rules gives the table, in the order in which it is applied.
func Rules() []Rule { return rules }

// verified are the steps that verify a cardholder on any path.
var verified = []Step{OneTimePasscode, CallCentre}

// require has the decision ask for one of steps.
func (d *Decision) require(rule string, steps []Step) {
	d.Required = append(d.Required, Requirement{Rule: rule, AnyOf: steps})
}

var rules = []Rule{
	{"apple-red", "4.2 C", "An attempt that Apple recommends to decline is declined, whatever else is known.",
		func(a Attempt, _ Thresholds, _ int, d *Decision) bool {
			return a.Apple == Red && d.raise(Red)
		}},
	{"call-centre-refused", "4.2 B", "A cardholder whom the call centre could not verify is not verified by anything else: declined.",
		func(a Attempt, _ Thresholds, _ int, d *Decision) bool {
			return a.Call != nil && !a.Call.Verified && d.raise(Red)
		}},
	{"issuer-red", "4.3", "A risk score from the red threshold on is the issuer's own decline.",
		func(_ Attempt, t Thresholds, score int, d *Decision) bool {
			return score >= t.RedScore && d.raise(Red)
		}},
	{"apple-orange-0g", "4.2 B", "Orange, or reason code 0G on whatever path, asks for a new one-time passcode to a tenured channel, or for the call centre; an earlier passcode that is dated does not do.",
		func(a Attempt, t Thresholds, _ int, d *Decision) bool {
			if !a.is0G() {
				return false
			}
			if !a.hasPasscode(t, anyPasscode) && !a.hasCall(t) {
				d.require("apple-orange-0g", verified)
			}
			return d.raise(Orange)
		}},
	{"issuer-orange", "4.2 B, 4.3", "A risk score from the orange threshold on has the issuer ask for the same.",
		func(a Attempt, t Thresholds, score int, d *Decision) bool {
			if score < t.OrangeScore {
				return false
			}
			if !a.hasPasscode(t, anyPasscode) && !a.hasCall(t) {
				d.require("issuer-orange", verified)
			}
			return d.raise(Orange)
		}},
	{"multi-factor-missing", "4.2 B", "Multi-factor authentication is had at least once before activation: in this app on this device, or now by a one-time passcode to a tenured channel or the call centre. In-App Verification does not count as it.",
		func(a Attempt, t Thresholds, _ int, d *Decision) bool {
			if a.MultiFactor || a.hasPasscode(t, anyPasscode) || a.hasCall(t) {
				return false
			}
			d.require("multi-factor-missing", verified)
			return d.raise(Yellow)
		}},
	{"credentials-changed", "4.2 A", "Credentials that changed within the window, or of which nothing proves that they did not, ask for another tenured channel than the one that confirmed the change, older than the change, or for the call centre. What is not known of a change no passcode makes up for.",
		func(a Attempt, t Thresholds, _ int, d *Decision) bool {
			if !a.credentialsChanged(t) {
				return false
			}
			another := func(p Passcode) bool {
				return a.Credentials != nil && a.Credentials.leaves(p)
			}
			if !a.hasPasscode(t, another) && !a.hasCall(t) {
				d.require("credentials-changed", verified)
				return d.raise(Yellow)
			}
			return true
		}},
	{"yellow-in-app", "4.2 C", "A Yellow for an attempt from the issuer's app becomes Green, unless the path is Orange or Red.",
		func(a Attempt, _ Thresholds, _ int, d *Decision) bool {
			return a.Apple == Yellow && a.Source == InApp && d.Path == Green
		}},
	{"yellow-second-device", "4.2 C", "A Yellow for the same card on a second device becomes Green, if it is the same session in which the first was Yellow.",
		func(a Attempt, _ Thresholds, _ int, d *Decision) bool {
			return a.Apple == Yellow && a.Source != InApp && a.AfterYellow && d.Path == Green
		}},
	{"yellow", "4.1, 4.2 B", "Any other Yellow asks for a one-time passcode to a tenured channel, or for the call centre.",
		func(a Attempt, t Thresholds, _ int, d *Decision) bool {
			if a.Apple != Yellow || a.Source == InApp || a.AfterYellow {
				return false
			}
			if !a.hasPasscode(t, anyPasscode) && !a.hasCall(t) {
				d.require("yellow", verified)
			}
			return d.raise(Yellow)
		}},
	{"issuer-yellow", "4.3", "A risk score from the yellow threshold on has the issuer verify the cardholder, outside its own app; In-App Verification is one way to.",
		func(a Attempt, t Thresholds, score int, d *Decision) bool {
			if score < t.YellowScore || score >= t.OrangeScore || a.Source == InApp || a.AfterYellow {
				return false
			}
			if !a.hasPasscode(t, anyPasscode) && !a.hasCall(t) {
				steps := verified
				if a.offersInAppVerification() {
					steps = append(steps[:len(steps):len(steps)], InAppVerification)
				}
				d.require("issuer-yellow", steps)
			}
			return d.raise(Yellow)
		}},
	{"no-in-app-verification", "4.1, 4.2 B", "In-App Verification is not offered after Apple's Yellow, Orange or 0G, nor for an attempt that began in the issuer's app.",
		func(a Attempt, _ Thresholds, _ int, d *Decision) bool {
			return !a.offersInAppVerification() && d.Path != Red
		}},
}

// raise has the path ask for c at least. It is true, so that a rule can end with it.
func (d *Decision) raise(c Color) bool {
	d.Path = worse(d.Path, c)
	return true
}

// Decide applies the rules.
func Decide(a Attempt, t Thresholds) Decision {
	d := Decision{Path: Green, Score: Score(a, t)}
	for _, r := range rules {
		if r.look(a, t, d.Score, &d) {
			d.Reasons = append(d.Reasons, r.Name)
		}
	}
	if d.Path == Red {
		d.Required = nil
	}
	return d
}
