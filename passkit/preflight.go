package passkit

import (
	"crypto/x509"
	"time"

	"github.com/mintmark/mintmark/passkit/cms"
)

// renewBefore is how long before a certificate's end Preflight begins to warn. Apple
// issues pass certificates for some 395 days.
const renewBefore = 90 * 24 * time.Hour

// dayForm is how days are shown in messages.
const dayForm = "2006-01-02"

// Preflight says what is wrong with signing this pass with this certificate at this
// time, before a key is asked. Its findings name no file.
func Preflight(p *Pass, s cms.Signer, now time.Time) []Finding {
	c := &checker{}
	if s.Certificate == nil {
		c.err("", "there is no certificate", "get one for the pass type from Apple's developer portal")
		return c.found
	}
	checkMarks(c, p, ReadMarks(s.Certificate))
	if s.CheckKey() != nil {
		c.err("", "the key is not the certificate's, or neither RSA of 2048 bits nor P-256",
			"use the key that the certificate was requested with")
	}
	checkValidity(c, s.Certificate, "pass certificate", now, "renew it in Apple's developer portal; passes already installed stay valid")
	issuer, err := s.Issuer()
	if err != nil {
		c.err("", "the intermediate that issued the pass certificate is missing; it is "+s.Certificate.Issuer.String(),
			"add it from https://www.apple.com/certificateauthority/")
		return c.found
	}
	checkValidity(c, issuer, "intermediate", now, "get a pass certificate from Apple's current intermediate")
	return c.found
}

// checkMarks holds the certificate's marks against the pass.
func checkMarks(c *checker, p *Pass, marks Marks) {
	if !marks.ForPasses {
		c.err("", "the certificate is not for passes: it lacks the extended key usage 1.2.840.113635.100.4.14",
			"use a certificate of the kind Pass Type ID")
		return
	}
	if marks.PassTypeIdentifier != p.PassTypeIdentifier || marks.Marker != p.PassTypeIdentifier {
		c.err("", "the certificate is for "+named(marks.PassTypeIdentifier)+", pass.json has "+named(p.PassTypeIdentifier),
			"change passTypeIdentifier, or use the certificate of the pass's type")
	}
	if marks.TeamIdentifier != p.TeamIdentifier {
		c.err("", "the certificate is of team "+named(marks.TeamIdentifier)+", pass.json has "+named(p.TeamIdentifier),
			"change teamIdentifier to the certificate's")
	}
	if p.NFC != nil && !marks.NFC {
		c.err("", "the certificate may not sign passes with nfc", "ask Apple for an NFC certificate, or remove nfc")
	}
}

func checkValidity(c *checker, cert *x509.Certificate, what string, now time.Time, remedy string) {
	switch {
	case now.Before(cert.NotBefore):
		c.err("", "the "+what+" is not valid before "+cert.NotBefore.UTC().Format(dayForm), "check the clock, or wait")
	case now.After(cert.NotAfter):
		c.err("", "the "+what+" ended on "+cert.NotAfter.UTC().Format(dayForm), remedy)
	case now.Add(renewBefore).After(cert.NotAfter):
		c.warn("", "the "+what+" ends on "+cert.NotAfter.UTC().Format(dayForm), remedy)
	}
}

// named is an identifier for a message.
func named(s string) string {
	if s == "" {
		return "(none)"
	}
	return member("", s)[1:] // bounded and printable, without the pointer's slash
}
