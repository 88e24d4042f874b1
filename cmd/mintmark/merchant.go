package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/signer"
)

// merchantSettings reads the merchant section and what clients may have signed.
func merchantSettings(cfg *config.Config) (merchant.Settings, error) {
	m := cfg.Merchant
	s := merchant.Settings{
		MaxLifetime:     m.MaxLifetime,
		Issuers:         map[string]string{},
		Allowances:      map[string]merchant.Allowance{},
		Acquirers:       map[string]string{},
		Terminals:       map[string][]string{},
		ProximityIssuer: m.Proximity.Issuer,
		ProximityClaims: merchant.Template(m.Proximity.Claims),
	}
	if m.Proximity.Claims == nil {
		s.ProximityClaims = merchant.DefaultTemplate()
	}
	var wrong []error
	for i, text := range m.AudFingerprints {
		f, ok := merchant.ParseFingerprint(text)
		if !ok {
			wrong = append(wrong, fmt.Errorf("merchant.audFingerprints[%d]: must be sha256/ and the Base64 of 32 bytes", i))
		}
		s.Fingerprints = append(s.Fingerprints, f)
	}
	for _, a := range m.Acquirers {
		s.Terminals[a.Name] = nil
		for _, p := range a.TerminalProfiles {
			s.Terminals[a.Name] = append(s.Terminals[a.Name], p.AppleTerminalProfileID)
		}
	}
	for _, is := range m.Issuers {
		s.Issuers[is.Tenant] = is.Issuer
		if is.Acquirer != "" {
			s.Acquirers[is.Issuer] = is.Acquirer
		}
	}
	wrong = append(wrong, addClients(&s, cfg.Clients)...)
	if err := s.ProximityClaims.Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("merchant.proximity.claims: %w", err))
	}
	return s, errors.Join(wrong...)
}

// addClients adds the clients' acquirers and what they may have signed.
func addClients(s *merchant.Settings, list []config.Client) (wrong []error) {
	for i, cl := range list {
		if cl.Acquirer != "" {
			s.Acquirers[cl.Issuer] = cl.Acquirer
		}
		if cl.MerchantTokens == nil {
			continue
		}
		allowance, err := loadAllowance(*cl.MerchantTokens)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("clients[%d].merchantTokens.%w", i, err))
		}
		s.Allowances[cl.Issuer] = allowance
	}
	return wrong
}

func loadAllowance(from config.MerchantTokens) (merchant.Allowance, error) {
	a := merchant.Allowance{Daily: from.Daily()}
	var wrong []error
	for _, list := range []struct {
		name string
		from []string
		to   *[]merchant.Matcher
	}{
		{"subjects", from.Subjects, &a.Subjects},
		{"audiences", from.Audiences, &a.Audiences},
		{"businessNames", from.BusinessNames, &a.BusinessNames},
		{"categoryCodes", from.CategoryCodes, &a.CategoryCodes},
	} {
		for _, text := range list.from {
			p, err := access.NewPattern(text)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", list.name, err))
			}
			*list.to = append(*list.to, p)
		}
	}
	return a, errors.Join(wrong...)
}

// ownKeys are the keys that verify merchant JWTs signed here. They are known once the HSM
// has been reached.
type ownKeys struct{ gate atomic.Pointer[signer.Gate] }

var _ access.KeySet = (*ownKeys)(nil)

// errNoKeysYet is returned before the service has opened its HSM.
var errNoKeysYet = errors.New("the HSM is not open")

// Key gives the merchant-jwt key called kid.
func (o *ownKeys) Key(_ context.Context, kid string) (access.Key, error) {
	gate := o.gate.Load()
	if gate == nil {
		return access.Key{}, laterError{errNoKeysYet}
	}
	keys, err := gate.Published(time.Now())
	if err != nil {
		return access.Key{}, err
	}
	for _, k := range keys {
		if k.Purpose == hsm.MerchantJWT && k.ID == kid {
			return access.Key{ID: kid, Algorithm: access.RS256, Public: k.Key}, nil
		}
	}
	return access.Key{}, access.ErrUnknownKey
}

// laterError is an error that a later try may not meet.
type laterError struct{ error }

func (laterError) RetryAfter() time.Duration { return 2 * time.Second }
