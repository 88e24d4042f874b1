package provisioning

import (
	"context"
	"crypto/ecdh"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// ApplePay is the one wallet type supported.
const ApplePay = "APPLE_PAY"

// Gate is what provisioning asks of the keys; *signer.Gate is it. Errors with a method
// RetryAfter say that a later try may succeed; nothing is retried here.
type Gate interface {
	// Ready reports, without asking any token, whether an operation has a chance.
	Ready(op record.Operation) error
	ReadyInline() error
	SealECCv2(ctx context.Context, t *record.Ticket, to *ecdh.PublicKey, payload []byte) (signer.SealedECCv2, error)
	SealPANBlock(ctx context.Context, t *record.Ticket, b signer.PANBlock) ([]byte, error)
	SignTAV(ctx context.Context, t *record.Ticket, v signer.TAV) (record.Held[[]byte], error)
	MakeVisaCode(ctx context.Context, t *record.Ticket, c signer.VisaCode) (record.Held[[]byte], error)
	MakeSchemeData(ctx context.Context, t *record.Ticket, s signer.Scheme, in signer.SchemeInput) (record.Held[[]byte], error)
	OpenCard(ctx context.Context, t *record.Ticket, e signer.EncryptedCard) ([]byte, error)
	SealVault(ctx context.Context, t *record.Ticket, tenant, id string, data []byte) (signer.VaultRow, error)
	OpenVault(ctx context.Context, t *record.Ticket, tenant, id string, row signer.VaultRow) ([]byte, error)
	CardIndex(ctx context.Context, t *record.Ticket, tenant, externalCardID string) ([]byte, error)
	VaultKey() (string, error)
	SealNotice(ctx context.Context, t *record.Ticket, tenant, id string, body []byte) (signer.VaultRow, error)
	DrawPasscode(ctx context.Context, t *record.Ticket, digits int) (secret.Text, error)
	PasscodeMAC(ctx context.Context, t *record.Ticket, key, tenant, id string, code secret.Text) (signer.PasscodeMAC, error)
}

var _ Gate = (*signer.Gate)(nil)

// Config says what a Service works with.
type Config struct {
	Chain    *ChainPolicy
	Nonces   NonceRules
	Recorder record.Recorder
	Gate     Gate
	Cards    Cards
	Tokens   Tokens
	Flags    Flags
	// EnabledUnlessSet is what counts for tenants whose enablement nobody has set. It must be
	// false in production.
	EnabledUnlessSet bool
	// Decisions are the stored answers to the network's approval check.
	Decisions Decisions
	// Rules are by what it is decided; none for DefaultDecisionRules.
	Rules DecisionRules
	// Statements are the keys by which the issuers' systems state what they know.
	Statements StatementKeys
	// Verified are the passcodes that were verified, and Passcodes their rules; none for
	// DefaultPasscodeRules.
	Verified  Passcodes
	Passcodes PasscodeRules
	// Connector is the way to the network; nil if there is none.
	Connector Connector
	// Now is the clock.
	Now func() time.Time
	// Lease is how long a nonce stays claimed by a request that never ends: longer
	// than any request may take.
	Lease time.Duration
	// TAV says how Mastercard activation data are made.
	TAV TAVConfig
	// Visa says how Visa's messages are made; needed where a product needs the zone key.
	Visa VisaConfig
	// Schemes are the configured activation data, by name.
	Schemes map[string]signer.Scheme
	// Products are the kinds of cards; none for DefaultProducts.
	Products []Product
	// Tracer seals test cards with every step shown; nil but in builds for finding faults.
	Tracer Tracer
}

// Tracer seals as Gate.SealECCv2 does, on the host, and shows every step; signer.Tracer, in
// builds with the tag trace.
type Tracer interface {
	SealTraced(t *record.Ticket, to *ecdh.PublicKey, payload []byte) (signer.SealedECCv2, record.Held[signer.Trace], error)
}

// VisaConfig says how Visa's messages are made.
type VisaConfig struct {
	KeySet string        // the network's name of the zone key: six digits, a dot, an index
	Layout signer.Layout // of PAN blocks
}

// TAVConfig says how Mastercard activation data are made.
type TAVConfig struct {
	Version  signer.TAVVersion
	KeyAlias string        // for version 4
	Validity time.Duration // at most signer.MaxTAVLife; 30 minutes are recommended
}

// Service is push provisioning for all tenants. It is safe for concurrent use.
type Service struct {
	cfg      Config
	products map[string]Product // by name, complete
	schemes  atomic.Pointer[map[string]signer.Scheme]
}

// New checks the configuration and gives the service.
func New(cfg Config) (*Service, error) {
	var wrong []error
	if cfg.Chain == nil || cfg.Recorder == nil || cfg.Gate == nil || cfg.Cards == nil || cfg.Decisions == nil || cfg.Verified == nil || cfg.Tokens == nil || cfg.Flags == nil || cfg.Now == nil {
		wrong = append(wrong, errors.New("chain, recorder, gate, cards, decisions, passcodes, tokens, flags and now are all needed"))
	}
	if cfg.Rules == (DecisionRules{}) {
		cfg.Rules = DefaultDecisionRules()
	}
	if cfg.Passcodes == (PasscodeRules{}) {
		cfg.Passcodes = DefaultPasscodeRules()
	}
	if err := cfg.Passcodes.Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("passcodes: %w", err))
	}
	if cfg.Rules.Life <= 0 || cfg.Rules.Within <= 0 {
		wrong = append(wrong, errors.New("a decision's life and the time that it may take must be positive"))
	}
	if cfg.Lease <= 0 {
		wrong = append(wrong, errors.New("nonce lease must be positive"))
	}
	switch {
	case cfg.TAV.Version != signer.TAVv3 && cfg.TAV.Version != signer.TAVv4:
		wrong = append(wrong, fmt.Errorf("TAV version %q is not supported; use 3 or 4", cfg.TAV.Version))
	case cfg.TAV.Version == signer.TAVv4 && cfg.TAV.KeyAlias == "":
		wrong = append(wrong, errors.New("TAV version 4 needs a key alias"))
	}
	if cfg.TAV.Validity <= 0 || cfg.TAV.Validity > signer.MaxTAVLife {
		wrong = append(wrong, fmt.Errorf("TAV validity must be positive and at most %v", signer.MaxTAVLife))
	}
	if len(cfg.Products) == 0 {
		cfg.Products = DefaultProducts()
	}
	products, err := CheckProducts(cfg.Products, cfg.Visa, cfg.Schemes)
	if err != nil {
		wrong = append(wrong, err)
	}
	for name, scheme := range cfg.Schemes {
		if err := scheme.Check(); err != nil {
			wrong = append(wrong, fmt.Errorf("activation scheme %s: %w", name, err))
		}
	}
	if len(wrong) != 0 {
		return nil, fmt.Errorf("push provisioning: %w", errors.Join(wrong...))
	}
	s := &Service{cfg: cfg, products: products}
	s.schemes.Store(&cfg.Schemes)
	return s, nil
}

// CheckProducts gives the products by name, or everything that is wrong with them.
func CheckProducts(list []Product, visa VisaConfig, schemes map[string]signer.Scheme) (map[string]Product, error) {
	var wrong []error
	products := map[string]Product{}
	for i, p := range list {
		if err := p.Check(schemes); err != nil {
			wrong = append(wrong, fmt.Errorf("products[%d] (%s): %w", i, p.Name, err))
		}
		if _, twice := products[p.Name]; twice {
			wrong = append(wrong, fmt.Errorf("products[%d] (%s): the name is used twice", i, p.Name))
		}
		if p.NeedsZoneKey() && !signer.CheckVisaKeySet(visa.KeySet) {
			wrong = append(wrong, fmt.Errorf("products[%d] (%s): needs visa.keySet, six digits, a dot and an index", i, p.Name))
		}
		if p.NeedsZoneKey() && visa.Layout != signer.Bare && visa.Layout != signer.Framed {
			wrong = append(wrong, fmt.Errorf("products[%d] (%s): needs visa.layout, bare or framed", i, p.Name))
		}
		products[p.Name] = p.withDefaults()
	}
	return products, errors.Join(wrong...)
}

// Caller is who asks, and under which request id.
type Caller struct {
	Owner
	// AnyOwner says that the caller's right is for cards of every owner of its tenant.
	AnyOwner  bool
	RequestID string
	// Claims are what the request itself uses up, such as a bearer token that is good for
	// one. They are taken with the operation's intent.
	Claims record.Claims
}

func (c Caller) intent(op record.Operation, refs map[string]string) record.Intent {
	return record.Intent{Operation: op, Tenant: c.Tenant, Issuer: c.Issuer, Subject: secret.Reference(c.Subject), RequestID: c.RequestID, Refs: refs}
}

// owns reports whether the caller may use a card of owner.
func (c Caller) owns(owner Owner) bool {
	return c.Tenant == owner.Tenant && (c.AnyOwner || sameOwner(c.Owner, owner))
}

// openPermitted finds a card by its external id and opens it, if the caller may use it and
// the latest decision about it permits. The caller wipes the card.
func (s *Service) openPermitted(ctx context.Context, t *record.Ticket, who Caller, a ask) (Card, CardRow, error) {
	row, err := s.findCard(ctx, t, who, a.externalCardID)
	if err != nil {
		return Card{}, CardRow{}, err
	}
	a.owner = row.Owner
	if err := s.permitsCard(ctx, row.Lookup, a); err != nil {
		return Card{}, CardRow{}, err
	}
	return s.openRow(ctx, t, row, a.externalCardID)
}

// openCard finds a card by its external id and opens it, if the caller may use it. The
// caller wipes the card.
func (s *Service) openCard(ctx context.Context, t *record.Ticket, who Caller, externalID string) (Card, CardRow, error) {
	row, err := s.findCard(ctx, t, who, externalID)
	if err != nil {
		return Card{}, CardRow{}, err
	}
	return s.openRow(ctx, t, row, externalID)
}

// openRow opens the row that was found for an external id.
func (s *Service) openRow(ctx context.Context, t *record.Ticket, row CardRow, externalID string) (Card, CardRow, error) {
	c, id, err := s.openStored(ctx, t, row)
	if err == nil && id != "" && id != externalID { // the row has another's look-up value
		c.Wipe()
		return Card{}, CardRow{}, &CardError{Reason: CardData}
	}
	return c, row, err
}

// openStored opens a row, and gives the external id that was stored with the card. The caller
// wipes the card.
func (s *Service) openStored(ctx context.Context, t *record.Ticket, row CardRow) (Card, string, error) {
	data, err := s.cfg.Gate.OpenVault(ctx, t, row.Owner.Tenant, row.ID, signer.VaultRow{Key: row.Key, IV: row.IV, Sealed: row.Sealed})
	defer secret.Wipe(data)
	if err != nil {
		return Card{}, "", err
	}
	c, id, err := unmarshalStored(data)
	if err != nil {
		return Card{}, "", &CardError{Reason: CardData}
	}
	return c, id, nil
}

// findCard finds a card's row, if the caller may use it; ErrUnknownCard if not.
func (s *Service) findCard(ctx context.Context, t *record.Ticket, who Caller, externalID string) (CardRow, error) {
	lookup, err := s.cfg.Gate.CardIndex(ctx, t, who.Tenant, externalID)
	if err != nil {
		return CardRow{}, err
	}
	return s.findRow(ctx, who, lookup)
}

// findRow is findCard where the look-up value is known.
func (s *Service) findRow(ctx context.Context, who Caller, lookup []byte) (CardRow, error) {
	row, err := s.cfg.Cards.FindCard(ctx, who.Owner, lookup)
	if who.AnyOwner && errors.Is(err, ErrUnknownCard) {
		// Two owners may call cards alike; which of them is meant is not guessed.
		row, err = s.cfg.Cards.FindOnlyCard(ctx, who.Tenant, lookup)
	}
	if err != nil {
		return CardRow{}, err
	}
	if !who.owns(row.Owner) {
		return CardRow{}, ErrUnknownCard
	}
	return row, nil
}

// accept enforces the product's rules and the expiry on a card that came in or was opened.
func (s *Service) accept(c Card) (Product, error) {
	p, ok := s.products[c.Product]
	if !ok {
		return Product{}, &CardError{Reason: CardProduct}
	}
	if err := c.fits(p, s.cfg.Visa.Layout); err != nil {
		return Product{}, err
	}
	if c.expired(s.cfg.Now()) {
		return Product{}, &CardError{Reason: CardExpired}
	}
	return p, nil
}

func sameOwner(a, b Owner) bool {
	return a.Tenant == b.Tenant && a.Issuer == b.Issuer && subtle.ConstantTimeCompare([]byte(a.Subject), []byte(b.Subject)) == 1
}

// fail records that an operation ended without output and returns why, with what could not
// be recorded of it.
func (s *Service) fail(ctx context.Context, t *record.Ticket, why error, changes ...record.Change) error {
	outcome, reason := outcomeOf(why)
	return errors.Join(why, record.Fail(ctx, s.cfg.Recorder, t, record.Result{Outcome: outcome, Reason: reason}, changes...))
}

// outcomeOf gives the stable code of an error for the record: never its text.
func outcomeOf(err error) (record.Outcome, string) {
	var card *CardError
	var chain *ChainError
	var decision *DecisionError
	var tooMany *TooManyPasscodesError
	switch {
	case errors.Is(err, ErrUnknownCard):
		return record.OutcomeRefused, "unknown-card"
	case errors.Is(err, ErrNonceUsed):
		return record.OutcomeRefused, "nonce-used"
	case errors.Is(err, ErrEncryptedCard):
		return record.OutcomeRefused, "encrypted-card"
	case errors.Is(err, ErrMessageUsed):
		return record.OutcomeRefused, "encrypted-card-used"
	case errors.Is(err, ErrUnknownPasscode):
		return record.OutcomeRefused, "unknown-passcode"
	case errors.Is(err, ErrPasscodeUsed):
		return record.OutcomeRefused, "passcode-used"
	case errors.Is(err, ErrPasscodeExpired):
		return record.OutcomeRefused, "passcode-expired"
	case errors.Is(err, ErrPasscodeSpent):
		return record.OutcomeRefused, "passcode-spent"
	case errors.As(err, &tooMany):
		return record.OutcomeRefused, "passcodes-too-many"
	case errors.Is(err, ErrStatement):
		return record.OutcomeRefused, "statement"
	case errors.Is(err, ErrWalletType):
		return record.OutcomeRefused, "wallet-type"
	case errors.Is(err, ErrUnknownToken):
		return record.OutcomeRefused, "unknown-wallet-token"
	case errors.Is(err, ErrTransition):
		return record.OutcomeRefused, "impossible-transition"
	case errors.Is(err, ErrTokenChanged):
		return record.OutcomeRefused, "wallet-token-changed"
	case errors.Is(err, ErrNotEnabled):
		return record.OutcomeRefused, "product-not-enabled"
	case errors.Is(err, ErrTooManyCards):
		return record.OutcomeRefused, "too-many-cards"
	case errors.As(err, &card):
		return record.OutcomeRefused, string(card.Reason)
	case errors.As(err, &decision):
		return record.OutcomeRefused, string(decision.Reason)
	case errors.As(err, &chain):
		return record.OutcomeRefused, string(chain.Reason)
	default:
		return record.OutcomeFailed, "failed"
	}
}
