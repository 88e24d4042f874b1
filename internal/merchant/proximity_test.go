package merchant_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// app is a merchant's app, with its merchant JWT.
var app = merchant.Caller{Tenant: "bank-a", Issuer: "merchants-a", Subject: "shop-17", RequestID: "request-2"}

// claims are those of app's merchant JWT.
func claims() merchant.Claims {
	return merchant.Claims{
		Issuer: "merchants-a", Subject: "shop-17", User: "cashier@shop.example", Audience: "mint.example",
		IssuedAt: start.Add(-time.Minute), Expires: start.Add(14 * time.Minute),
		BusinessName: "Corner Shop", CategoryCode: "5411", TerminalID: "00000001", ProviderID: "tp-1", SPConfig: "profile",
	}
}

func (w *world) proximity(c merchant.Claims) (merchant.ProximityToken, error) {
	return w.svc.ProximityToken(context.Background(), app, c)
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// The published sample's first bytes decode to the header in this order; it lives 48 hours,
// and its id is a UUID.
func TestProximityTokenIsToTheLetter(t *testing.T) {
	w := newWorld(t)
	w.clock.Add(789 * time.Millisecond)
	seen := map[string]bool{}
	for range 5 {
		out, err := w.proximity(claims())
		if err != nil {
			t.Fatal(err)
		}
		first, err := base64.RawURLEncoding.DecodeString(out.Token[:strings.Index(out.Token, ".")])
		if err != nil || !strings.HasPrefix(string(first), `{"alg":"ES256","kid":"`) || !strings.HasSuffix(string(first), `"}`) || strings.Count(string(first), `":"`) != 2 {
			t.Errorf("header is %s, %v", first, err)
		}
		if !uuidForm.MatchString(out.ID) || seen[out.ID] {
			t.Errorf("id %q", out.ID)
		}
		seen[out.ID] = true
		if !out.IssuedAt.Equal(start) || !out.ExpiresAt.Equal(start.Add(48*time.Hour)) || out.IssuedAt.Location() != time.UTC || out.ExpiresAt.Location() != time.UTC {
			t.Errorf("from %v to %v", out.IssuedAt, out.ExpiresAt)
		}
		_, payload := w.verify(out.Token, hsm.ProximityToken, jose.ES256)
		want := fmt.Sprintf(`{"iss":"psp.example","iat":%d,"exp":%d,"jti":"%s","mbn":"Corner Shop","mcc":"5411","terminalProfileId":"00000001"}`,
			start.Unix(), start.Add(48*time.Hour).Unix(), out.ID)
		if diff := cmp.Diff(value(t, want), value(t, payload)); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
	}
}

// Which claims there are, and how they are called, is the operator's to say.
func TestTemplateDecidesTheClaims(t *testing.T) {
	own := merchant.Template{
		"iat": "$issuedAt", "exp": "$expiresAt", "jti": "$jwtId", "literal": "as it is", "empty": "", "price": "5$",
		"a": "$issuer", "b": "$terminalProfileId", "c": "$acquirer", "d": "$claim.sub", "e": "$claim.usr", "f": "$claim.mbn",
		"g": "$claim.mcc", "h": "$claim.x-tid", "i": "$claim.tpid", "j": "$claim.spCfg", "k": "$jwtId", "l": "$issuedAt",
	}
	w := newWorld(t, func(s *merchant.Settings) { s.ProximityClaims = own })
	out, err := w.proximity(claims())
	if err != nil {
		t.Fatal(err)
	}
	_, payload := w.verify(out.Token, hsm.ProximityToken, jose.ES256)
	iat, exp := out.IssuedAt.Unix(), out.ExpiresAt.Unix()
	want := fmt.Sprintf(`{"iat":%d,"exp":%d,"jti":"%s","literal":"as it is","empty":"","price":"5$","a":"psp.example","b":"00000001","c":"acquirer-1",
		"d":"shop-17","e":"cashier@shop.example","f":"Corner Shop","g":"5411","h":"00000001","i":"tp-1","j":"profile","k":"%s","l":%d}`, iat, exp, out.ID, out.ID, iat)
	if diff := cmp.Diff(value(t, want), value(t, payload)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}

	// What the JWT lacks is left out.
	c := claims()
	c.ProviderID, c.SPConfig = "", ""
	s := settings()
	s.ProximityClaims, s.ProximityIssuer = own, ""
	if err := w.svc.Use(s); err != nil {
		t.Fatal(err)
	}
	if out, err = w.proximity(c); err != nil {
		t.Fatal(err)
	}
	_, payload = w.verify(out.Token, hsm.ProximityToken, jose.ES256)
	got := value(t, payload).(map[string]any)
	for _, name := range []string{"a", "i", "j"} {
		if v, there := got[name]; there {
			t.Errorf("claim %s is %v", name, v)
		}
	}
	if len(got) != len(own)-3 {
		t.Errorf("claims %v", got)
	}
}

// The terminal must be one of the acquirer of the JWT's issuer, and of no other.
func TestTerminalBelongsToTheIssuersAcquirer(t *testing.T) {
	w := newWorld(t)
	const unknown = "is no terminal profile id (appleTerminalProfileId) of the issuer's acquirer"
	for name, tc := range map[string]struct {
		issuer, terminal string
		problem          string
	}{
		"its first":                       {"merchants-a", "00000001", ""},
		"its second":                      {"merchants-a", "00000002", ""},
		"another issuer, same acquirer":   {"app", "00000002", ""},
		"another issuer, its own":         {"merchants-b", "00000003", ""},
		"another acquirer's":              {"merchants-a", "00000003", unknown},
		"another acquirer's, other way":   {"merchants-b", "00000001", unknown},
		"nobody's":                        {"merchants-a", "00000004", unknown},
		"almost":                          {"merchants-a", "0000001", unknown},
		"with a space":                    {"merchants-a", "00000001 ", unknown},
		"an issuer without an acquirer":   {"stranger", "00000001", unknown},
		"an issuer without one, and none": {"stranger", "", "is missing (terminal profile id)"},
		"an acquirer without a name":      {"stranger", "00000009", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			c, calls := claims(), w.token.Calls()
			c.Issuer, c.TerminalID = tc.issuer, tc.terminal
			out, err := w.proximity(c)
			if tc.problem == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var claim *merchant.ClaimError
			if !errors.As(err, &claim) || *claim != (merchant.ClaimError{Claim: "x-tid", Problem: tc.problem}) || out != (merchant.ProximityToken{}) {
				t.Errorf("%+v, %v", out, err)
			}
			w.requireCalls(0, calls)
		})
	}
}

func TestClaimsThatAProximityTokenNeeds(t *testing.T) {
	own := fingerprint("leaf")
	w := newWorld(t, func(s *merchant.Settings) { s.Fingerprints = []merchant.Fingerprint{own} })
	for name, tc := range map[string]struct {
		change func(*merchant.Claims)
		want   *merchant.ClaimError
	}{
		"all there":                       {func(*merchant.Claims) {}, nil},
		"our fingerprint":                 {func(c *merchant.Claims) { c.Fingerprints = []merchant.Fingerprint{fingerprint("x"), own} }, nil},
		"no mbn":                          {func(c *merchant.Claims) { c.BusinessName = "" }, &merchant.ClaimError{Claim: "mbn", Problem: "is missing (merchant business name)"}},
		"no mcc":                          {func(c *merchant.Claims) { c.CategoryCode = "" }, &merchant.ClaimError{Claim: "mcc", Problem: "is missing (merchant category code)"}},
		"mcc of three digits":             {func(c *merchant.Claims) { c.CategoryCode = "541" }, &merchant.ClaimError{Claim: "mcc", Problem: "is not four digits (merchant category code)"}},
		"no x-tid":                        {func(c *merchant.Claims) { c.TerminalID = "" }, &merchant.ClaimError{Claim: "x-tid", Problem: "is missing (terminal profile id)"}},
		"none of the three: the first":    {func(c *merchant.Claims) { c.BusinessName, c.CategoryCode, c.TerminalID = "", "", "" }, &merchant.ClaimError{Claim: "mbn", Problem: "is missing (merchant business name)"}},
		"no usr":                          {func(c *merchant.Claims) { c.User = "" }, &merchant.ClaimError{Claim: "usr", Problem: "is missing"}},
		"no sub":                          {func(c *merchant.Claims) { c.Subject = "" }, &merchant.ClaimError{Claim: "sub", Problem: "is missing"}},
		"another server's fingerprint":    {func(c *merchant.Claims) { c.Fingerprints = []merchant.Fingerprint{fingerprint("x")} }, &merchant.ClaimError{Claim: "aud_fingerprints", Problem: "names none of this server's certificates"}},
		"who it is comes before for whom": {func(c *merchant.Claims) { c.User, c.BusinessName = "", "" }, &merchant.ClaimError{Claim: "usr", Problem: "is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, calls, before := claims(), w.token.Calls(), len(w.entries())
			tc.change(&c)
			out, err := w.proximity(c)
			if tc.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var claim *merchant.ClaimError
			if !errors.As(err, &claim) || *claim != *tc.want || out != (merchant.ProximityToken{}) {
				t.Errorf("%+v, %v", out, err)
			}
			w.requireCalls(0, calls)
			if diff := cmp.Diff([]string{"refusal sign-proximity claim-" + tc.want.Claim}, w.lines()[before:]); diff != "" {
				t.Errorf("the log: %s", diff)
			}
		})
	}
}

// A refusal that cannot be recorded is one all the same.
func TestRefusalStandsWithoutItsRecord(t *testing.T) {
	w := newWorld(t)
	defer w.failEntries("refusal")()
	c := claims()
	c.BusinessName = ""
	out, err := w.proximity(c)
	var claim *merchant.ClaimError
	if !errors.As(err, &claim) || claim.Claim != "mbn" || out != (merchant.ProximityToken{}) {
		t.Errorf("%+v, %v", out, err)
	}
	requireRetry(t, err)
}

func TestProximityTokenIsOnRecord(t *testing.T) {
	w := newWorld(t)
	out, err := w.proximity(claims())
	if err != nil {
		t.Fatal(err)
	}
	all := w.entries()
	if len(all) != 1 || all[0].Kind != "operation" || all[0].Tenant != "bank-a" {
		t.Fatalf("entries %+v", all)
	}
	var header struct{ Kid string }
	first, _ := w.verify(out.Token, hsm.ProximityToken, jose.ES256)
	if err := json.Unmarshal([]byte(first), &header); err != nil {
		t.Fatal(err)
	}
	b := w.body(all[0])
	wantIntent := record.Intent{
		Operation: record.SignProximityToken, Tenant: "bank-a", Issuer: "merchants-a", Subject: "shop-17", RequestID: "request-2",
		Refs: map[string]string{"jti": out.ID, "acquirer": "acquirer-1", "terminalProfile": "00000001"},
	}
	if diff := cmp.Diff(wantIntent, b.Intent); diff != "" {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
	wantResult := record.Result{
		Outcome: record.OutcomeDone, Refs: map[string]string{"kid": header.Kid},
		Outputs: []record.Digest{{Name: "token", SHA256: sha256Hex(out.Token)}},
	}
	if diff := cmp.Diff(wantResult, b.Result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	for _, part := range append(strings.Split(out.Token, "."), "cashier", "Corner Shop") {
		if strings.Contains(string(all[0].Body), part) {
			t.Errorf("the entry holds %q", part)
		}
	}
}

// Terminals come and go with the settings.
func TestTerminalsChangeWithTheSettings(t *testing.T) {
	w := newWorld(t)
	if _, err := w.proximity(claims()); err != nil {
		t.Fatal(err)
	}
	s := settings()
	s.Terminals["acquirer-1"] = []string{"00000002"}
	if err := w.svc.Use(s); err != nil {
		t.Fatal(err)
	}
	var claim *merchant.ClaimError
	if _, err := w.proximity(claims()); !errors.As(err, &claim) || claim.Claim != "x-tid" {
		t.Errorf("error %v", err)
	}
	c := claims()
	c.TerminalID = "00000002"
	if _, err := w.proximity(c); err != nil {
		t.Error(err)
	}
}

func TestTemplateIsChecked(t *testing.T) {
	fixed := func(more ...string) merchant.Template {
		tpl := merchant.Template{"iat": "$issuedAt", "exp": "$expiresAt", "jti": "$jwtId"}
		for i := 0; i < len(more); i += 2 {
			tpl[more[i]] = more[i+1]
		}
		return tpl
	}
	for name, tc := range map[string]struct {
		template merchant.Template
		says     []string // lines, in any order
	}{
		"the default":            {merchant.DefaultTemplate(), nil},
		"the least":              {fixed(), nil},
		"literals":               {fixed("a", "", "b", "text", "c", "a$issuer", "naïve", "ü"), nil},
		"every variable":         {fixed("a", "$issuer", "b", "$terminalProfileId", "c", "$acquirer", "d", "$claim.sub", "e", "$claim.usr", "f", "$claim.mbn", "g", "$claim.mcc", "h", "$claim.x-tid", "i", "$claim.tpid", "j", "$claim.spCfg"), nil},
		"nothing":                {nil, []string{"claim iat must be $issuedAt", "claim exp must be $expiresAt", "claim jti must be $jwtId"}},
		"another iat":            {fixed("iat", "$expiresAt"), []string{"claim iat must be $issuedAt"}},
		"exp as text":            {fixed("exp", "never"), []string{"claim exp must be $expiresAt"}},
		"jti of the caller":      {fixed("jti", "$claim.jti"), []string{"claim jti must be $jwtId", "claim jti: $claim.jti is not known"}},
		"an unknown variable":    {fixed("a", "$issuers"), []string{"claim a: $issuers is not known"}},
		"in another case":        {fixed("a", "$Issuer"), []string{"claim a: $Issuer is not known"}},
		"an unknown claim":       {fixed("a", "$claim.iss", "b", "$claim.", "c", "$"), []string{"claim a: $claim.iss is not known", "claim b: $claim. is not known", "claim c: $ is not known"}},
		"a claim without a name": {fixed("", "x"), []string{"a claim's name is empty, too long or does not print"}},
		"a name that is no text": {fixed("a\nb", "x", strings.Repeat("a", 256), "x"), []string{"a claim's name is empty, too long or does not print", "a claim's name is empty, too long or does not print"}},
	} {
		err := tc.template.Check()
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if diff := cmp.Diff(sorted(tc.says), sorted(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
