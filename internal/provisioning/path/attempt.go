package path

import (
	"slices"
	"time"
)

// Source is where a cardholder began.
type Source string

// The sources.
const (
	InApp  Source = "in-app" // the issuer's app (In-App Provisioning)
	Wallet Source = "wallet" // Wallet itself: a card typed in or photographed, or one on file
)

// Code0G is Apple's reason code for factors that ask for more diligence.
const Code0G = "0G"

// An Attempt is all that is known of a provisioning attempt. What is nil is not known; what
// stands here was proved by a record or a signature before.
type Attempt struct {
	Apple       Color // Apple's recommendation
	ReasonCodes []string
	Source      Source
	// AfterYellow says that the same card was added to another device in the same session, and
	// that Apple recommended Yellow for that.
	AfterYellow bool

	MultiFactor bool         // multi-factor authentication was had in this app on this device
	Passcodes   []Passcode   // verified for this card and its owner
	Call        *Call        // the call centre's outcome
	Credentials *Credentials // of the app's user
	Device      *Device
	Login       *Login

	Now time.Time
}

// A Passcode is a one-time passcode that was verified.
type Passcode struct {
	VerifiedAt time.Time
	Channel    string    // what it was sent to, by the issuer's name
	Since      time.Time // since when the channel is the cardholder's; zero: not proved
}

// A Call is what came of a call to the call centre.
type Call struct {
	At       time.Time
	Verified bool // false: the cardholder was not who they said
}

// Credentials say when the app user's credentials last changed.
type Credentials struct {
	ChangedAt time.Time // zero: never
	Channel   string    // by which the change was confirmed; empty: not known, and then any may be the one
}

// leaves reports whether a passcode says something that the change of credentials does not: it
// was verified after it, on another channel, which was the cardholder's before it.
func (c Credentials) leaves(p Passcode) bool {
	return c.Channel != "" && p.Channel != c.Channel && p.VerifiedAt.After(c.ChangedAt) && p.Since.Before(c.ChangedAt)
}

// A Device says how long the app and its device are known.
type Device struct {
	AppSince    time.Time // when this instance of the app was installed
	DeviceSince time.Time // when the device was first seen
	Associated  bool      // the device was the user's before
}

// A Login says how the user logged in.
type Login struct {
	Method string // such as password or biometrics
	Usual  bool   // the user does so as a rule
}

// is0G reports whether Apple asks for more diligence. An Orange without a code is one too.
func (a Attempt) is0G() bool {
	return a.Apple == Orange || slices.Contains(a.ReasonCodes, Code0G)
}

// offersInAppVerification reports whether the pass may be activated from the app in place of
// another verification.
func (a Attempt) offersInAppVerification() bool {
	return a.Source != InApp && a.Apple == Green && !a.is0G()
}

// Thresholds are what an issuer decides for itself.
type Thresholds struct {
	PasscodeFresh    time.Duration // a passcode verified longer ago is dated
	CallFresh        time.Duration // so is a call
	ChannelTenure    time.Duration // how long a channel must be the cardholder's to be tenured
	CredentialWindow time.Duration // a change of credentials counts for so long
	AppTenure        time.Duration // an app installed later is new
	DeviceTenure     time.Duration // a device seen later is new

	YellowScore int // from this risk score on the issuer asks for verification, outside its app
	OrangeScore int // from this on with more rigour
	RedScore    int // from this on it declines; more than 100: never
}

// Defaults are the thresholds unless configured.
func Defaults() Thresholds {
	const day = 24 * time.Hour
	return Thresholds{
		PasscodeFresh: 10 * time.Minute, CallFresh: time.Hour, ChannelTenure: 30 * day,
		CredentialWindow: 60 * day, AppTenure: 30 * day, DeviceTenure: 30 * day,
		YellowScore: 30, OrangeScore: 60, RedScore: 90,
	}
}

// tenured reports whether a passcode is fresh and went to a tenured channel.
func (a Attempt) tenured(p Passcode, t Thresholds) bool {
	return !p.VerifiedAt.After(a.Now) && a.Now.Sub(p.VerifiedAt) < t.PasscodeFresh &&
		!p.Since.IsZero() && !p.VerifiedAt.Before(p.Since.Add(t.ChannelTenure))
}

// hasPasscode reports whether a passcode is fresh, went to a tenured channel, and fits.
func (a Attempt) hasPasscode(t Thresholds, fits func(Passcode) bool) bool {
	return slices.ContainsFunc(a.Passcodes, func(p Passcode) bool { return a.tenured(p, t) && fits(p) })
}

func anyPasscode(Passcode) bool { return true }

// hasCall reports whether the call centre has verified the cardholder just now.
func (a Attempt) hasCall(t Thresholds) bool {
	return a.Call != nil && a.Call.Verified && !a.Call.At.After(a.Now) && a.Now.Sub(a.Call.At) < t.CallFresh
}

// credentialsChanged reports whether the credentials changed within the window, which is also
// so if nothing proves that they did not.
func (a Attempt) credentialsChanged(t Thresholds) bool {
	return a.Credentials == nil || !a.Credentials.ChangedAt.IsZero() && a.Now.Sub(a.Credentials.ChangedAt) < t.CredentialWindow
}
