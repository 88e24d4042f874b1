package merchant

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Template says which claims a proximity token has: the claim's name, and a literal text
// or one of
//
//	$issuer             the configured issuer of proximity tokens
//	$issuedAt           NumericDate, whole seconds
//	$expiresAt          NumericDate, whole seconds
//	$jwtId              the UUID that the answer gives as jwtId
//	$terminalProfileId  the terminal profile, which is the merchant JWT's x-tid
//	$acquirer           the configured name of the acquirer
//	$claim.NAME         a claim of the merchant JWT, as text: sub, usr, mbn, mcc, x-tid,
//	                    tpid or spCfg; left out where the JWT lacks it
//
// [C]: Apple publishes no list of claims. All that is known is that the payment service
// provider signs and that the merchant is named, so that no name here is Apple's.
type Template map[string]string

// DefaultTemplate carries what any verifier will ask for.
func DefaultTemplate() Template {
	return Template{
		"iss":               "$issuer",
		"iat":               "$issuedAt",
		"exp":               "$expiresAt",
		"jti":               "$jwtId",
		"mbn":               "$claim.mbn",
		"mcc":               "$claim.mcc",
		"terminalProfileId": "$terminalProfileId",
	}
}

// fixed are the claims that must be what RFC 7519 says they are.
var fixed = map[string]string{"iat": "$issuedAt", "exp": "$expiresAt", "jti": "$jwtId"}

// Check reports what is wrong with the template.
func (t Template) Check() error {
	var wrong []error
	for name, value := range fixed {
		if t[name] != value {
			wrong = append(wrong, fmt.Errorf("claim %s must be %s", name, value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if !isText(name) {
			wrong = append(wrong, errors.New("a claim's name is empty, too long or does not print"))
		}
		value := t[name]
		if !strings.HasPrefix(value, "$") {
			continue
		}
		if _, known := (substitution{}).value(value); !known {
			wrong = append(wrong, fmt.Errorf("claim %s: %s is not known", name, value))
		}
	}
	return errors.Join(wrong...)
}

// substitution is what the variables of a template stand for.
type substitution struct {
	issuer, jwtID, terminal, acquirer string
	issuedAt, expiresAt               int64
	claims                            Claims
}

// value gives what a variable stands for, nil if that is absent.
func (s substitution) value(variable string) (value any, known bool) {
	text := func(v string) (any, bool) {
		if v == "" {
			return nil, true
		}
		return v, true
	}
	switch variable {
	case "$issuer":
		return text(s.issuer)
	case "$issuedAt":
		return s.issuedAt, true
	case "$expiresAt":
		return s.expiresAt, true
	case "$jwtId":
		return text(s.jwtID)
	case "$terminalProfileId":
		return text(s.terminal)
	case "$acquirer":
		return text(s.acquirer)
	case "$claim.sub":
		return text(s.claims.Subject)
	case "$claim.usr":
		return text(s.claims.User)
	case "$claim.mbn":
		return text(s.claims.BusinessName)
	case "$claim.mcc":
		return text(s.claims.CategoryCode)
	case "$claim.x-tid":
		return text(s.claims.TerminalID)
	case "$claim.tpid":
		return text(s.claims.ProviderID)
	case "$claim.spCfg":
		return text(s.claims.SPConfig)
	default:
		return nil, false
	}
}

// fill gives the claims.
func (t Template) fill(s substitution) map[string]any {
	claims := make(map[string]any, len(t))
	for name, text := range t {
		var value any = text
		if strings.HasPrefix(text, "$") {
			value, _ = s.value(text)
		}
		if value != nil {
			claims[name] = value
		}
	}
	return claims
}
