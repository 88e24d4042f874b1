// Package path is what decides about a provisioning attempt: pure rules, without I/O and
// without a clock of their own.
//
// A path is a colour, by which Apple recommends and an issuer decides (guide, 4.1):
//
//	GREEN   nothing is left to ask
//	YELLOW  the cardholder is verified before the token may become active
//	ORANGE  the same, with more rigour
//	RED     declined
//
//	got := path.Decide(path.Attempt{Apple: path.Yellow, Source: path.InApp, …}, thresholds)
//	got.Path, got.Required, got.Reasons
//
// The rules stand in one table, [Rules], each with the sentence that it keeps. [Cases] are
// what the tests run and docs/decisions.md shows. What must be is code; how long, how fresh
// and how risky is [Thresholds].
package path

import "slices"

// Color is a provisioning path.
type Color string

// The paths, from the one that asks least to the one that asks most.
const (
	Green  Color = "GREEN"
	Yellow Color = "YELLOW"
	Orange Color = "ORANGE"
	Red    Color = "RED"
)

// Colors lists the paths, from the one that asks least to the one that asks most.
func Colors() []Color { return []Color{Green, Yellow, Orange, Red} }

// Known reports whether c is a path.
func (c Color) Known() bool { return slices.Contains(Colors(), c) }

// worse gives the path that asks more.
func worse(a, b Color) Color {
	if slices.Index(Colors(), a) < slices.Index(Colors(), b) {
		return b
	}
	return a
}

// Step is a way to verify a cardholder.
type Step string

// The steps.
const (
	OneTimePasscode   Step = "one-time-passcode"   // fresh, to a tenured channel
	CallCentre        Step = "call-centre"         // verified by the call centre
	InAppVerification Step = "in-app-verification" // the pass activated from the issuer's app
)

// A Requirement is what must still be done before a token may become active.
type Requirement struct {
	Rule  string `json:"rule"`  // the name of the rule that asks for it
	AnyOf []Step `json:"anyOf"` // what fulfils it
}

// FulfilledBy reports whether a step fulfils the requirement.
func (r Requirement) FulfilledBy(s Step) bool { return slices.Contains(r.AnyOf, s) }
