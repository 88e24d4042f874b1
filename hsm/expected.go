package hsm

import (
	"context"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// Expected is what the private or secret key of a keyring entry must be on the token: the
// template of its purpose, in PKCS#11's own words.
type Expected struct {
	// Uses are the usage flags that are true, without CKA_; every other one is false.
	Uses []string
	// Mechanisms are CKA_ALLOWED_MECHANISMS.
	Mechanisms []string
	// GenMechanism is CKA_KEY_GEN_MECHANISM of a key that was generated.
	GenMechanism string
	// Bits is its length, as Observed has it.
	Bits int
}

// Expected gives what the key must be on the token.
func (k Key) Expected() Expected {
	template := templateFor(k.Name, k.ckaID(), k.Purpose, k.Algorithm)
	x := Expected{GenMechanism: nameOf(mechanismNames, template.mechanism), Bits: k.Algorithm.bits()}
	for _, a := range template.private {
		if _, use := uses[a.Type]; use && len(a.Value) == 1 && a.Value[0] != 0 {
			x.Uses = append(x.Uses, flagNames[a.Type])
		}
	}
	for _, m := range template.allowed {
		x.Mechanisms = append(x.Mechanisms, nameOf(mechanismNames, m))
	}
	slices.Sort(x.Uses)
	slices.Sort(x.Mechanisms)
	return x
}

// UsageFlags lists the usage flags of keys, without CKA_, sorted.
func UsageFlags() []string {
	var all []string
	for typ := range uses {
		all = append(all, flagNames[typ])
	}
	slices.Sort(all)
	return all
}

// bits is the length of keys of the algorithm.
func (a Algorithm) bits() int {
	switch a {
	case P256, AES256, HMACSHA256:
		return 256
	case TDEA:
		return 192
	default:
		return a.rsaBits()
	}
}

// Login is the state of a token's login and sessions (CK_SESSION_INFO, CK_TOKEN_INFO).
type Login struct {
	State string `json:"state"` // CKS_RW_USER_FUNCTIONS and so on
	// Open counts the sessions of all applications; -1 where the token does not say.
	Open int `json:"open"`
	// Required says that the token shows nothing private without a login.
	Required bool `json:"required"`
	// PINTrouble lists the flags of CK_TOKEN_INFO that speak of refused PINs.
	PINTrouble []string `json:"pinTrouble,omitempty"`
}

var sessionStates = map[uint]string{
	pkcs11.CKS_RO_PUBLIC_SESSION: "CKS_RO_PUBLIC_SESSION", pkcs11.CKS_RO_USER_FUNCTIONS: "CKS_RO_USER_FUNCTIONS",
	pkcs11.CKS_RW_PUBLIC_SESSION: "CKS_RW_PUBLIC_SESSION", pkcs11.CKS_RW_USER_FUNCTIONS: "CKS_RW_USER_FUNCTIONS",
	pkcs11.CKS_RW_SO_FUNCTIONS: "CKS_RW_SO_FUNCTIONS",
}

// pinTroubles are the flags that say that a PIN was refused, or is one that somebody else gave.
var pinTroubles = []struct {
	flag uint
	name string
}{
	{pkcs11.CKF_USER_PIN_COUNT_LOW, "CKF_USER_PIN_COUNT_LOW"}, {pkcs11.CKF_USER_PIN_FINAL_TRY, "CKF_USER_PIN_FINAL_TRY"},
	{pkcs11.CKF_USER_PIN_LOCKED, "CKF_USER_PIN_LOCKED"}, {pkcs11.CKF_USER_PIN_TO_BE_CHANGED, "CKF_USER_PIN_TO_BE_CHANGED"},
	{pkcs11.CKF_SO_PIN_COUNT_LOW, "CKF_SO_PIN_COUNT_LOW"}, {pkcs11.CKF_SO_PIN_FINAL_TRY, "CKF_SO_PIN_FINAL_TRY"},
	{pkcs11.CKF_SO_PIN_LOCKED, "CKF_SO_PIN_LOCKED"}, {pkcs11.CKF_SO_PIN_TO_BE_CHANGED, "CKF_SO_PIN_TO_BE_CHANGED"},
}

// Login reads the state of the login and the sessions.
func (t *Token) Login(ctx context.Context) (Login, error) {
	return work(ctx, t, "login-state", func(u *unit) (Login, error) {
		session, err := u.e.ctx.GetSessionInfo(u.s)
		if err != nil {
			return Login{}, ckr("C_GetSessionInfo", err)
		}
		token, err := u.e.ctx.GetTokenInfo(u.e.slot)
		if err != nil {
			return Login{}, ckr("C_GetTokenInfo", err)
		}
		l := Login{State: nameOf(sessionStates, session.State), Open: -1, Required: token.Flags&pkcs11.CKF_LOGIN_REQUIRED != 0}
		if token.SessionCount != pkcs11.CK_UNAVAILABLE_INFORMATION {
			l.Open = int(token.SessionCount)
		}
		for _, p := range pinTroubles {
			if token.Flags&p.flag != 0 {
				l.PINTrouble = append(l.PINTrouble, p.name)
			}
		}
		return l, nil
	})
}

// String is the login as a line of a report.
func (l Login) String() string {
	open := "an unknown number of"
	if l.Open >= 0 {
		open = fmt.Sprint(l.Open)
	}
	return fmt.Sprintf("%s, %s sessions open", l.State, open)
}
