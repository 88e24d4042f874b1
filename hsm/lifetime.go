package hsm

import "time"

// cryptoperiods are how many years keys of a purpose make new things, unless their entry
// says otherwise: originator usage and signing periods of NIST SP 800-57 part 1 rev. 5,
// table 1 (symmetric data encryption and authentication up to two years, private
// signature keys one to three, static key agreement one to two).
var cryptoperiods = map[Purpose]int{
	CardVault:     2,
	CardIndex:     2,
	VisaZone:      2,
	CardTransport: 2,
	NetworkOTP:    2,
}

// signingYears is the cryptoperiod of every other purpose: they sign.
const signingYears = 3

// CryptoperiodEnd is the day by which a key shall be retired: the entry's Until, or its
// purpose's cryptoperiod after its creation. Keys go on being usable after it; the
// inventory, the log and the metrics say that it is past.
func (k Key) CryptoperiodEnd() time.Time {
	if end, err := time.Parse(keyDate, k.Until); err == nil {
		return end
	}
	created, err := time.Parse(keyDate, k.Created)
	if err != nil {
		return time.Time{} // the keyring's check does not let it be
	}
	years, ok := cryptoperiods[k.Purpose]
	if !ok {
		years = signingYears
	}
	return created.AddDate(years, 0, 0)
}

// CertificateEnd is when the key's certificate, or the first of its chain to do so, ends.
// It is the zero time for a key without one.
func (k Key) CertificateEnd() time.Time {
	var end time.Time
	for _, c := range k.chain {
		if end.IsZero() || c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}
