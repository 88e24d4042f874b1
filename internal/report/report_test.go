package report_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/internal/report"
)

var now = time.Now()

// only leaves the keys of few purposes: none is RSA, which takes long to make.
func only(keys []hsm.NewKey) []hsm.NewKey {
	few := []hsm.Purpose{hsm.CardVault, hsm.CardIndex, hsm.CardTransport, hsm.ProximityToken, hsm.AuditReport, hsm.AuditCheckpoint}
	return slices.DeleteFunc(keys, func(k hsm.NewKey) bool { return !slices.Contains(few, k.Purpose) })
}

// read makes the report of a token, and of a host and build that leave nothing to be wished.
func read(t *testing.T, tok *hsmtest.Token, change ...func(*report.Facts)) report.Report {
	t.Helper()
	f := report.Facts{
		Now: now, Environment: "test", Origin: "bank.example/mintmark/test",
		Members: []report.Member{report.ReadMember(context.Background(), tok.Token, false)},
		Host:    hardened, Build: known,
	}
	for _, c := range change {
		c(&f)
	}
	return report.Make(f)
}

var (
	hardened = report.Host{System: "Linux", CoreLimit: "0 bytes", CoreOff: true, Locked: true, Memory: "locked", Erasure: "runtime/secret", Clock: "in step", ClockInStep: true}
	known    = report.Build{Version: "v1", Go: "go1.26", Revision: "abc", Modules: 3, ModulesSHA256: "00", ExecutableSHA256: "11"}
)

func requireVerdict(t *testing.T, r report.Report, id string, want report.Verdict, text string) {
	t.Helper()
	item := r.Item(id)
	if item.Verdict != want {
		t.Errorf("%s is %q", id, item.Verdict)
	}
	for _, l := range item.Evidence {
		if l.Verdict == want && strings.Contains(l.Subject+": "+l.Found, text) {
			return
		}
	}
	t.Errorf("%s: no line with %s says %q: %+v", id, want, text, item.Evidence)
}

// A token on which every key was made by us passes whatever tokens are asked.
func TestTokenOfOursPasses(t *testing.T) {
	tok := hsmtest.New(t, only)
	r := read(t, tok)
	for id, text := range map[string]string{
		"A1":  "SoftHSM",
		"A2":  "test: card-vault: TOKEN=true, PRIVATE=true, SENSITIVE=true, EXTRACTABLE=false, its value is not given out, ALWAYS_SENSITIVE=true, NEVER_EXTRACTABLE=true, LOCAL=true, made by CKM_AES_KEY_GEN",
		"A3":  "test: card-transport: for card-transport: DERIVE, and nothing else",
		"A4":  "test: card-index: MODIFIABLE=false, COPYABLE=false, allows CKM_SHA256_HMAC",
		"A5":  "all of them of keys of the keyring",
		"A6":  "disposable P-256 key as audit-checkpoint, audit-report, proximity-token: agree with CKM_ECDH1_DERIVE: refused",
		"A7":  "test: proximity-token: answers to its pin spki-sha256:",
		"A8":  "test: card-vault: AES-256, active, made ",
		"A10": "3 session objects made, 3 destroyed, 0 left",
	} {
		requireVerdict(t, r, id, report.Pass, text)
	}
	if r.Item("A9").Verdict != report.NotSupported || r.Item("A11").Verdict != report.Fail { // nobody read a log
		t.Errorf("A9 is %s, A11 is %s", r.Item("A9").Verdict, r.Item("A11").Verdict)
	}
	for _, i := range r.Items {
		if len(i.References) < 3 || i.Title == "" {
			t.Errorf("%s refers to %v", i.ID, i.References)
		}
	}
}

// Each item fails on a token that somebody prepared wrongly, and says what is wrong.
func TestTokensPreparedWronglyFail(t *testing.T) {
	id := []byte("an intruder's")
	attribute := pkcs11.NewAttribute
	for name, c := range map[string]struct {
		item string
		text string
		// prepare is done while the service is away; ring is what it finds when it is back.
		prepare func(i *intruder, ring *hsm.Keyring)
	}{
		"the security officer's PIN was tried": {"A1", "CKF_SO_PIN_COUNT_LOW", nil}, // below
		"an extractable key": {"A2", "loose: SENSITIVE=false, EXTRACTABLE=true, its value was read", func(i *intruder, ring *hsm.Keyring) {
			i.put("loose", id, attribute(pkcs11.CKA_EXTRACTABLE, true), attribute(pkcs11.CKA_SENSITIVE, false))
			ring.Keys = append(ring.Keys, looseEntry("loose", id, nil))
		}},
		"an imported key that passes for a generated one": {"A2", "LOCAL=false", func(i *intruder, ring *hsm.Keyring) {
			i.put("loose", id)
			ring.Keys = append(ring.Keys, looseEntry("loose", id, func(k *hsm.Key) { k.Provenance = hsm.Generated }))
		}},
		"one more usage flag": {"A3", "loose: for card-vault: SIGN=true", func(i *intruder, ring *hsm.Keyring) {
			i.put("loose", id, attribute(pkcs11.CKA_SIGN, true))
			ring.Keys = append(ring.Keys, looseEntry("loose", id, nil))
		}},
		"flags that can be changed": {"A4", "MODIFIABLE=true", func(i *intruder, ring *hsm.Keyring) {
			i.put("loose", id, attribute(pkcs11.CKA_MODIFIABLE, true))
			ring.Keys = append(ring.Keys, looseEntry("loose", id, nil))
		}},
		"an unknown key": {"A5", "stranger: CKO_SECRET_KEY, CKA_ID " + hex.EncodeToString(id), func(i *intruder, _ *hsm.Keyring) {
			i.put("stranger", id)
		}},
		"an unknown object that is no key": {"A5", "a note: CKO_DATA", func(i *intruder, _ *hsm.Keyring) {
			_, err := i.ctx.CreateObject(i.s, []*pkcs11.Attribute{
				attribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA), attribute(pkcs11.CKA_TOKEN, true), attribute(pkcs11.CKA_LABEL, "a note"), attribute(pkcs11.CKA_VALUE, []byte("x")),
			})
			i.must(err)
		}},
		"a foreign key under the label of one of ours": {"A5", "under the label of one that is", func(i *intruder, _ *hsm.Keyring) {
			i.put("card-vault", id)
		}},
		"a key that wraps and decrypts": {"A5", "it wraps and decrypts", func(i *intruder, ring *hsm.Keyring) {
			i.put("loose", id, attribute(pkcs11.CKA_WRAP, true))
			ring.Keys = append(ring.Keys, looseEntry("loose", id, nil))
		}},
		"another key in the place of one of ours": {"A7", "card-vault: on the token differs from its pin", func(i *intruder, ring *hsm.Keyring) {
			own := find(i, ring, "card-vault")
			i.destroy(own)
			i.put("card-vault", own)
		}},
		"a key that is gone": {"A7", "card-index: not on the token", func(i *intruder, ring *hsm.Keyring) {
			i.destroy(find(i, ring, "card-index"))
		}},
		"a key twice": {"A7", "card-vault: on the token more than once", func(i *intruder, ring *hsm.Keyring) {
			i.put("card-vault", find(i, ring, "card-vault"))
		}},
		"a key that is too short": {"A8", "short: 1024 bits, and not RSA-2048", func(i *intruder, ring *hsm.Keyring) {
			i.shortRSA(id)
			ring.Keys = append(ring.Keys, looseEntry("short", id, func(k *hsm.Key) { k.Purpose, k.Algorithm = hsm.TAVSigning, hsm.RSA2048 }))
		}},
		"a cryptoperiod that is over": {"A8", "card-vault: AES-256, active, made 2019-01-01; cryptoperiod ended 2021-01-01", func(_ *intruder, ring *hsm.Keyring) {
			change(ring, "card-vault", func(k *hsm.Key) { k.Created = "2019-01-01" })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tok := hsmtest.New(t, only)
			tok.Reopen(t, func(ring *hsm.Keyring) {
				i := intrude(t, tok, c.prepare != nil)
				defer i.leave()
				if c.prepare == nil {
					if err := i.ctx.Login(i.s, pkcs11.CKU_SO, "not the PIN"); !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
						t.Fatal(err)
					}
					return
				}
				c.prepare(i, ring)
			})
			requireVerdict(t, read(t, tok), c.item, report.Fail, c.text)
		})
	}
}

func change(ring *hsm.Keyring, name string, how func(*hsm.Key)) {
	for i := range ring.Keys {
		if ring.Keys[i].Name == name {
			how(&ring.Keys[i])
		}
	}
}

// find gives the CKA_ID of a key of the keyring.
func find(i *intruder, ring *hsm.Keyring, name string) []byte {
	i.t.Helper()
	k, _ := ring.Find(name)
	id, err := hex.DecodeString(k.ID)
	i.must(err)
	return id
}

// destroy removes a key, as whoever has the PIN can.
func (i *intruder) destroy(id []byte) {
	i.t.Helper()
	i.must(i.ctx.FindObjectsInit(i.s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, id)}))
	found, _, err := i.ctx.FindObjects(i.s, 10)
	i.must(err)
	i.must(i.ctx.FindObjectsFinal(i.s))
	for _, o := range found {
		i.must(i.ctx.DestroyObject(i.s, o))
	}
}

func (i *intruder) shortRSA(id []byte) {
	i.t.Helper()
	own := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}
	_, _, err := i.ctx.GenerateKeyPair(i.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
		append(own, pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 1024), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})),
		append(own, pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)))
	i.must(err)
}

// An expired certificate of one of the keys fails; one that ends soon is said to.
func TestCertificatesEnd(t *testing.T) {
	tok := hsmtest.New(t, only)
	for name, c := range map[string]struct {
		end     time.Time
		verdict report.Verdict
		text    string
	}{
		"expired": {now.Add(-time.Hour), report.Fail, "certificate ended " + now.Add(-time.Hour).UTC().Format(time.DateOnly)},
		"soon":    {now.Add(10*24*time.Hour + time.Hour), report.Pass, "certificate ends SOON"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			certify(t, tok, filepath.Join(dir, "proximity.crt"), c.end)
			tok.Reopen(t, func(ring *hsm.Keyring) {
				change(ring, "proximity-token", func(k *hsm.Key) { k.Certificate = "proximity.crt" })
				path := filepath.Join(dir, "keyring.yaml")
				if err := ring.Save(path); err != nil {
					t.Fatal(err)
				}
				loaded, err := hsm.LoadKeyring(path)
				if err != nil {
					t.Fatal(err)
				}
				*ring = *loaded
			})
			requireVerdict(t, read(t, tok), "A8", c.verdict, c.text)
			requireVerdict(t, read(t, tok), "A7", report.Pass, "its certificate is for it: CN=bank")
		})
	}
}

// certify makes a self-signed certificate for the key of proximity tokens.
func certify(t *testing.T, tok *hsmtest.Token, path string, end time.Time) {
	t.Helper()
	key, err := tok.Signer(context.Background(), "proximity-token")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bank"}, NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A retired key is tried, and refused.
func TestRetiredKeysAreTried(t *testing.T) {
	tok := hsmtest.New(t, only)
	tok.Reopen(t, func(ring *hsm.Keyring) {
		for _, name := range []string{"proximity-token", "card-vault"} {
			change(ring, name, func(k *hsm.Key) { k.State, k.Retired = hsm.Retired, k.Created })
		}
	})
	r := read(t, tok)
	requireVerdict(t, r, "A8", report.Pass, "proximity-token: retired")
	requireVerdict(t, r, "A8", report.Pass, "card-vault: retired")
	r = read(t, tok, func(f *report.Facts) { f.Members[0].Retired["card-vault"] = "" })
	requireVerdict(t, r, "A8", report.Fail, "it is retired, and made something new just now")
}

// A session object that somebody left is seen, and so is what a running service did not destroy.
func TestEphemeralKeysThatAreLeftFail(t *testing.T) {
	tok := hsmtest.New(t, only)
	i := intrude(t, tok, false) // in the service's own process and login
	_, err := i.ctx.CreateObject(i.s, aesKey("left", []byte("left"), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	i.must(err)
	requireVerdict(t, read(t, tok), "A10", report.Fail, "1 left on the token")
	i.must(i.ctx.CloseSession(i.s))
	leak := func(f *report.Facts) {
		f.Service = &report.Service{Ephemeral: report.Ephemeral{Created: 9, Destroyed: 6}}
	}
	requireVerdict(t, read(t, tok), "A10", report.Pass, "0 left on the token")
	requireVerdict(t, read(t, tok, leak), "A10", report.Fail, "9 session objects made, 6 destroyed")
}

// What a token allowed or did not answer fails; package hsm tries it on keys that do allow it.
func TestAttemptsThatWereNotRefusedFail(t *testing.T) {
	tok := hsmtest.New(t, only)
	facts := report.ReadMember(context.Background(), tok.Token, false)
	for outcome, want := range map[hsm.AttemptOutcome]report.Verdict{
		hsm.AttemptAllowed: report.Fail, hsm.AttemptUnknown: report.Fail, hsm.AttemptRefused: report.Pass,
	} {
		facts.Tried[0].Attempts[0] = hsm.Attempt{What: "set CKA_EXTRACTABLE", Outcome: outcome, Answer: "x"}
		r := report.Make(report.Facts{Members: []report.Member{facts}})
		requireVerdict(t, r, "A6", want, "set CKA_EXTRACTABLE: "+string(outcome))
	}
	facts.Tried[0].Err = "token not there"
	requireVerdict(t, report.Make(report.Facts{Members: []report.Member{facts}}), "A6", report.Fail, "not tried: token not there")
}

// A token that does not answer an attempt has not refused it.
func TestTokenThatFailsUnderAnAttemptFails(t *testing.T) {
	tok := hsmtest.New(t, only)
	var ring *hsm.Keyring
	tok.Reopen(t, func(r *hsm.Keyring) { ring = r })
	if err := tok.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	on := tok.SoftHSM()
	fault := faultmodule.New(t, on.Module)
	broken, err := hsm.Open(context.Background(), hsm.Config{
		Name: hsmtest.Member, Module: fault.Path, TokenLabel: on.Label, PINFile: on.PINFile, Keyring: ring, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = broken.Close(context.Background()) }()
	fault.Inject(faultmodule.Rule{Function: "C_CopyObject", RV: pkcs11.CKR_DEVICE_ERROR, Times: faultmodule.Forever})
	r := report.Make(report.Facts{Members: []report.Member{report.ReadMember(context.Background(), broken, false)}})
	requireVerdict(t, r, "A6", report.Fail, "C_CopyObject: unknown (C_CopyObject: pkcs11: 0x30: CKR_DEVICE_ERROR)")
	requireVerdict(t, r, "A6", report.Fail, "C_CopyObject with CKA_EXTRACTABLE")
	if r.Item("A2").Verdict != report.Pass {
		t.Errorf("A2 is %s", r.Item("A2").Verdict)
	}
}

// What cannot be read fails everywhere.
func TestMemberThatCannotBeReadFails(t *testing.T) {
	r := report.Make(report.Facts{Members: []report.Member{{Name: "b", Err: "token not found"}}})
	for _, id := range []string{"A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A10"} {
		requireVerdict(t, r, id, report.Fail, "member b: not read: token not found")
	}
}

// Production needs a record of each key's generation.
func TestKeysWithoutARecordFailInProduction(t *testing.T) {
	tok := hsmtest.New(t, only)
	r := read(t, tok, func(f *report.Facts) { f.Production = true })
	requireVerdict(t, r, "A9", report.Fail, "card-vault: generated")
}
