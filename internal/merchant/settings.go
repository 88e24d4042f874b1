package merchant

import (
	"errors"
	"fmt"
	"time"
)

// ProximityLifetime is how long an Apple proximity token lives.
const ProximityLifetime = 48 * time.Hour

// DefaultLifetime is how long a merchant JWT lives unless told otherwise: a recommendation
// of the guide.
const DefaultLifetime = 15 * time.Minute

// MaxLifetime is the longest life of a merchant JWT that may be configured.
const MaxLifetime = 24 * time.Hour

// Settings are what the configuration says, replaced whole when it is read anew.
type Settings struct {
	// MaxLifetime is the longest life that a caller may ask for.
	MaxLifetime time.Duration
	// Fingerprints are those of this server's TLS certificates, one of which a token must
	// name. None: only their form is checked.
	Fingerprints []Fingerprint
	// Issuers are the iss of merchant JWTs signed here, by tenant.
	Issuers map[string]string
	// Allowances say what a client may have signed, by the client's iss.
	Allowances map[string]Allowance
	// Acquirers are the names of clients' acquirers, by the iss of merchant JWTs.
	Acquirers map[string]string
	// Terminals are the terminal profile ids (appleTerminalProfileId) of each acquirer.
	Terminals map[string][]string
	// ProximityIssuer is the $issuer of proximity tokens.
	ProximityIssuer string
	// ProximityClaims is their claim template.
	ProximityClaims Template
}

// A Matcher decides whether a value is allowed.
type Matcher interface{ Match(value string) bool }

// An Allowance bounds what one client may have signed: a stolen one can do no more. A list
// that is empty allows nothing; of mbn and mcc that means that they must be absent.
type Allowance struct {
	Subjects, Audiences, BusinessNames, CategoryCodes []Matcher
	// Daily is the number of tokens a day (UTC); 0 for no limit.
	Daily int
}

// check reports what is wrong with the settings by themselves.
func (s Settings) check() error {
	var wrong []error
	if s.MaxLifetime < time.Second || s.MaxLifetime > MaxLifetime {
		wrong = append(wrong, fmt.Errorf("maximum lifetime is %v; it must be between 1s and %v", s.MaxLifetime, MaxLifetime))
	}
	if err := s.ProximityClaims.Check(); err != nil {
		wrong = append(wrong, err)
	}
	for iss, acquirer := range s.Acquirers {
		if _, ok := s.Terminals[acquirer]; !ok {
			wrong = append(wrong, fmt.Errorf("issuer %q has the acquirer %q, which is not configured", iss, acquirer))
		}
	}
	return errors.Join(wrong...)
}
