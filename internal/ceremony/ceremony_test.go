package ceremony_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/ceremony"
)

// Two people, made by ssh-keygen -t ed25519 for these tests.
const people = `
people:
  - {name: Ada Lovelace, ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHEK7QPTHTtTGlxGpbB1fHrOtyJuGRTCOu6n+DTLT6z8}
  - {name: Grace Hopper, ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBwRckvOyy4+CM0LgKnDpWYo0ymHUNBcDrpGAIRj7yhD}
`

// Keys of other kinds; the DSA and the short RSA key were made for these tests too.
const (
	ada     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHEK7QPTHTtTGlxGpbB1fHrOtyJuGRTCOu6n+DTLT6z8"
	dsa     = "ssh-dss AAAAB3NzaC1kc3MAAACBAPExd0Mosvb6D7P0SL84e013KuPlNDBD4FezgDj5cYd6HF04QvDwZ3Q9V5QB2GOFsbkxe70y1MCNVXFkCHDXH+Xd4ZGuThEXy2SYRK5ocqmzz7fPAwURJSFAg9cJsJ0dQi80a6udTCa+2GrDKGYCEm81OpQve/q+Kss9/ErF3HWNAAAAFQD4pJiqeBmYMbv+iflX/Wnc0KNW2wAAAIEA1HfHLSr/Uf1mHA0u2RSONtO2rqm+sg6bbQZxHaKqwB4iUwcncoPPahe2oGBIgRoBEWAFKv3igCq5YrBrMBLuBMCOHTOsJzA1fztSUnk4P+f8dEkkh1sCMC9S+z6vW+iTZtw5xBlqbuEduKmEwWlwznWuvQLydG7u7wSKBY0pUsEAAACBALLn1Sd4BJoOawHPxPxjPcaatN/u2Lz+l5nXCkEJ5MBDLU1E67w1i2+hhqrnhX5Wq9F6gbN8hWVN7WkF+OCLrOldpxC23Pz5VUIwBoAnOxxDGGFmz8hc702r2KfNnAUy3zofZTV/Cgj2O/3N+qtBbbro7z4UH11CQqhxI1/lQnvR"
	rsa1024 = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDeIu02lLzoUDeUayfsZPeGIApHhxxE85CPkdbhsF/Eyh+uaFZwOsjI+o4GyjJSa89w8wlZTVu/B0i5nUM3sVPwE5YWRBl/TmaO+8t0hIJGFrKrntdDMX50FwK8jx29SUiWw7ejtOkgH+NvhXY2tB5hQvUfAMF2doGgpYfZPyWqFw=="
)

const head = "ceremony: test\nenvironment: test\nmember: test\n"

func plan(t *testing.T, steps string) *ceremony.Plan {
	t.Helper()
	p, err := ceremony.Parse([]byte(head + people + steps))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ringWith is a keyring of a key in each state, and one that signs transcripts.
func ringWith() *hsm.Keyring {
	key := func(name, id string, p hsm.Purpose, s hsm.State) hsm.Key {
		k := hsm.Key{Name: name, ID: id, Purpose: p, Algorithm: p.DefaultAlgorithm(), Provenance: hsm.Generated, State: s, Created: "2026-01-01",
			Pins: map[string]hsm.Pin{"test": hsm.Pin("spki-sha256:" + strings.Repeat("ab", 32))}}
		return k
	}
	front := key("front", "06", hsm.APITLS, hsm.Active)
	front.Certificate = "front.crt"
	return &hsm.Keyring{Environment: "test", Keys: []hsm.Key{
		front, key("report", "01", hsm.AuditReport, hsm.Active), key("log", "02", hsm.AuditCheckpoint, hsm.Active),
		key("old", "03", hsm.AuditCheckpoint, hsm.Retired), key("mint", "04", hsm.MerchantJWT, hsm.Active), key("mint-2", "05", hsm.MerchantJWT, hsm.Next),
	}}
}

func TestPlanSaysAllThatIsWrongWithIt(t *testing.T) {
	pin := "spki-sha256:" + strings.Repeat("ab", 32)
	for _, tc := range []struct{ name, plan, wrong string }{
		{"well", head + people + "generate: [{name: vault, purpose: card-vault, state: active}]", ""},
		{"a rotation", head + people + "states: [{key: mint-2, state: active}]", ""},
		{"a destruction", head + people + "destroy: [{key: old, pin: \"" + pin + "\"}]", ""},
		{"nothing to do", head + people, "nothing to do"},
		{"one person", head + "people: [{name: Ada, ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHEK7QPTHTtTGlxGpbB1fHrOtyJuGRTCOu6n+DTLT6z8}]\nstates: [{key: log, state: retired}]", "two or more"},
		{"one person twice", strings.Replace(head+people, "Grace Hopper", "ada  lovelace", 1) + "states: [{key: log, state: retired}]", "another person's too"},
		{"one key twice", strings.Replace(head+people, "BwRckvOyy4+CM0LgKnDpWYo0ymHUNBcDrpGAIRj7yhD", "HEK7QPTHTtTGlxGpbB1fHrOtyJuGRTCOu6n+DTLT6z8", 1) + "states: [{key: log, state: retired}]", "another person's too"},
		{"another environment", strings.Replace(head, "test\nmember", "production\nmember", 1) + people + "states: [{key: log, state: retired}]", "environment is"},
		{"a name that exists", head + people + "generate: [{name: old, purpose: card-vault}]", "a key of this name exists"},
		{"a name given twice", head + people + "generate: [{name: v, purpose: card-vault}, {name: v, purpose: card-vault}]", "a key of this name exists"},
		{"an id that exists", head + people + "adopt: [{name: zone, purpose: visa-zone, id: \"03\", pin: \"tdea-kcv:001122\"}]", "id is another key's"},
		{"an unknown key taken over", head + people + "adopt: [{name: zone, purpose: visa-zone, id: \"0a\"}]", "pin is missing"},
		{"another template", head + people + "generate: [{name: v, purpose: card-vault, template: {mechanism: CKM_AES_KEY_GEN, \"true\": [SIGN], allowed: [CKM_AES_GCM]}}]", "template is not the one"},
		{"two active", head + people + "generate: [{name: log-2, purpose: audit-checkpoint, state: active}]", "is active for audit-checkpoint too"},
		{"active and never published", head + people + "generate: [{name: mint-3, purpose: merchant-jwt, state: active}]\nstates: [{key: mint, state: retired}]", "was never next"},
		{"back from retirement", head + people + "states: [{key: old, state: active}]", "does not become active"},
		{"destroyed in use", head + people + "destroy: [{key: mint, pin: \"" + pin + "\"}]", "must be retired in the keyring already"},
		{"retired and destroyed at once", head + people + "states: [{key: log, state: retired}]\ndestroy: [{key: log, pin: \"" + pin + "\"}]", "must be retired in the keyring already"},
		{"another key destroyed", head + people + "destroy: [{key: old, pin: \"spki-sha256:" + strings.Repeat("cd", 32) + "\"}]", "have this pin there"},
		{"no key for the transcript", head + people + "states: [{key: report, state: retired}]", "transcript could not be signed"},
		{"a path", head + people + "requests: [{key: mint-2, commonName: mint, out: ../mint.csr}]", "no plain file name"},
		{"the keyring's own file", head + people + "requests: [{key: mint-2, commonName: mint, out: keyring.yaml}]", "is used twice"},
		{"a file that stands beside the keyring", head + people + "requests: [{key: front, commonName: mint, out: front.crt}]", "front.crt is used twice"},
		{"where a public half is kept", head + people + "requests: [{key: front, commonName: mint, out: old.pem}]\ndestroy: [{key: old, pin: \"" + pin + "\"}]", "old.pem is used twice"},
		{"a request that nobody answers", head + people + "requests: [{key: log, commonName: mint, out: log.csr}]", "others certify"},
		{"a key that signs SHA-1", strings.Replace(head+people, ada, dsa, 1) + "states: [{key: log, state: retired}]", "of no kind that is taken"},
		{"a short key", strings.Replace(head+people, ada, rsa1024, 1) + "states: [{key: log, state: retired}]", "has 1024 bits"},
		{"a certificate that nobody reviewed", head + people + "certificates: [{key: mint-2, file: mint.crt}]", "sha256 must be"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ceremony.Parse([]byte(tc.plan))
			if err != nil {
				t.Fatal(err)
			}
			err = p.Check(ringWith(), time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
			if (err == nil) != (tc.wrong == "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("says %v", err)
			}
		})
	}
	for name, text := range map[string]string{
		"an unknown member": head + "hurry: true", "a second document": head + "---\nceremony: b", "a member twice": head + "member: other",
		"an anchor": "ceremony: &a test\n", "a merge": head + "states: [{<<: {key: log}, state: retired}]", "a tag": "ceremony: !!str test\n",
		"a carriage return": "ceremony: test # \rmember: other\n", "another line break": "ceremony: test # \u0085member: other\n",
		"a text that runs backwards": head + "# \u202egninruter\n", "a zero byte": "ceremony: te\x00st\n", "what a note cannot have": head + "# \ufffd\n", "not UTF-8": head + "# \xff\n",
	} {
		if _, err := ceremony.Parse([]byte(text)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// What is taken over must be what the plan says: a zone key by the network's check value, a
// key that stands on another member by that member's pin. What does not fit stops the ceremony
// before anything is changed.
func TestKeysOfOthersAreHeldAgainstTheirPins(t *testing.T) {
	ctx := context.Background()
	token := hsmtest.New(t, func([]hsm.NewKey) []hsm.NewKey {
		return []hsm.NewKey{{Name: "report", Purpose: hsm.AuditReport}, {Name: "vault", Purpose: hsm.CardVault}, {Name: "zone", Purpose: hsm.VisaZone}}
	})
	var zone hsm.Key
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i := range ring.Keys {
			ring.Keys[i].Provenance = hsm.Generated
			if ring.Keys[i].Name == "vault" { // as if it had come from the other member
				ring.Keys[i].Pins = map[string]hsm.Pin{"other": ring.Keys[i].Pins[hsmtest.Member]}
			}
		}
		zone, ring.Keys = ring.Keys[2], ring.Keys[:2]
	})
	ring := &hsm.Keyring{Environment: "test"}
	for _, k := range token.Keys() {
		ring.Keys = append(ring.Keys, k.Key)
	}
	kcv := string(zone.Pins[hsmtest.Member])[:len("tdea-kcv:")+6]
	at := ceremony.Place{Token: token, Ring: ring, Now: time.Now, Say: t.Logf}
	adopt := func(pin string) string {
		return "adopt: [{name: zone, purpose: visa-zone, state: active, id: \"" + zone.ID + "\", pin: \"" + pin + "\"}]\npin: [{key: vault, from: other}]\n"
	}
	for _, wrong := range []string{"tdea-kcv:000000", string(zone.Pins[hsmtest.Member][:len("tdea-kcv:")+6]) + strings.Repeat("00", 32)} {
		if err := plan(t, adopt(wrong)).Rehearse(ctx, at); !errors.Is(err, ceremony.ErrToken) {
			t.Errorf("a zone key with another pin: %v", err)
		}
	}
	p := plan(t, adopt(kcv))
	if err := errors.Join(p.Check(ring, time.Now()), p.Rehearse(ctx, at)); err != nil {
		t.Fatal(err)
	}
	done, err := p.Run(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := done.Ring.Find("zone")
	vault, _ := done.Ring.Find("vault")
	if got.Pins[hsmtest.Member] != zone.Pins[hsmtest.Member] || got.Provenance != hsm.Imported || vault.Pins[hsmtest.Member] != vault.Pins["other"] {
		t.Errorf("the keyring has %+v and %+v", got, vault)
	}
	if _, err := token.EncryptTDEA(ctx, "zone", make([]byte, 8)); err != nil {
		t.Error(err)
	}
	if _, ok := ring.Find("zone"); ok {
		t.Error("the keyring before was changed")
	}
}
