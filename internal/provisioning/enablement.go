package provisioning

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/internal/record"
)

// Enablement says which of a tenant's cards may be provisioned: the remote flag of the guide's
// 5.7. The first rule that is for a card counts; a card that none is for may not.
//
// A rule for a BIN range is held against the card while it is open for the call: nothing of a
// card's number is stored for it. Percentages go by the card's look-up value, which is a
// token HMAC of tenant and externalCardId, so that a card is in or out for good, and one that
// is in at 10 is in at 20.
type Enablement struct {
	Tenant   string
	Revision int64 // 0 if nobody has set it
	Changed  time.Time
	Rules    []EnablementRule

	unlessSet bool // what counts without a revision
}

// EnablementRule is for the cards that have all that it names.
type EnablementRule struct {
	Product string `json:"product,omitzero"` // of the configuration; empty: any
	// BINFrom and BINTo are the first and the last of a range, both with 6 or both with 8
	// digits; empty: any.
	BINFrom    string `json:"binFrom,omitzero"`
	BINTo      string `json:"binTo,omitzero"`
	Percentage int    `json:"percentage"` // of the cards that it is for: 0 to 100
}

// ErrNotEnabled is returned for a card that may not be provisioned, or where none of them may.
var ErrNotEnabled = errors.New("product not enabled")

// Flags keeps enablements.
type Flags interface {
	// Enablement gives a tenant's latest, the zero one with the tenant if there is none; an
	// error with RetryAfter if it cannot be told.
	Enablement(ctx context.Context, tenant string) (Enablement, error)
}

// EnablementPut is the change that writes a tenant's next enablement. Those before it stay.
// ErrEnablementChanged if its revision is there already.
type EnablementPut struct{ Enablement }

// IsChange marks EnablementPut as a record.Change.
func (EnablementPut) IsChange() {}

// ErrEnablementChanged is returned for an enablement that another was put in place of.
var ErrEnablementChanged = errors.New("enablement has changed")

// maxRules bounds an enablement.
const maxRules = 256

var bin = regexp.MustCompile(`^([0-9]{6}|[0-9]{8})$`)

// check reports the first thing that is wrong with the tenant's name or the rules.
func (e Enablement) check(products map[string]Product) error {
	if !isIdentifier(e.Tenant) {
		return &FieldError{Member: "tenant", Problem: "is missing or malformed"}
	}
	if len(e.Rules) > maxRules {
		return &FieldError{Member: "rules", Problem: fmt.Sprintf("has more than %d", maxRules)}
	}
	for i, r := range e.Rules {
		_, known := products[r.Product]
		problem := ""
		switch {
		case r.Product != "" && !known:
			problem = "product is none of the configuration's"
		case (r.BINFrom != "" || r.BINTo != "") && (!bin.MatchString(r.BINFrom) || !bin.MatchString(r.BINTo) || len(r.BINFrom) != len(r.BINTo)):
			problem = "binFrom and binTo must both have 6 or both 8 digits"
		case r.BINFrom > r.BINTo:
			problem = "binFrom is after binTo"
		case r.Percentage < 0 || r.Percentage > 100:
			problem = "percentage must be 0 to 100"
		}
		if problem != "" {
			return &FieldError{Member: "rules[" + strconv.Itoa(i) + "]", Problem: problem}
		}
	}
	return nil
}

// RulesText is the rules as JSON.
func (e Enablement) RulesText() ([]byte, error) { return json.Marshal(e.Rules) }

// RulesSHA256 is the SHA-256, in hex, of RulesText's text, which the record has.
func RulesSHA256(text []byte) string {
	digest := sha256.Sum256(text)
	return hex.EncodeToString(digest[:])
}

// Any reports whether any card may be provisioned.
func (e Enablement) Any() bool {
	if e.Revision == 0 {
		return e.unlessSet
	}
	for _, r := range e.Rules {
		if r.Percentage > 0 {
			return true
		}
	}
	return false
}

// allows reports ErrNotEnabled for a card that may not be provisioned; lookup is the card's
// look-up value.
func (e Enablement) allows(c Card, lookup []byte) error {
	if e.Revision == 0 {
		if e.unlessSet {
			return nil
		}
		return ErrNotEnabled
	}
	for _, r := range e.Rules {
		switch {
		case !r.isFor(c):
		case share(lookup) < r.Percentage:
			return nil
		default:
			return ErrNotEnabled
		}
	}
	return ErrNotEnabled
}

// isFor reports whether the rule is for a card.
func (r EnablementRule) isFor(c Card) bool {
	if r.Product != "" && r.Product != c.Product {
		return false
	}
	if r.BINFrom == "" {
		return true
	}
	within := false
	c.PAN.Reveal(func(digits []byte) {
		if n := len(r.BINFrom); len(digits) > n {
			within = string(digits[:n]) >= r.BINFrom && string(digits[:n]) <= r.BINTo
		}
	})
	return within
}

// share is which hundredth of all cards one is in, 0 to 99, by its look-up value, whose bits
// are uniform: it is an HMAC.
func share(lookup []byte) int {
	if len(lookup) < 8 {
		return 100
	}
	return int(binary.BigEndian.Uint64(lookup) % 100)
}

// anyEnabled gives the enablement of the caller's tenant, or ErrNotEnabled if no card may be
// provisioned, which is on record then.
func (s *Service) anyEnabled(ctx context.Context, who Caller, op record.Operation) (Enablement, error) {
	e, err := s.enablement(ctx, who.Tenant)
	if err == nil && !e.Any() {
		err = refusedWith(ctx, s.cfg.Recorder, who.intent(op, nil), ErrNotEnabled)
	}
	return e, err
}

func (s *Service) enablement(ctx context.Context, tenant string) (Enablement, error) {
	e, err := s.cfg.Flags.Enablement(ctx, tenant)
	e.unlessSet = s.cfg.EnabledUnlessSet
	return e, err
}

// Enablement gives that of the caller's tenant. It is on record only where the request itself
// uses something up: whatever shows a button asks for it.
//
// Errors: that of the claim that the caller brought, or one with RetryAfter.
func (s *Service) Enablement(ctx context.Context, who Caller) (Enablement, error) {
	e, err := s.enablement(ctx, who.Tenant)
	if err != nil || len(who.Claims) == 0 {
		return e, err
	}
	return e, s.conclude(ctx, who, who.intent(record.ReadEnablement, nil))
}

// CheckEnablement reports a *FieldError for rules that PutEnablement would not take.
func (s *Service) CheckEnablement(tenant string, rules []EnablementRule) error {
	return Enablement{Tenant: tenant, Rules: rules}.check(s.products)
}

// PutEnablement writes a tenant's enablement, in place of the one that there is. It is for
// operators.
//
// Errors: *FieldError, ErrEnablementChanged, or one with RetryAfter.
func (s *Service) PutEnablement(ctx context.Context, who Caller, rules []EnablementRule) (Enablement, error) {
	if err := s.CheckEnablement(who.Tenant, rules); err != nil {
		return Enablement{}, err
	}
	old, err := s.enablement(ctx, who.Tenant)
	if err != nil {
		return Enablement{}, err
	}
	next := Enablement{Tenant: who.Tenant, Revision: old.Revision + 1, Changed: s.cfg.Now().UTC().Truncate(time.Millisecond), Rules: rules}
	text, err := next.RulesText()
	if err != nil {
		return Enablement{}, err
	}
	in := who.intent(record.PutEnablement, map[string]string{"revision": strconv.FormatInt(next.Revision, 10), "rulesSha256": RulesSHA256(text)})
	return next, s.conclude(ctx, who, in, EnablementPut{next})
}
