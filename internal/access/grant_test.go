package access_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

func TestGrantsAreNarrowed(t *testing.T) {
	const right = access.SignMerchantTokens
	all := access.Grant{Right: right}
	subjects := func(p ...string) access.Grant { return access.Grant{Right: right, Subjects: p} }
	users := func(p ...string) access.Grant { return access.Grant{Right: right, Users: p} }
	kids := func(k ...string) access.Grant { return access.Grant{Right: right, KeyIDs: k} }
	user := func(usr string) []string { return []string{"usr", usr} }
	for _, tc := range []struct {
		name   string
		grants []access.Grant
		claims []string // sub is user-1, the key's kid 2026-07
		want   bool
	}{
		{"to all", []access.Grant{all}, nil, true},
		{"to none", nil, nil, false},
		{"of another right", []access.Grant{{Right: access.SignCards}}, nil, false},
		{"sub as it is", []access.Grant{subjects("user-1")}, nil, true},
		{"sub by pattern", []access.Grant{subjects("admin", "user-*")}, nil, true},
		{"another sub", []access.Grant{subjects("user-2", "user", "*-2")}, nil, false},
		{"sub in capitals", []access.Grant{subjects("USER-1")}, nil, false},
		{"usr", []access.Grant{users("till-*")}, user(`"till-3"`), true},
		{"another usr", []access.Grant{users("till-*")}, user(`"desk-3"`), false},
		{"any usr, and there is none", []access.Grant{users("*")}, nil, false},
		{"any usr, and it is none that can stand in a log", []access.Grant{users("*")}, user(`"till\n"`), false},
		{"any usr, and it is a number", []access.Grant{users("*")}, user(`3`), false},
		{"usr in sub's place", []access.Grant{users("user-1")}, nil, false},
		{"the key", []access.Grant{kids("2026-07")}, nil, true},
		{"another key", []access.Grant{kids("next")}, nil, false},
		{"sub and usr, both right", []access.Grant{{Right: right, Subjects: []string{"user-1"}, Users: []string{"u"}}}, user(`"u"`), true},
		{"sub and usr, one right", []access.Grant{{Right: right, Subjects: []string{"user-1"}, Users: []string{"v"}}}, user(`"u"`), false},
		{"one of several grants", []access.Grant{subjects("user-2"), users("u")}, user(`"u"`), true},
		{"parts of several grants", []access.Grant{
			{Right: right, Subjects: []string{"user-1"}, Users: []string{"v"}}, {Right: right, Subjects: []string{"user-2"}, Users: []string{"u"}},
		}, user(`"u"`), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := bank()
			c.Keys = append(c.Keys, access.Key{ID: "next", Algorithm: access.RS256, Public: &strangersKey().PublicKey})
			c.Grants = tc.grants
			caller, err := authenticate(verifierOf(t, c), signed(with(tc.claims...)))
			if err != nil {
				t.Fatal(err)
			}
			if err := caller.May(right); (err == nil) != tc.want || err != nil && !errors.Is(err, access.ErrForbidden) {
				t.Fatalf("May: %v, want granted %v", err, tc.want)
			}
		})
	}
}

// A claim is on the token, and only where the right is for single use.
func TestSingleUse(t *testing.T) {
	c := bank()
	c.Grants = []access.Grant{
		{Right: access.SignCards, SingleUse: true},
		{Right: access.SignMerchantTokens},
		{Right: access.CreateAppleProximityToken},
		{Right: access.CreateAppleProximityToken, Users: []string{"till-*"}, SingleUse: true},
		{Right: access.CreateAppleProximityToken, Subjects: []string{"user-*"}},
	}
	v := verifierOf(t, c)
	caller := func(claims ...string) access.Caller {
		t.Helper()
		who, err := authenticate(v, signed(with(claims...)))
		if err != nil {
			t.Fatal(err)
		}
		return who
	}
	use := func(who access.Caller, r access.Right) *access.TokenUse {
		return who.Use(r, noon.Add(time.Second), time.Minute)
	}
	who := caller()
	u := use(who, access.SignCards)
	if u == nil || u.Issuer != issuer || !u.Now.Equal(noon.Add(time.Second)) || !u.Until.Equal(noon.Add(61*time.Second)) || u.Fence != 0 {
		t.Fatalf("claim is %+v", u)
	}
	if dead := noon.Add(310 * time.Second); u.Expires.Before(dead) {
		t.Errorf("the claim may be removed at %v, the token is good until %v", u.Expires, dead)
	}
	if use(who, access.SignMerchantTokens) != nil {
		t.Error("a claim for a right that is not for single use")
	}
	if use(who, access.CreateAppleProximityToken) != nil || use(caller("usr", `"till-1"`), access.CreateAppleProximityToken) == nil {
		t.Error("the narrowed grant does not decide")
	}

	nameless := caller("jti", "")
	if err := nameless.May(access.SignCards); access.ReasonOf(err) != access.ReasonTokenID {
		t.Errorf("May without jti: %v", err)
	}
	if err := nameless.May(access.SignMerchantTokens); err != nil {
		t.Errorf("May without jti of a right for many uses: %v", err)
	}

	end, ok := u.End(true).(access.TokenUseEnd)
	if !ok || !end.Used || end.Claim.ID != u.ID {
		t.Errorf("end is %+v", end)
	}
	u.Fence = 3
	if end, ok := u.End(false).(access.TokenUseEnd); !ok || end.Used || end.Claim.Fence != 3 {
		t.Errorf("end is %+v", end)
	}
}

// One token is one claim, whatever writing, header and other claims it has; another
// jti or another issuer's is another.
func TestClaimsAreOnIssuerAndID(t *testing.T) {
	first, second := bank(), bank()
	first.Grants = []access.Grant{{Right: access.SignCards, SingleUse: true}}
	second.Grants = first.Grants
	first.Issuer, second.Issuer = "issuer", "issuer2" // with jti "2x" and "x", one text if simply joined
	v := verifierOf(t, first, second)
	id := func(token string) [32]byte {
		t.Helper()
		who, err := authenticate(v, token)
		if err != nil {
			t.Fatal(err)
		}
		return who.Use(access.SignCards, noon, time.Minute).ID
	}
	claim := func(iss, jti string) []string {
		return []string{"iss", fmt.Sprintf("%q", iss), "jti", fmt.Sprintf("%q", jti)}
	}
	one := id(signed(with(claim("issuer", "2x")...)))
	for name, token := range map[string]string{
		"another header": seal(`{"alg":"RS256"}`, with(claim("issuer", "2x")...), rs256(vector().key)),
		"another sub":    signed(with(append(claim("issuer", "2x"), "sub", `"user-2"`)...)),
		"escaped":        signed(with("iss", `"issuer"`, "jti", `"\u0032x"`)),
	} {
		if id(token) != one {
			t.Errorf("%s: another claim", name)
		}
	}
	for name, token := range map[string]string{
		"another jti":       signed(with(claim("issuer", "2y")...)),
		"another issuer":    signed(with(claim("issuer2", "2x")...)),
		"the texts shifted": signed(with(claim("issuer2", "x")...)),
	} {
		if id(token) == one {
			t.Errorf("%s: the same claim", name)
		}
	}
}
