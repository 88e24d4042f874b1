// Package path is what decides about a provisioning attempt: pure rules, without I/O and
// without a clock of their own.
//
// A path is a colour, by which Apple recommends and an issuer decides (guide, 4.1):
//
//	GREEN   approve
//	YELLOW  approve once the cardholder is verified
//	ORANGE  approve once the cardholder is verified with more rigour
//	RED     decline
//
// What is still to be done before a token may become active are requirements, each with the
// steps of which any one fulfils it.
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

// Step is a way to verify a cardholder.
type Step string

// The steps.
const (
	OneTimePasscode   Step = "one-time-passcode"   // to a tenured channel
	CallCentre        Step = "call-centre"         // the cardholder verified by the call centre
	InAppVerification Step = "in-app-verification" // the cardholder activates the pass from the issuer's app
)

// A Requirement is what must still be done before a token may become active.
type Requirement struct {
	Rule  string `json:"rule"`  // the name of the rule that asks for it
	AnyOf []Step `json:"anyOf"` // what fulfils it
}

// FulfilledBy reports whether a step fulfils the requirement.
func (r Requirement) FulfilledBy(s Step) bool { return slices.Contains(r.AnyOf, s) }
