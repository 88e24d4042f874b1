package merchant

import "slices"

// CheckToken checks the documented claims of a merchant JWT whose signature, times, iss and
// aud hold already. Its error is a *ClaimError.
func (s *Service) CheckToken(c Claims) error {
	if err := s.checkIdentity(c); err != nil {
		return err
	}
	switch {
	case c.CategoryCode != "" && !isCategoryCode(c.CategoryCode):
		return &ClaimError{Claim: "mcc", Problem: "is not four digits"}
	case c.Fingerprints == nil && !c.hasIOS():
		return &ClaimError{Claim: "aud_fingerprints", Problem: "is missing, and the token lacks mbn, mcc or x-tid, with which it could be"}
	}
	return nil
}

// checkIdentity checks the claims that every merchant JWT has, whatever it is for.
func (s *Service) checkIdentity(c Claims) *ClaimError {
	switch {
	case c.Subject == "":
		return &ClaimError{Claim: "sub", Problem: "is missing"}
	case c.User == "":
		return &ClaimError{Claim: "usr", Problem: "is missing"}
	case !s.knowsFingerprints(c):
		return &ClaimError{Claim: "aud_fingerprints", Problem: "names none of this server's certificates"}
	default:
		return nil
	}
}

// knowsFingerprints wants one of the configured fingerprints among the token's: it may name
// others, of a certificate to come. Without configured ones, which only development mode
// may lack, the form was all there is to check.
func (s *Service) knowsFingerprints(c Claims) bool {
	own := s.settings.Load().Fingerprints
	if c.Fingerprints == nil || len(own) == 0 {
		return true
	}
	return slices.ContainsFunc(c.Fingerprints, func(f Fingerprint) bool { return slices.Contains(own, f) })
}
