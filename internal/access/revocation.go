package access

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Revocation says which of the certificates that a CA issued count no more. It is as new as
// the configuration that was read last: nothing is fetched.
type Revocation struct {
	// CRLs are lists of the client's CA and of those below it (RFC 5280, 5). With any, a
	// certificate needs one of its issuer that is current: without, whether it was revoked is
	// not known, and it is refused. Of a certificate between, a list counts if there is one.
	CRLs []*x509.RevocationList
	// Denied are the SHA-256 of SubjectPublicKeyInfos that count no more, whatever a CRL says,
	// of certificates of clients and of those between.
	Denied [][sha256.Size]byte
}

// check gives what is wrong with it for a rule with these CAs.
func (r Revocation) check(cas []*x509.Certificate) (problems []error) {
	if len(cas) == 0 && (len(r.CRLs) > 0 || len(r.Denied) > 0) {
		return []error{errors.New("has revocation without a CA; pinned keys are revoked by taking them out")}
	}
	for i, l := range r.CRLs {
		if l == nil {
			problems = append(problems, fmt.Errorf("revocation list %d is none", i+1))
			continue
		}
		if l.NextUpdate.IsZero() {
			problems = append(problems, fmt.Errorf("revocation list %d does not say until when it counts", i+1))
		}
		// Those that are defined say that the list is not all of them (RFC 5280, 5.2.4 and 5.2.5).
		for _, e := range l.Extensions {
			if e.Critical {
				problems = append(problems, fmt.Errorf("revocation list %d is a part of one, or a change to one; a whole one is needed", i+1))
				break
			}
		}
		named := slices.DeleteFunc(slices.Clone(cas), func(ca *x509.Certificate) bool { return ca == nil || !issuedBy(l, ca) })
		if len(named) > 0 && !slices.ContainsFunc(named, func(ca *x509.Certificate) bool { return l.CheckSignatureFrom(ca) == nil }) {
			problems = append(problems, fmt.Errorf("revocation list %d is not signed by the CA that it names", i+1))
		}
	}
	return problems
}

// issuedBy reports whether a list names a CA as its issuer.
func issuedBy(l *x509.RevocationList, ca *x509.Certificate) bool {
	return bytes.Equal(l.RawIssuer, ca.RawSubject)
}

// of is empty if nothing in one of the chains is revoked, as far as it must be known. The
// chains are verified, the leaf first.
func (r Revocation) of(chains [][]*x509.Certificate, now time.Time) (reason Reason) {
	if len(r.CRLs) == 0 && len(r.Denied) == 0 {
		return ""
	}
	reason = ReasonRevocationUnknown
	for _, chain := range chains {
		if reason = r.ofChain(chain, now); reason == "" {
			return ""
		}
	}
	return reason
}

func (r Revocation) ofChain(chain []*x509.Certificate, now time.Time) Reason {
	for i, c := range chain {
		if slices.Contains(r.Denied, sha256.Sum256(c.RawSubjectPublicKeyInfo)) {
			return ReasonRevoked
		}
		if i+1 == len(chain) || len(r.CRLs) == 0 { // a root is revoked by taking it out
			continue
		}
		revoked, listed, current := r.listed(c, chain[i+1], now)
		switch {
		case revoked:
			return ReasonRevoked
		case !current && (listed || i == 0):
			return ReasonRevocationUnknown
		}
	}
	return ""
}

// listed looks a certificate up in the lists of its issuer: whether it is on one, whether
// there is one, and whether one is current.
func (r Revocation) listed(c, issuer *x509.Certificate, now time.Time) (revoked, listed, current bool) {
	for _, l := range r.CRLs {
		if !issuedBy(l, issuer) || l.CheckSignatureFrom(issuer) != nil {
			continue
		}
		listed = true
		current = current || !now.Before(l.ThisUpdate) && !now.After(l.NextUpdate)
		revoked = revoked || slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
			return e.SerialNumber.Cmp(c.SerialNumber) == 0
		})
	}
	return revoked, listed, current
}
