package merchant_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// full is a request with every member.
func full() merchant.TokenRequest {
	r := request()
	r.Fingerprints = []merchant.Fingerprint{fingerprint("leaf"), fingerprint("next")}
	r.SPConfig, r.BusinessName, r.CategoryCode, r.TerminalID, r.ProviderID = "profile", "Corner Shop", "5411", "00000001", "tp-1"
	return r
}

func raw(members map[string]string) map[string]jsontext.Value {
	all := map[string]jsontext.Value{}
	for name, text := range members {
		all[name] = jsontext.Value(text)
	}
	return all
}

// The claims are those of the tables: what was left out is absent, and fingerprints are one
// comma-separated text.
func TestTokenSaysWhatWasAskedForAndNoMore(t *testing.T) {
	w := newWorld(t)
	const three = `"iss":"merchants-a","sub":"shop-17","usr":"cashier@shop.example","aud":"kernel.example"`
	iat, exp := start.Unix(), start.Add(15*time.Minute).Unix()
	times := fmt.Sprintf(`,"iat":%d,"exp":%d`, iat, exp)
	for name, tc := range map[string]struct {
		change func(*merchant.TokenRequest)
		want   string
	}{
		"the least": {func(*merchant.TokenRequest) {}, three + times},
		"everything": {func(r *merchant.TokenRequest) { *r = full() }, three + times +
			`,"aud_fingerprints":"` + string(fingerprint("leaf")+","+fingerprint("next")) + `","spCfg":"profile","mbn":"Corner Shop","mcc":"5411","x-tid":"00000001","tpid":"tp-1"`},
		"one fingerprint":      {func(r *merchant.TokenRequest) { r.Fingerprints = full().Fingerprints[:1] }, three + times + `,"aud_fingerprints":"` + string(fingerprint("leaf")) + `"`},
		"no fingerprint":       {func(r *merchant.TokenRequest) { r.Fingerprints = []merchant.Fingerprint{} }, three + times},
		"a name in any script": {func(r *merchant.TokenRequest) { r.BusinessName = "Zoë's <Café> & \"søn\" 店" }, three + times + `,"mbn":"Zoë's <Café> & \"søn\" 店"`},
		"a lifetime":           {func(r *merchant.TokenRequest) { r.LifetimeSeconds = new(7) }, three + fmt.Sprintf(`,"iat":%d,"exp":%d`, iat, iat+7)},
		"further claims": {
			func(r *merchant.TokenRequest) {
				r.Claims = raw(map[string]string{"refresh_token": "false", "x-am-endpoint": `"https://am.example"`, "x-custom-claims": `{"a":[1,{"b":null}]}`})
			},
			three + times + `,"refresh_token":false,"x-am-endpoint":"https://am.example","x-custom-claims":{"a":[1,{"b":null}]}`,
		},
		"null ones left out": {
			func(r *merchant.TokenRequest) {
				r.Claims = raw(map[string]string{"a": "null", "b": "0", "c": `""`, "d": " null "})
			},
			three + times + `,"b":0,"c":""`,
		},
		"numbers as they are written": {
			func(r *merchant.TokenRequest) {
				r.Claims = raw(map[string]string{"a": "9007199254740993", "b": "18446744073709551615", "c": "-9223372036854775808", "d": "1.10", "e": "1E400", "f": "-0"})
			},
			three + times + `,"a":9007199254740993,"b":18446744073709551615,"c":-9223372036854775808,"d":1.10,"e":1E400,"f":-0`,
		},
		"names like others'": {
			func(r *merchant.TokenRequest) {
				r.Claims = raw(map[string]string{"sub ": "1", "issuer": "2", "x-iss": "3", "rightful": "4", "key id": "5"})
			},
			three + times + `,"sub ":1,"issuer":2,"x-iss":3,"rightful":4,"key id":5`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := request()
			tc.change(&req)
			out, header, payload := w.mustSign(req)
			if diff := cmp.Diff(value(t, "{"+tc.want+"}"), value(t, payload)); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			if want := fmt.Sprintf(`{"alg":"RS256","kid":"%s","typ":"JWT"}`, out.KeyID); header != want || len(out.KeyID) != 43 {
				t.Errorf("header is %s, want %s", header, want)
			}
			var ends struct{ Exp int64 }
			if err := json.Unmarshal([]byte(payload), &ends); err != nil || !out.ExpiresAt.Equal(time.Unix(ends.Exp, 0)) || out.ExpiresAt.Location() != time.UTC {
				t.Errorf("expiresAt is %v, exp %v, %v", out.ExpiresAt, ends.Exp, err)
			}
		})
	}
}

// Each tenant's tokens have its own iss; one without is not signed.
func TestIssuerIsTheTenants(t *testing.T) {
	w := newWorld(t, func(s *merchant.Settings) { s.Issuers["bank-c"] = "" })
	for tenant, want := range map[string]string{"bank-a": "merchants-a", "bank-b": "merchants-b", "bank-c": "", "bank-d": "", "": ""} {
		who := backend
		who.Tenant = tenant
		before := w.token.Calls()
		out, err := w.sign(who, request())
		if want == "" {
			if err == nil || out != (merchant.Token{}) {
				t.Errorf("tenant %q: %+v, %v", tenant, out, err)
			}
			w.requireCalls(0, before)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, payload := w.verify(out.Token, "merchant-jwt", "RS256")
		if got := value(t, payload).(map[string]any)["iss"]; got != want {
			t.Errorf("tenant %q: iss is %v", tenant, got)
		}
	}
}

// What decides who somebody is and what he may do cannot be handed through, in no spelling.
func TestClaimsThatCannotBeHandedThrough(t *testing.T) {
	w := newWorld(t)
	names := strings.Fields(`iss sub aud exp nbf iat jti cnf
		right rights role roles scope scp permission permissions privileges group groups entitlements authorities
		authorization_details act may_act azp client_id tenant createAppleProximityToken
		signMerchantTokens signCards usr aud_fingerprints spCfg mbn mcc x-tid tpid
		ISS Sub AUD Exp JTI Cnf Rights SCOPE Usr spcfg SPCFG MBN X-Tid createappleproximitytoken`)
	names = append(names, "", "a\nb", "a\u202eb", "i\u017f\u017f", strings.Repeat("a", 256), "a\x00", "\xff")
	for _, name := range names {
		for _, text := range []string{`"x"`, "1", "null", "[]"} {
			req := request()
			req.Claims = raw(map[string]string{"fine": "1", name: text})
			out, err := w.sign(backend, req)
			var field *merchant.FieldError
			if !errors.As(err, &field) || field.Member != "claims" || out != (merchant.Token{}) {
				t.Errorf("%q: %s gives %+v, %v", name, text, out, err)
			}
			if err != nil && name != "" && len(name) < 20 && strings.Contains(err.Error(), `"`+name) {
				t.Errorf("%q: the error repeats it: %v", name, err)
			}
		}
	}
	w.requireLog()
	w.requireCalls(0, 0)
}

// Claims are nested as deep as verifiers take them, and of the documented types.
func TestClaimsAreWhatVerifiersTake(t *testing.T) {
	w := newWorld(t)
	nested := func(depth int, open, shut string) string {
		return strings.Repeat(open, depth) + "1" + strings.Repeat(shut, depth)
	}
	for text, taken := range map[string]bool{
		nested(0, "", ""): true, nested(16, "[", "]"): true, nested(17, "[", "]"): false,
		nested(16, `{"a":`, "}"): true, nested(17, `{"a":`, "}"): false, nested(200, "[", "]"): false,
		"[" + strings.Repeat(nested(15, "[", "]")+",", 3) + nested(15, "[", "]") + "]": true,
		`"` + strings.Repeat("[", 200) + `"`:                                           true,
	} {
		req := request()
		req.Claims = raw(map[string]string{"x": text})
		_, err := w.sign(backend, req)
		var field *merchant.FieldError
		if (err == nil) != taken || err != nil && (!errors.As(err, &field) || field.Member != "claims") {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	for text, taken := range map[string]bool{"true": true, "false": true, "null": true, `"true"`: false, "1": false, "[]": false} {
		req := request()
		req.Claims = raw(map[string]string{"refresh_token": text})
		_, err := w.sign(backend, req)
		var field *merchant.FieldError
		if (err == nil) != taken || err != nil && (!errors.As(err, &field) || *field != (merchant.FieldError{Member: "claims", Problem: "holds refresh_token, which is neither true nor false"})) {
			t.Errorf("refresh_token %s: %v", text, err)
		}
	}
}

func TestMalformedMembersAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("é", 128) // 256 bytes
	texts := map[string]func(*merchant.TokenRequest, string){
		"sub":   func(r *merchant.TokenRequest, v string) { r.Subject = v },
		"usr":   func(r *merchant.TokenRequest, v string) { r.User = v },
		"aud":   func(r *merchant.TokenRequest, v string) { r.Audience = v },
		"spCfg": func(r *merchant.TokenRequest, v string) { r.SPConfig = v },
		"mbn":   func(r *merchant.TokenRequest, v string) { r.BusinessName = v },
		"x-tid": func(r *merchant.TokenRequest, v string) { r.TerminalID = v },
		"tpid":  func(r *merchant.TokenRequest, v string) { r.ProviderID = v },
	}
	refused := func(t *testing.T, req merchant.TokenRequest, want merchant.FieldError) {
		t.Helper()
		out, err := w.sign(backend, req)
		var field *merchant.FieldError
		if !errors.As(err, &field) || *field != want || out != (merchant.Token{}) {
			t.Errorf("%+v, %v; want %v", out, err, want.Error())
		}
	}
	for member, set := range texts {
		for name, v := range map[string]string{"too long": long, "a line end": "a\nb", "a NUL": "a\x00", "a mark of direction": "a\u202eb", "a no-break space": "a\u00a0b", "not UTF-8": "a\xff", "a tab": "\t"} {
			t.Run(member+", "+name, func(t *testing.T) {
				req := request()
				set(&req, v)
				refused(t, req, merchant.FieldError{Member: member, Problem: "must be 1 to 255 printing characters"})
			})
		}
		if member == "sub" || member == "usr" || member == "aud" {
			req := request()
			set(&req, "")
			refused(t, req, merchant.FieldError{Member: member, Problem: "is missing"})
		}
	}
	for _, v := range []string{"541", "54111", "54 1", "541a", "٥٤١١", "-541", "5411 "} {
		req := request()
		req.CategoryCode = v
		refused(t, req, merchant.FieldError{Member: "mcc", Problem: "must be four digits"})
	}
	w.requireLog()
	w.requireCalls(0, 0)
	for _, set := range texts { // the longest is taken
		req := request()
		set(&req, long[:254]+"x")
		w.mustSign(req)
	}
}

// A token lives a quarter of an hour unless told otherwise, and never longer than is
// configured.
func TestLifetimeIsTheCallersUpToTheConfiguredOne(t *testing.T) {
	for longest, cases := range map[time.Duration]map[int]time.Duration{ // 0: refused; -99: not given
		15 * time.Minute:        {-99: 15 * time.Minute, 1: time.Second, 900: 15 * time.Minute, 901: 0, 0: 0, -1: 0},
		time.Hour:               {-99: 15 * time.Minute, 3600: time.Hour, 3601: 0, 1 << 40: 0, -1 << 62: 0},
		10 * time.Minute:        {-99: 10 * time.Minute, 600: 10 * time.Minute, 601: 0},
		24 * time.Hour:          {86400: 24 * time.Hour, 86401: 0},
		1500 * time.Millisecond: {-99: time.Second, 1: time.Second, 2: 0},
		time.Second:             {-99: time.Second, 1: time.Second},
	} {
		t.Run(longest.String(), func(t *testing.T) {
			w := newWorld(t, func(s *merchant.Settings) { s.MaxLifetime = longest })
			w.clock.Add(999 * time.Millisecond) // iat is in whole seconds
			for seconds, want := range cases {
				req := request()
				if seconds != -99 {
					req.LifetimeSeconds = &seconds
				}
				out, err := w.sign(backend, req)
				if want == 0 {
					var field *merchant.FieldError
					if !errors.As(err, &field) || field.Member != "lifetimeSeconds" || field.Problem != fmt.Sprintf("must be 1 to %d", int(longest.Seconds())) {
						t.Errorf("%d: %v", seconds, err)
					}
					continue
				}
				if err != nil || !out.ExpiresAt.Equal(start.Add(want)) {
					t.Errorf("%d: ends %v, %v; want %v", seconds, out.ExpiresAt, err, start.Add(want))
				}
			}
		})
	}
}

// The largest token is one that verifiers take; one byte more is not signed.
func TestClaimsAreBoundedInSize(t *testing.T) {
	w := newWorld(t)
	of := func(n int) merchant.TokenRequest {
		req := request()
		req.Claims = raw(map[string]string{"x": `"` + strings.Repeat("a", n) + `"`})
		return req
	}
	_, _, payload := w.mustSign(of(0))
	most := 4096 - len(payload)
	out, _, payload := w.mustSign(of(most))
	if len(payload) != 4096 || len(out.Token) > 8192 {
		t.Errorf("%d bytes of claims make a token of %d bytes", len(payload), len(out.Token))
	}
	_, err := w.sign(backend, of(most+1))
	var field *merchant.FieldError
	if !errors.As(err, &field) || *field != (merchant.FieldError{Member: "claims", Problem: "with the other members must not exceed 4096 bytes of JSON"}) {
		t.Errorf("a byte more: %v", err)
	}
	w.requireCalls(2, 0)
}

// A client has signed what its configuration lists, and what is not listed is refused: a
// stolen one can do no more.
func TestAllowanceBoundsWhatIsSigned(t *testing.T) {
	allowed := merchant.Allowance{
		Subjects: patterns("shop-*", "stand-1"), Audiences: patterns("kernel.example", "*.kernel.example"),
		BusinessNames: patterns("Corner *"), CategoryCodes: patterns("54*", "5812"),
	}
	w := newWorld(t, func(s *merchant.Settings) { s.Allowances[backend.Issuer] = allowed })
	ios := func(r *merchant.TokenRequest) { r.BusinessName, r.CategoryCode = "Corner Shop", "5411" }
	for name, tc := range map[string]struct {
		change  func(*merchant.TokenRequest)
		allowed func(*merchant.Allowance)
		refused string // the member
	}{
		"listed":      {func(*merchant.TokenRequest) {}, nil, ""},
		"listed, all": {ios, nil, ""},
		"the second of two": {func(r *merchant.TokenRequest) {
			r.Subject, r.Audience, r.CategoryCode = "stand-1", "eu.kernel.example", "5812"
		}, nil, ""},
		"another sub":                  {func(r *merchant.TokenRequest) { r.Subject = "shop" }, nil, "sub"},
		"sub with more behind it":      {func(r *merchant.TokenRequest) { r.Subject = "stand-11" }, nil, "sub"},
		"sub with more before it":      {func(r *merchant.TokenRequest) { r.Subject = "my-shop-1" }, nil, "sub"},
		"sub in capitals":              {func(r *merchant.TokenRequest) { r.Subject = "SHOP-1" }, nil, "sub"},
		"another aud":                  {func(r *merchant.TokenRequest) { r.Audience = "kernel.example.evil.example" }, nil, "aud"},
		"aud below, without its dot":   {func(r *merchant.TokenRequest) { r.Audience = "xkernel.example" }, nil, "aud"},
		"another mbn":                  {func(r *merchant.TokenRequest) { r.BusinessName = "The Corner Shop" }, nil, "mbn"},
		"another mcc":                  {func(r *merchant.TokenRequest) { r.CategoryCode = "6011" }, nil, "mcc"},
		"everything wrong: the first":  {func(r *merchant.TokenRequest) { r.Subject, r.Audience, r.BusinessName = "x", "x", "x" }, nil, "sub"},
		"no sub listed":                {func(*merchant.TokenRequest) {}, func(a *merchant.Allowance) { a.Subjects = nil }, "sub"},
		"no aud listed":                {func(*merchant.TokenRequest) {}, func(a *merchant.Allowance) { a.Audiences = nil }, "aud"},
		"no mbn listed, and none sent": {func(*merchant.TokenRequest) {}, func(a *merchant.Allowance) { a.BusinessNames, a.CategoryCodes = nil, nil }, ""},
		"no mbn listed, and one sent":  {ios, func(a *merchant.Allowance) { a.BusinessNames = nil }, "mbn"},
		"no mcc listed, and one sent":  {ios, func(a *merchant.Allowance) { a.CategoryCodes = nil }, "mcc"},
		"nothing listed":               {func(*merchant.TokenRequest) {}, func(a *merchant.Allowance) { *a = merchant.Allowance{} }, "sub"},
		"what nobody lists":            {func(r *merchant.TokenRequest) { r.User, r.TerminalID, r.ProviderID, r.SPConfig = "x", "x", "x", "x" }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			own := allowed
			if tc.allowed != nil {
				tc.allowed(&own)
			}
			s.Allowances[backend.Issuer] = own
			if err := w.svc.Use(s); err != nil {
				t.Fatal(err)
			}
			req, calls, entries := request(), w.token.Calls(), len(w.entries())
			tc.change(&req)
			out, err := w.sign(backend, req)
			if tc.refused == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var not *merchant.NotAllowedError
			if !errors.As(err, &not) || not.Member != tc.refused || out != (merchant.Token{}) {
				t.Errorf("%+v, %v", out, err)
			}
			w.requireCalls(0, calls)
			last := w.lines()[entries:]
			if diff := cmp.Diff([]string{"refusal sign-token not-allowed-" + tc.refused}, last); diff != "" {
				t.Errorf("the log: %s", diff)
			}
			w.clock.Add(time.Hour) // of many alike in a minute not each has its own entry
			if err := w.log.Summarise(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("a client that nobody configured", func(t *testing.T) {
		who := backend
		who.Issuer = "https://other.example"
		var not *merchant.NotAllowedError
		if _, err := w.sign(who, request()); !errors.As(err, &not) {
			t.Error(err)
		}
	})
}

// What was signed for whom stands in the log, with the digest of the token, and nothing of
// it; and what looks like a card number does not.
func TestSigningIsOnRecord(t *testing.T) {
	w := newWorld(t)
	req := full()
	out, _, _ := w.mustSign(req)
	all := w.entries()
	if len(all) != 1 || all[0].Kind != "operation" || all[0].Tenant != "bank-a" || all[0].Ticket == "" {
		t.Fatalf("entries %+v", all)
	}
	b := w.body(all[0])
	wantIntent := record.Intent{
		Operation: record.SignMerchantToken, Tenant: "bank-a", Issuer: backend.Issuer, Subject: "server-1", RequestID: "request-1",
		Refs: map[string]string{"aud": "kernel.example", "merchantSub": "shop-17"},
	}
	if diff := cmp.Diff(wantIntent, b.Intent); diff != "" {
		t.Errorf("intent (-want +got):\n%s", diff)
	}
	wantResult := record.Result{
		Outcome: record.OutcomeDone, Refs: map[string]string{"kid": out.KeyID},
		Outputs: []record.Digest{{Name: "token", SHA256: sha256Hex(out.Token)}},
	}
	if diff := cmp.Diff(wantResult, b.Result); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	for _, secret := range append(strings.Split(out.Token, "."), req.User, req.BusinessName, req.TerminalID) {
		if strings.Contains(string(all[0].Body), secret) {
			t.Errorf("the entry holds %q", secret)
		}
	}
	const number = "5204245250001488"
	req.Subject, req.Audience = "shop "+number, number
	w.mustSign(req)
	entry := w.entries()[1]
	if strings.Contains(string(entry.Body), number) || w.body(entry).Intent.Refs["merchantSub"] != "withheld" || w.body(entry).Intent.Refs["aud"] != "withheld" {
		t.Errorf("the entry is %s", entry.Body)
	}
}

func TestServiceIsNotMadeFromWrongSettings(t *testing.T) {
	w := newWorld(t)
	cfg := merchant.Config{Recorder: w.log, Gate: w.hands, Now: w.clock.Now}
	for name, tc := range map[string]struct {
		change func(*merchant.Settings)
		says   []string
	}{
		"no lifetime":               {func(s *merchant.Settings) { s.MaxLifetime = 0 }, []string{"maximum lifetime is 0s"}},
		"less than a second":        {func(s *merchant.Settings) { s.MaxLifetime = time.Second - 1 }, []string{"maximum lifetime"}},
		"more than a day":           {func(s *merchant.Settings) { s.MaxLifetime = 24*time.Hour + 1 }, []string{"maximum lifetime"}},
		"an acquirer nobody knows":  {func(s *merchant.Settings) { s.Acquirers["x"] = "acquirer-9" }, []string{`issuer "x" has the acquirer "acquirer-9"`}},
		"a template without claims": {func(s *merchant.Settings) { s.ProximityClaims = nil }, []string{"claim iat", "claim exp", "claim jti"}},
		"everything": {func(s *merchant.Settings) {
			*s = merchant.Settings{Acquirers: map[string]string{"x": "y"}}
		}, []string{"maximum lifetime", "claim jti", "acquirer"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			tc.change(&s)
			_, made := merchant.New(cfg, s)
			used := w.svc.Use(s)
			for _, err := range []error{made, used} {
				if err == nil {
					t.Fatal("taken")
				}
				for _, says := range tc.says {
					if !strings.Contains(err.Error(), says) {
						t.Errorf("error %q does not say %q", err, says)
					}
				}
			}
			w.mustSign(request()) // with the old ones
		})
	}
	for name, cfg := range map[string]merchant.Config{
		"no recorder": {Gate: w.hands, Now: w.clock.Now}, "no gate": {Recorder: w.log, Now: w.clock.Now}, "no clock": {Recorder: w.log, Gate: w.hands},
	} {
		if svc, err := merchant.New(cfg, settings()); svc != nil || err == nil {
			t.Errorf("%s: made %v, %v", name, svc, err)
		}
	}
}

// Other settings hold from the next request on.
func TestSettingsTakeEffectAtOnce(t *testing.T) {
	w := newWorld(t)
	w.mustSign(request())
	s := settings()
	s.Issuers["bank-a"], s.MaxLifetime = "other", time.Minute
	if err := w.svc.Use(s); err != nil {
		t.Fatal(err)
	}
	out, _, payload := w.mustSign(request())
	if !strings.Contains(payload, `"iss":"other"`) || !out.ExpiresAt.Equal(start.Add(time.Minute)) {
		t.Errorf("claims %s", payload)
	}
	s.Allowances = nil
	if err := w.svc.Use(s); err != nil {
		t.Fatal(err)
	}
	var not *merchant.NotAllowedError
	if _, err := w.svc.SignToken(context.Background(), backend, request()); !errors.As(err, &not) {
		t.Error(err)
	}
}
