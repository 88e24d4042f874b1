package passes_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/webservice"
)

func TestPassIsTemplateWithItsOwnMembersAndWhatTheServiceSets(t *testing.T) {
	w := newWorld(t)
	for _, id := range []passes.TypeID{rsaType, ecType} {
		w.setUp(id)
		doc := card(42)
		doc.Pass = jsontext.Value(strings.Replace(string(doc.Pass), "{", `{"backgroundColor":null,"description":"Mine",`, 1))
		p := w.put(pass(id, "1"), doc)
		if !p.Created || p.Version != 1 || len(p.Token) < 16 || passkit.HasErrors(p.Findings) {
			t.Errorf("stored %+v", p)
		}
		got, err := w.fetch(p, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		out := w.opened(got)
		if out.OrganizationName != "Corner Shop" || out.Description != "Mine" || out.BackgroundColor != "" ||
			out.PassTypeIdentifier != id.Type || out.SerialNumber != "1" || out.TeamIdentifier != "TEAM123456" || out.FormatVersion != 1 ||
			out.WebServiceURL != "https://passes.example/api/shop/passes/apple" || string(out.AuthenticationToken) != p.Token {
			t.Errorf("pass is %+v", out)
		}
	}
}

func TestDocumentThatComesBackIsTheOneThatGoesIn(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	w.put(pass(rsaType, "1"), card(1))
	got, err := w.svc.Get(w.ctx, pass(rsaType, "1"))
	if err != nil {
		t.Fatal(err)
	}
	again := w.put(pass(rsaType, "1"), got.Document)
	if again.Version != 1 || again.Created || w.count(`SELECT COUNT(*) FROM pass_pushes`) != 0 {
		t.Errorf("the same document made version %d", again.Version)
	}
	set := card(1)
	set.Pass = jsontext.Value(strings.Replace(string(set.Pass), "{", `{"serialNumber":"1","formatVersion":1,"passTypeIdentifier":"pass.test.rsa","teamIdentifier":"TEAM123456",`, 1))
	if p := w.put(pass(rsaType, "1"), set); p.Version != 1 {
		t.Errorf("members that the service sets made version %d", p.Version)
	}
}

func TestDocumentsThatMakeNoPassAreRefused(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	existing := w.put(pass(rsaType, "1"), card(1))
	before := w.count(`SELECT COUNT(*) FROM audit_entries`)
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	field := func(name string) func(error) bool {
		return func(err error) bool {
			var f *passes.FieldError
			return errors.As(err, &f) && f.Member == name
		}
	}
	invalid := func(err error) bool {
		var i *passes.InvalidError
		return errors.As(err, &i) && passkit.HasErrors(i.Findings)
	}
	with := func(member string) passes.Document {
		d := card(2)
		d.Pass = jsontext.Value(strings.Replace(string(d.Pass), "{", "{"+member+",", 1))
		return d
	}
	for _, tc := range []struct {
		name string
		id   passes.ID
		doc  passes.Document
		ok   func(error) bool
	}{
		{"type that is not configured", pass(passes.TypeID{Tenant: "shop", Type: "pass.other"}, "1"), card(1), is(passes.ErrUnknown)},
		{"type of another tenant", pass(passes.TypeID{Tenant: "rail", Type: rsaType.Type}, "1"), card(1), is(passes.ErrUnknown)},
		{"empty serial", pass(rsaType, ""), card(1), field("serialNumber")},
		{"serial with a slash", pass(rsaType, "a/b"), card(1), field("serialNumber")},
		{"no object", pass(rsaType, "2"), passes.Document{Pass: jsontext.Value(`[1]`)}, field("pass")},
		{"no style", pass(rsaType, "2"), passes.Document{Pass: jsontext.Value(`{}`)}, invalid},
		{"wrong type of a member", pass(rsaType, "2"), with(`"description":7`), invalid},
		{"another serial", pass(rsaType, "2"), with(`"serialNumber":"3"`), field("pass.serialNumber")},
		{"another web service", pass(rsaType, "2"), with(`"webServiceURL":"https://evil.example"`), field("pass.webServiceURL")},
		{"short token", pass(rsaType, "2"), with(`"authenticationToken":"short"`), field("pass.authenticationToken")},
		{"another token for a pass there is", existing.ID, with(`"authenticationToken":"0123456789abcdef0123"`), field("pass.authenticationToken")},
		{"file that was not uploaded", pass(rsaType, "2"), passes.Document{Pass: card(1).Pass, Files: passes.Files{"logo.png": strings.Repeat("ab", 32)}}, field("files")},
		{"file by address", pass(rsaType, "2"), passes.Document{Pass: card(1).Pass, Files: passes.Files{"logo.png": "https://evil.example/logo.png"}}, field("files")},
		{"file outside the folder", pass(rsaType, "2"), passes.Document{Pass: card(1).Pass, Files: passes.Files{"../logo.png": strings.Repeat("ab", 32)}}, field("files")},
		{"manifest as a file", pass(rsaType, "2"), passes.Document{Pass: card(1).Pass, Files: passes.Files{"manifest.json": strings.Repeat("ab", 32)}}, field("files")},
		{"nfc without its certificate", pass(rsaType, "2"), with(`"nfc":{"message":"x","encryptionPublicKey":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ=="}`), invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := w.svc.Put(w.ctx, issuer, tc.id, tc.doc, passes.Anything); !tc.ok(err) {
				t.Errorf("error is %v", err)
			}
		})
	}
	if n := w.count(`SELECT COUNT(*) FROM audit_entries`); n != before {
		t.Errorf("%d entries for documents that changed nothing", n-before)
	}
	if n := w.count(`SELECT COUNT(*) FROM passes`); n != 1 {
		t.Errorf("%d passes", n)
	}
}

func TestFilesOfAnotherTenantAreNotThere(t *testing.T) {
	w := newWorld(t)
	sum, err := w.svc.PutFile(w.ctx, issuer, "rail", []byte("rail's"))
	if err != nil {
		t.Fatal(err)
	}
	w.setUp(rsaType)
	doc := card(1)
	doc.Files = passes.Files{"logo.png": sum}
	var f *passes.FieldError
	if _, err := w.svc.Put(w.ctx, issuer, pass(rsaType, "1"), doc, passes.Anything); !errors.As(err, &f) {
		t.Errorf("error is %v", err)
	}
}

func TestIfMatchHoldsWhereItIsGiven(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	id := pass(rsaType, "1")
	if _, err := w.svc.Put(w.ctx, issuer, id, card(1), passes.Existing); !errors.Is(err, passes.ErrPrecondition) {
		t.Errorf("* for nothing: %v", err)
	}
	w.put(id, card(1))
	w.put(id, card(2))
	for _, c := range []passes.Condition{passes.Only(1), passes.Only(3), passes.Only(1, 3), passes.Only()} {
		if _, err := w.svc.Put(w.ctx, issuer, id, card(3), c); !errors.Is(err, passes.ErrPrecondition) {
			t.Errorf("%+v: %v", c, err)
		}
		if err := w.svc.Void(w.ctx, issuer, id, c); !errors.Is(err, passes.ErrPrecondition) {
			t.Errorf("void %+v: %v", c, err)
		}
	}
	var wins int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := w.svc.Put(w.ctx, issuer, id, card(100+i), passes.Only(2)); err == nil {
				mu.Lock()
				wins++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if wins != 1 {
		t.Errorf("%d of 8 replaced version 2", wins)
	}
}

func TestVoidedPassIsStillServedAndPutBringsItBack(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	p := w.put(pass(rsaType, "1"), card(1))
	w.register(p, "device-1", "a")
	if err := w.svc.Void(w.ctx, issuer, p.ID, passes.Anything); err != nil {
		t.Fatal(err)
	}
	if w.count(`SELECT COUNT(*) FROM pass_pushes`) != 1 {
		t.Error("the device is not told")
	}
	got, err := w.fetch(p, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if out := w.opened(got); out.Voided == nil || !*out.Voided {
		t.Error("not voided")
	}
	if err := w.svc.Void(w.ctx, issuer, p.ID, passes.Anything); err != nil {
		t.Errorf("again: %v", err)
	}
	if again := w.put(p.ID, card(1)); again.Version != 2 || !again.Voided {
		t.Errorf("put without a word about it: %+v", again)
	}
	no, doc := false, card(1)
	doc.Voided = &no
	if again := w.put(p.ID, doc); again.Version != 3 || again.Voided || again.Token != p.Token {
		t.Errorf("brought back as %+v", again.PassRow)
	}
	if err := w.svc.Void(w.ctx, issuer, pass(rsaType, "none"), passes.Anything); !errors.Is(err, passes.ErrUnknown) {
		t.Errorf("nothing voided: %v", err)
	}
}

// A download of what was signed asks no token, and so goes on without one.
func TestUnchangedPassIsSignedOnce(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	p := w.put(pass(rsaType, "1"), card(1))
	var all sync.WaitGroup
	contents := make([]string, 16)
	for i := range contents {
		all.Go(func() {
			got, err := w.fetch(p, time.Time{})
			if err != nil {
				t.Error(err)
				return
			}
			contents[i] = string(got.Content)
		})
	}
	all.Wait()
	if len(slices.Compact(contents)) != 1 || w.counts.signed != 1 || w.counts.kept != 15 {
		t.Errorf("%d signed, %d kept", w.counts.signed, w.counts.kept)
	}
	if n := w.count(`SELECT COUNT(*) FROM audit_entries WHERE body LIKE '%"passes.sign"%'`); n != 1 {
		t.Errorf("%d signatures on record", n)
	}
	if err := w.token.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.fetch(p, time.Time{}); err != nil {
		t.Errorf("without the token: %v", err)
	}
	w.put(p.ID, card(2))
	var later interface{ RetryAfter() time.Duration }
	if _, err := w.fetch(p, time.Time{}); !errors.As(err, &later) {
		t.Errorf("a new version without the token: %v", err)
	}
}

func TestCacheIsBoundedAndItsTenantsAreApart(t *testing.T) {
	w := newWorld(t, func(c *passes.Config) { c.BundleCache = 8 << 10 })
	for _, id := range []passes.TypeID{rsaType, otherType} {
		w.setUp(id)
		p := w.put(pass(id, "1"), card(1))
		got, err := w.fetch(p, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if out := w.opened(got); out.PassTypeIdentifier != id.Type {
			t.Errorf("%v got %s", id, out.PassTypeIdentifier)
		}
	}
	p := w.put(pass(rsaType, "1"), card(1))
	for i := range 8 {
		q := w.put(pass(rsaType, "more-"+strconv.Itoa(i)), card(i))
		if _, err := w.fetch(q, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	before := w.counts.signed
	if _, err := w.fetch(p, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if w.counts.signed != before+1 {
		t.Error("what was pushed out of the cache was still there")
	}
}

func TestCertificateOfATypeMustBeForItsKeyAndType(t *testing.T) {
	w := newWorld(t)
	other := w.settings.Types[otherType].Chain
	row := passes.TypeRow{TypeID: ecType, Certificate: pemOf(other)}
	var invalid *passes.InvalidError
	if _, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); !errors.As(err, &invalid) || len(invalid.Findings) < 2 {
		t.Errorf("another type's certificate: %v", err)
	}
	renewed := w.typeSetting("pass-ec", ecType).Chain
	row.Certificate = pemOf(renewed)
	if _, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); err != nil {
		t.Fatal(err)
	}
	row.Certificate = "nonsense"
	var field *passes.FieldError
	if _, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); !errors.As(err, &field) {
		t.Errorf("no certificate: %v", err)
	}
}

func TestTypeThatLosesItsIconIsWarned(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	p := w.put(pass(rsaType, "1"), card(1))
	row, err := w.svc.Type(w.ctx, rsaType)
	if err != nil {
		t.Fatal(err)
	}
	put := func(files passes.Files) []passkit.Finding {
		row.Files = files
		_, found, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(found, func(f passkit.Finding) bool { return f.File != "icon.png" })
	}
	all := maps.Clone(row.Files)
	if found := put(nil); len(found) != 1 || found[0].Severity != passkit.Warning {
		t.Errorf("found %v", found)
	}
	var invalid *passes.InvalidError
	if _, err := w.fetch(p, time.Time{}); !errors.As(err, &invalid) {
		t.Errorf("without an icon: %v", err)
	}
	if found := put(all); len(found) != 0 {
		t.Errorf("with its icon again: %v", found)
	}
	if _, err := w.fetch(p, time.Time{}); err != nil {
		t.Errorf("with its icon again: %v", err)
	}
}

func TestPassWhoseCertificateEndedIsNotSigned(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	p := w.put(pass(rsaType, "1"), card(1))
	w.clock.Add(400 * 24 * time.Hour)
	before := w.token.CallsOf("sign")
	var invalid *passes.InvalidError
	if _, err := w.fetch(p, time.Time{}); !errors.As(err, &invalid) || w.token.CallsOf("sign") != before {
		t.Errorf("error is %v", err)
	}
	if n := w.count(`SELECT COUNT(*) FROM audit_entries WHERE body LIKE '%"not-a-pass"%'`); n != 1 {
		t.Errorf("%d refusals on record", n)
	}
}

func TestDeviceIsLetInByThePassesOwnTokenAlone(t *testing.T) {
	w := newWorld(t)
	w.setUp(rsaType)
	w.setUp(otherType)
	p, q := w.put(pass(rsaType, "1"), card(1)), w.put(pass(rsaType, "2"), card(1))
	rail := w.put(pass(otherType, "1"), card(1))
	for _, tc := range []struct {
		name  string
		id    passes.ID
		token string
	}{
		{"none", p.ID, ""},
		{"another pass's", p.ID, q.Token},
		{"another tenant's", p.ID, rail.Token},
		{"a part", p.ID, p.Token[:31]},
		{"in capitals", p.ID, strings.ToUpper(p.Token) + "X"},
		{"a pass that there is not", pass(rsaType, "3"), p.Token},
		{"a type that there is not", pass(passes.TypeID{Tenant: "shop", Type: "none"}, "1"), p.Token},
		{"its serial under another tenant", pass(passes.TypeID{Tenant: "rail", Type: rsaType.Type}, "1"), p.Token},
		{"the empty token of a pass that there is not", pass(rsaType, "3"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			who := webservice.Credentials{Kind: webservice.Apple, Token: tc.token}
			_, fetch := w.svc.Fetch(w.ctx, tc.id, tc.token, "r", time.Time{})
			_, register := w.svc.Register(w.ctx, tc.id, "device", who, pushToken("x"))
			for what, err := range map[string]error{"fetch": fetch, "register": register, "unregister": w.svc.Unregister(w.ctx, tc.id, "device", who)} {
				if !errors.Is(err, passes.ErrUnauthorized) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	if w.count(`SELECT COUNT(*) FROM pass_registrations`) != 0 {
		t.Error("something was registered")
	}
}
