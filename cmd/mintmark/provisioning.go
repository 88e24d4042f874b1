package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/signer"
)

// cardPlan is what the push provisioning section says of cards, with what it names loaded.
type cardPlan struct {
	visa     provisioning.VisaConfig
	schemes  map[string]signer.Scheme
	products []provisioning.Product
}

// loadCardPlan reads the products and schemes. The error names all that is wrong.
func loadCardPlan(cfg *config.Config, ring *hsm.Keyring) (cardPlan, error) {
	pp := cfg.PushProvisioning
	p := cardPlan{
		visa:    provisioning.VisaConfig{KeySet: pp.Visa.KeySet, Layout: signer.Layout(pp.Visa.Layout)},
		schemes: map[string]signer.Scheme{},
	}
	var wrong []error
	for i, from := range pp.Schemes {
		scheme, err := loadScheme(from, ring)
		if _, twice := p.schemes[from.Name]; twice || from.Name == "" || from.Name == provisioning.ActivationTAV || from.Name == provisioning.ActivationVisa {
			err = errors.Join(err, errors.New("name is missing, used twice, or tav or visa"))
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("pushProvisioning.schemes[%d]: %w", i, err))
		}
		p.schemes[from.Name] = scheme
	}
	for _, from := range pp.Products {
		p.products = append(p.products, provisioning.Product{
			Name: from.Name, Network: provisioning.Network(from.Network), CoBadged: from.CoBadged,
			Configuration: from.Configuration, ProductType: from.ProductType, Activation: from.Activation,
			EncryptedPAN: provisioning.EncryptedPAN(from.EncryptedPAN), PrefixLength: from.PrefixLength, Extra: from.Extra,
			Title: from.Title, Test: from.Test,
		})
	}
	if len(p.products) == 0 {
		p.products = provisioning.DefaultProducts()
	}
	if _, err := provisioning.CheckProducts(p.products, p.visa, p.schemes); err != nil {
		wrong = append(wrong, fmt.Errorf("pushProvisioning.%w", err))
	}
	return p, errors.Join(wrong...)
}

func loadScheme(from config.Scheme, ring *hsm.Keyring) (signer.Scheme, error) {
	s := signer.Scheme{
		Name: from.Name, Algorithm: signer.SchemeAlgorithm(from.Algorithm), Key: from.Key,
		RecipientID: from.KeyID, Delimiter: from.Delimiter, Names: from.Names,
	}
	for _, f := range from.Fields {
		s.Fields = append(s.Fields, signer.Field{Name: f.Name, Type: signer.FieldType(f.Type), Value: f.Value})
	}
	if from.PublicKeyFile != "" {
		pub, err := loadPublicKey(from.PublicKeyFile)
		if err != nil {
			return s, fmt.Errorf("publicKeyFile: %w", err)
		}
		s.Recipient = pub
	}
	err := s.Check()
	if from.Key != "" && ring != nil {
		err = errors.Join(err, checkSchemeKey(s, ring))
	}
	return s, err
}

// checkSchemeKey holds a scheme's key against the keyring.
func checkSchemeKey(s signer.Scheme, ring *hsm.Keyring) error {
	k, ok := ring.Find(s.Key)
	fits := map[signer.SchemeAlgorithm][]hsm.Algorithm{
		signer.SchemeRS256: {hsm.RSA2048, hsm.RSA3072, hsm.RSA4096},
		signer.SchemeES256: {hsm.P256},
		signer.SchemeTDEA:  {hsm.TDEA},
	}
	switch {
	case !ok:
		return fmt.Errorf("key %s is not in the keyring", s.Key)
	case k.Purpose != hsm.NetworkOTP:
		return fmt.Errorf("key %s is for %s; a network-otp key is needed", s.Key, k.Purpose)
	case k.State != hsm.Active:
		return fmt.Errorf("key %s is %s", s.Key, k.State)
	case !slices.Contains(fits[s.Algorithm], k.Algorithm):
		return fmt.Errorf("key %s is a %s key, which is not for %s", s.Key, k.Algorithm, s.Algorithm)
	}
	return nil
}

// purposes are those that cards need keys for.
func (p cardPlan) purposes() []hsm.Purpose {
	all := []hsm.Purpose{hsm.CardVault, hsm.CardIndex, hsm.CardTransport}
	has := func(is func(provisioning.Product) bool) bool { return slices.ContainsFunc(p.products, is) }
	if has(func(p provisioning.Product) bool { return p.Activation == provisioning.ActivationTAV }) {
		all = append(all, hsm.TAVSigning)
	}
	if has(provisioning.Product.NeedsZoneKey) {
		all = append(all, hsm.VisaZone)
	}
	for _, s := range p.schemes {
		if s.Key != "" {
			return append(all, hsm.NetworkOTP)
		}
	}
	return all
}

// newProvisioning makes push provisioning over an open service.
func (s *service) newProvisioning() (*provisioning.Service, error) {
	pp := s.plan.cfg.PushProvisioning
	cfg := provisioning.Config{
		Chain:     provisioning.NewChainPolicy(s.plan.anchor, time.Now),
		Nonces:    provisioning.NonceRules{NonceLength: pp.NonceLength, SignatureLength: pp.NonceSignatureLength},
		Recorder:  s.audit,
		Gate:      s.gate,
		Cards:     s.store,
		Decisions: s.store,
		Tokens:    s.store,
		Flags:     s.store,
		// In production nothing may be provisioned that nobody has enabled.
		EnabledUnlessSet: s.plan.cfg.Environment != config.Production,
		Now:              time.Now,
		Lease:            pp.NonceLease,
		TAV:              provisioning.TAVConfig{Version: signer.TAVVersion(pp.TAV.Version), KeyAlias: pp.TAV.KeyAlias, Validity: pp.TAV.Validity},
		Visa:             s.plan.cards.visa,
		Schemes:          s.plan.cards.schemes,
		Products:         s.plan.cards.products,
		Tracer:           newTracer(s.plan.cfg),

		Rules:      decisionRules(pp.Decisions),
		Statements: s.plan.approvals.statements,
		Verified:   s.store,
		Passcodes:  provisioning.PasscodeRules{Digits: pp.Passcodes.Digits, Attempts: pp.Passcodes.Attempts, Life: pp.Passcodes.Life, PerHour: pp.Passcodes.PerHour},
	}
	if s.connector != nil { // a nil one is no interface's nil
		cfg.Connector = s.connector
	}
	return provisioning.New(cfg)
}
