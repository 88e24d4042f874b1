package path

import (
	"slices"
	"time"
)

// A Case is an attempt with what is decided about it: a row of the documentation, which the
// tests run.
type Case struct {
	Rule     string // the one that it shows
	Given    string
	Attempt  Attempt
	Path     Color
	Required []Requirement
}

// caseNow is when all cases happen.
var caseNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return caseNow.Add(-d) }

const year = 365 * 24 * time.Hour

// known is an attempt of which everything is known, and nothing speaks against it.
func known(apple Color, source Source, with ...func(*Attempt)) Attempt {
	a := Attempt{
		Apple: apple, Source: source, MultiFactor: true, Now: caseNow,
		Credentials: &Credentials{ChangedAt: ago(2 * year), Channel: "sms"},
		Device:      &Device{AppSince: ago(year), DeviceSince: ago(year), Associated: true},
		Login:       &Login{Method: "biometrics", Usual: true},
	}
	for _, w := range with {
		w(&a)
	}
	return a
}

// passcode adds a verified passcode to a channel that has been the cardholder's for a year.
func passcode(age time.Duration, channel string) func(*Attempt) {
	return func(a *Attempt) {
		a.Passcodes = append(a.Passcodes, Passcode{VerifiedAt: ago(age), Channel: channel, Since: ago(year)})
	}
}

func newChannel(a *Attempt) {
	a.Passcodes = append(a.Passcodes, Passcode{VerifiedAt: ago(time.Minute), Channel: "sms", Since: ago(24 * time.Hour)})
}

func call(verified bool) func(*Attempt) {
	return func(a *Attempt) { a.Call = &Call{At: ago(time.Minute), Verified: verified} }
}

func code0G(a *Attempt) { a.ReasonCodes = append(a.ReasonCodes, Code0G) }

func noMultiFactor(a *Attempt) { a.MultiFactor = false }

func noCredentials(a *Attempt) { a.Credentials = nil }

func changedYesterday(a *Attempt) {
	a.Credentials = &Credentials{ChangedAt: ago(24 * time.Hour), Channel: "sms"}
}

// channelAfterChange has a channel that is tenured, and came with the change.
func channelAfterChange(a *Attempt) {
	const day = 24 * time.Hour
	a.Credentials = &Credentials{ChangedAt: ago(50 * day), Channel: "sms"}
	a.Passcodes = append(a.Passcodes, Passcode{VerifiedAt: ago(time.Minute), Channel: "email", Since: ago(40 * day)})
}

func afterYellow(a *Attempt) { a.AfterYellow = true }

// risky makes what is known of app, device and login speak against the attempt.
func risky(a *Attempt) {
	a.Device = &Device{AppSince: ago(time.Hour), DeviceSince: ago(time.Hour)}
	a.Login = &Login{Method: "password"}
}

func unknown(a *Attempt) { a.Device, a.Login = nil, nil }

func newApp(a *Attempt) {
	a.Device = &Device{AppSince: ago(time.Hour), DeviceSince: ago(time.Hour), Associated: true}
}

// asks is a requirement for the usual steps.
func asks(rules ...string) []Requirement {
	var all []Requirement
	for _, r := range rules {
		all = append(all, Requirement{Rule: r, AnyOf: verified})
	}
	return all
}

// Cases gives the cases, by their rule.
func Cases() []Case { return slices.Clone(cases) }

var cases = []Case{
	{"apple-red", "Apple recommends Red, from the app, and everything else is well", known(Red, InApp, passcode(time.Minute, "sms")), Red, nil},
	{"apple-red", "Apple recommends Red with 0G, and the passcode is done", known(Red, InApp, code0G, passcode(time.Minute, "sms")), Red, nil},
	{"call-centre-refused", "the call centre did not verify the cardholder", known(Green, InApp, call(false), passcode(time.Minute, "sms")), Red, nil},
	{"issuer-red", "Orange, a new app on an unknown device, changed credentials, an unusual login", known(Orange, InApp, risky, changedYesterday, call(true)), Red, nil},
	{"apple-orange-0g", "Orange with 0G, no passcode", known(Orange, InApp, code0G), Orange, asks("apple-orange-0g")},
	{"apple-orange-0g", "Yellow with 0G, no passcode", known(Yellow, InApp, code0G), Orange, asks("apple-orange-0g")},
	{"apple-orange-0g", "Green with 0G, no passcode", known(Green, InApp, code0G), Orange, asks("apple-orange-0g")},
	{"apple-orange-0g", "Orange with 0G, a passcode of an hour ago", known(Orange, InApp, code0G, passcode(time.Hour, "sms")), Orange, asks("apple-orange-0g")},
	{"apple-orange-0g", "Orange with 0G, a passcode just now to a channel of yesterday", known(Orange, InApp, code0G, newChannel), Orange, asks("apple-orange-0g")},
	{"apple-orange-0g", "Orange with 0G, a passcode just now to a tenured channel", known(Orange, InApp, code0G, passcode(time.Minute, "sms")), Orange, nil},
	{"apple-orange-0g", "Orange with 0G, verified by the call centre just now", known(Orange, InApp, code0G, call(true)), Orange, nil},
	{"issuer-orange", "Green, from the app: a new app on an unknown device, changed credentials, an unusual login", known(Green, InApp, risky, changedYesterday), Orange, asks("issuer-orange", "credentials-changed")},
	{"issuer-orange", "the same, and the call centre has verified the cardholder", known(Green, InApp, risky, changedYesterday, call(true)), Orange, nil},
	{"multi-factor-missing", "Green, from the app, no multi-factor authentication", known(Green, InApp, noMultiFactor), Yellow, asks("multi-factor-missing")},
	{"multi-factor-missing", "Yellow, from the app, no multi-factor authentication", known(Yellow, InApp, noMultiFactor), Yellow, asks("multi-factor-missing")},
	{"multi-factor-missing", "the same, and a passcode just now to a tenured channel", known(Yellow, InApp, noMultiFactor, passcode(time.Minute, "sms")), Green, nil},
	{"multi-factor-missing", "Green, from Wallet, no multi-factor authentication: the app does not help", known(Green, Wallet, noMultiFactor), Yellow, asks("multi-factor-missing")},
	{"credentials-changed", "Green, from the app, credentials changed yesterday", known(Green, InApp, changedYesterday), Yellow, asks("credentials-changed")},
	{"credentials-changed", "the same, and a passcode to the channel that confirmed the change", known(Green, InApp, changedYesterday, passcode(time.Minute, "sms")), Yellow, asks("credentials-changed")},
	{"credentials-changed", "the same, and a passcode to another tenured channel", known(Green, InApp, changedYesterday, passcode(time.Minute, "email")), Green, nil},
	{"credentials-changed", "the same, but by which channel the change was confirmed is not known", known(Green, InApp, changedYesterday, passcode(time.Minute, "email"), func(a *Attempt) { a.Credentials.Channel = "" }), Yellow, asks("credentials-changed")},
	{"credentials-changed", "credentials changed 50 days ago, and a passcode to a channel of 40 days ago", known(Green, InApp, channelAfterChange), Yellow, asks("credentials-changed")},
	{"credentials-changed", "credentials changed yesterday, and verified by the call centre", known(Green, InApp, changedYesterday, call(true)), Green, nil},
	{"credentials-changed", "Green, from the app, nothing proved about credentials", known(Green, InApp, noCredentials), Yellow, asks("credentials-changed")},
	{"credentials-changed", "the same, and a passcode just now to a tenured channel: it may be the one of a change", known(Green, InApp, noCredentials, passcode(time.Minute, "sms")), Yellow, asks("credentials-changed")},
	{"credentials-changed", "the same, and verified by the call centre", known(Green, InApp, noCredentials, call(true)), Green, nil},
	{"yellow-in-app", "Yellow, from the app", known(Yellow, InApp), Green, nil},
	{"yellow-in-app", "Yellow, from the app, nothing known of app, device and login", known(Yellow, InApp, unknown), Green, nil},
	{"yellow-second-device", "Yellow, from Wallet, the second device in the session of a Yellow", known(Yellow, Wallet, afterYellow), Green, nil},
	{"yellow-second-device", "the same, no multi-factor authentication", known(Yellow, Wallet, afterYellow, noMultiFactor), Yellow, asks("multi-factor-missing")},
	{"yellow", "Yellow, from Wallet", known(Yellow, Wallet), Yellow, asks("yellow")},
	{"yellow", "Yellow, from Wallet, a passcode just now to a tenured channel", known(Yellow, Wallet, passcode(time.Minute, "sms")), Yellow, nil},
	{"issuer-yellow", "Green, from Wallet, a new app on a new device", known(Green, Wallet, newApp), Yellow,
		[]Requirement{{Rule: "issuer-yellow", AnyOf: []Step{OneTimePasscode, CallCentre, InAppVerification}}}},
	{"no-in-app-verification", "Yellow, from Wallet, a new app on a new device: two ways, and not the app", known(Yellow, Wallet, newApp), Yellow, asks("yellow", "issuer-yellow")},
	{"no-in-app-verification", "Green, from the app, everything is well", known(Green, InApp), Green, nil},
}

// An Elsewhere is a sentence of the guide's security guidelines that no decision keeps, with
// where it is kept.
type Elsewhere struct{ Section, Sentence, Kept string }

// KeptElsewhere gives the sentences that no decision keeps.
func KeptElsewhere() []Elsewhere {
	return []Elsewhere{
		{"4.2 A", "Passwords mix at least two kinds of characters.", "The issuer's login. It is not seen here."},
		{"4.2 A", "Passwords have more than six characters.", "The issuer's login. It is not seen here."},
		{"4.2 A", "Too many attempts lock the account.", "The issuer's login. For passcodes: pushProvisioning.passcodes.attempts, consumed before a passcode is compared."},
		{"4.2 B", "With an Orange, asking for the card's verification value is recommended.", "The issuer's app. No card verification value comes here."},
		{"4.2 B", "Cardholders are told that a card was added.", "A notice in the outbox, in the transaction of the activation."},
		{"4.2 B", "An app is certified by a laboratory, and anew when it changes much.", "The issuer."},
	}
}
