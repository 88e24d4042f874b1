package merchant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// TokenRequest is what a merchant JWT is to say. Text that is empty is left out, except of
// the first three, which are needed.
type TokenRequest struct {
	Subject  string // sub
	User     string // usr
	Audience string // aud

	Fingerprints []Fingerprint // aud_fingerprints, written comma-separated
	SPConfig     string        // spCfg
	BusinessName string        // mbn
	CategoryCode string        // mcc
	TerminalID   string        // x-tid
	ProviderID   string        // tpid
	// LifetimeSeconds is exp - iat; nil for the default.
	LifetimeSeconds *int
	// Claims are further claims in JSON; null ones are left out.
	Claims map[string]jsontext.Value
}

// Token is a signed merchant JWT.
type Token struct {
	Token     string // compact serialisation
	ExpiresAt time.Time
	KeyID     string
}

// maxClaims bounds the JSON of a token's claims in bytes, so that the token stays below
// what verifiers take (8 KiB).
const maxClaims = 4 << 10

// SignToken signs a merchant JWT for a client.
//
// Errors: *FieldError; *NotAllowedError; a *QuotaError, which is ErrQuota; the error of a
// claim of the caller's; or one with RetryAfter.
func (s *Service) SignToken(ctx context.Context, who Caller, req TokenRequest) (Token, error) {
	settings := s.settings.Load()
	now := s.cfg.Now().UTC().Truncate(time.Second)
	lifetime, err := req.check(settings.MaxLifetime)
	if err != nil {
		return Token{}, err
	}
	claims, err := req.claims(settings.Issuers[who.Tenant], now, lifetime)
	if err != nil {
		return Token{}, err
	}
	intent := who.intent(record.SignMerchantToken, map[string]string{"aud": secret.Reference(req.Audience), "merchantSub": secret.Reference(req.Subject)})
	allowance := settings.Allowances[who.Issuer]
	if err := allowance.allows(req); err != nil {
		return Token{}, s.refuse(ctx, intent, "not-allowed-"+err.Member, err)
	}
	use, limited := allowance.use(who.Issuer, now)
	if limited && s.exhausted.has(use) {
		return Token{}, s.refuse(ctx, intent, "quota", &QuotaError{nextDay(now)})
	}
	var changes []record.Change
	if limited {
		changes = append(changes, use)
	}
	token, kid, err := s.sign(ctx, who, intent, func(ctx context.Context, t *record.Ticket) (signer.SignedJWT, error) {
		return s.cfg.Gate.SignMerchantJWT(ctx, t, claims)
	}, changes...)
	if errors.Is(err, ErrQuota) {
		s.exhausted.add(use)
		return Token{}, errors.Join(&QuotaError{nextDay(now)}, err)
	}
	if err != nil {
		return Token{}, err
	}
	return Token{Token: token, ExpiresAt: now.Add(lifetime), KeyID: kid}, nil
}

// check gives the lifetime, or what is wrong with the request.
func (r TokenRequest) check(longest time.Duration) (time.Duration, error) {
	for _, m := range []struct {
		name, value string
		needed      bool
	}{
		{"sub", r.Subject, true},
		{"usr", r.User, true},
		{"aud", r.Audience, true},
		{"spCfg", r.SPConfig, false},
		{"mbn", r.BusinessName, false},
		{"x-tid", r.TerminalID, false},
		{"tpid", r.ProviderID, false},
	} {
		if m.needed && m.value == "" {
			return 0, &FieldError{m.name, "is missing"}
		}
		if m.value != "" && !isText(m.value) {
			return 0, &FieldError{m.name, "must be 1 to 255 printing characters"}
		}
	}
	if r.CategoryCode != "" && !isCategoryCode(r.CategoryCode) {
		return 0, &FieldError{"mcc", "must be four digits"}
	}
	if r.LifetimeSeconds == nil {
		return min(DefaultLifetime, longest).Truncate(time.Second), nil
	}
	most := int(longest.Seconds())
	if *r.LifetimeSeconds < 1 || *r.LifetimeSeconds > most {
		return 0, &FieldError{"lifetimeSeconds", fmt.Sprintf("must be 1 to %d", most)}
	}
	return time.Duration(*r.LifetimeSeconds) * time.Second, nil
}

// The claims that cannot be handed through, in any spelling, since some decoders compare
// names without their case: registered ones (RFC 7519, 4.1), the proof of possession (RFC
// 7800), what others read rights from, and those that have a member of their own, whose
// patterns they would pass by. The API description has the same list.
var ownClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti",
	"cnf",
	"right", "rights", "role", "roles", "scope", "scp", "permission", "permissions", "privileges", "group", "groups",
	"entitlements", "authorities", "authorization_details", "act", "may_act", "azp", "client_id", "tenant",
	"createAppleProximityToken", "signMerchantTokens", "signCards",
	"usr", "aud_fingerprints", "spCfg", "mbn", "mcc", "x-tid", "tpid",
}

// ownClaim gives the claim of these that a name is, if it is one.
func ownClaim(name string) (string, bool) {
	for _, own := range ownClaims {
		if strings.EqualFold(own, name) {
			return own, true
		}
	}
	return "", false
}

// claims gives the claims of the token.
func (r TokenRequest) claims(issuer string, now time.Time, lifetime time.Duration) (encodedClaims, error) {
	if issuer == "" {
		return encodedClaims{}, errors.New("sign merchant JWT: the tenant has no iss configured")
	}
	all := jwt.MapClaims{}
	for name, value := range r.Claims {
		if own, ok := ownClaim(name); ok {
			return encodedClaims{}, &FieldError{"claims", "holds " + own + ", which cannot be set there; the API description lists what cannot"}
		}
		if !isText(name) || depth(value) > maxDepth {
			return encodedClaims{}, &FieldError{"claims", fmt.Sprintf("holds a claim whose name is not 1 to %d printing characters, or whose value is nested more than %d deep", maxText, maxDepth)}
		}
		if value.Kind() != 'n' {
			all[name] = json.RawMessage(value)
		}
	}
	set := func(name, value string) {
		if value != "" {
			all[name] = value
		}
	}
	set("iss", issuer)
	set("sub", r.Subject)
	set("usr", r.User)
	set("aud", r.Audience)
	set("aud_fingerprints", joinFingerprints(r.Fingerprints))
	set("spCfg", r.SPConfig)
	set("mbn", r.BusinessName)
	set("mcc", r.CategoryCode)
	set("x-tid", r.TerminalID)
	set("tpid", r.ProviderID)
	all["iat"], all["exp"] = now.Unix(), now.Add(lifetime).Unix()
	b, err := json.Marshal(all)
	if err != nil || len(b) > maxClaims {
		return encodedClaims{}, &FieldError{"claims", fmt.Sprintf("with the other members must not exceed %d bytes of JSON", maxClaims)}
	}
	// What is signed here is taken here.
	var wrong *ClaimError
	if _, err := ParseClaims(b); errors.As(err, &wrong) {
		return encodedClaims{}, &FieldError{"claims", "holds " + wrong.Claim + ", which " + wrong.Problem}
	}
	return encodedClaims{all, b}, nil
}

// encodedClaims are claims with the JSON that was checked, which is what is signed.
type encodedClaims struct {
	jwt.MapClaims
	json json.RawMessage
}

// MarshalJSON gives the JSON that was checked.
func (c encodedClaims) MarshalJSON() ([]byte, error) { return c.json, nil }

// maxDepth bounds how deep a claim's value is nested: verifiers bound it too.
const maxDepth = 16

// depth is how deep a JSON value is nested: 0 for one that is no array and no object.
func depth(v jsontext.Value) (deepest int) {
	d := jsontext.NewDecoder(bytes.NewReader(v))
	for {
		if _, err := d.ReadToken(); err != nil {
			return deepest
		}
		deepest = max(deepest, d.StackDepth())
	}
}

// allows reports the first member that the allowance does not allow.
func (a Allowance) allows(r TokenRequest) *NotAllowedError {
	for _, m := range []struct {
		name, value string
		allowed     []Matcher
	}{
		{"sub", r.Subject, a.Subjects},
		{"aud", r.Audience, a.Audiences},
		{"mbn", r.BusinessName, a.BusinessNames},
		{"mcc", r.CategoryCode, a.CategoryCodes},
	} {
		if m.value != "" && !slices.ContainsFunc(m.allowed, func(p Matcher) bool { return p.Match(m.value) }) {
			return &NotAllowedError{m.name}
		}
	}
	return nil
}

// use is the count of one token, if the client's are counted.
func (a Allowance) use(client string, now time.Time) (QuotaUse, bool) {
	return QuotaUse{Client: client, Day: now.UTC().Format(time.DateOnly), Limit: a.Daily}, a.Daily > 0
}
