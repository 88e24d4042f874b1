package hsm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

// goodRing is a keyring as an operator keeps it.
const goodRing = `# reviewed by two
environment: production
keys:
  - name: tav-2026
    purpose: tav-signing
    algorithm: RSA-2048
    id: 6f1c
    pins:
      hsm-a: spki-sha256:0000000000000000000000000000000000000000000000000000000000000000
      hsm-b: spki-sha256:1111111111111111111111111111111111111111111111111111111111111111
    provenance: generated
    state: active
    created: "2026-11-22"
  - name: tav-2025
    purpose: tav-signing
    algorithm: RSA-2048
    id: "6025"
    pins: {}
    provenance: imported
    state: retired
    created: 2025-11-22
    retired: 2026-12-01
  - name: vault.1
    purpose: card-vault
    algorithm: AES-256
    id: aa
    pins:
      hsm-a: aes-gcm:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
    provenance: generated
    state: next
    created: "2026-11-22"
  - name: index_1
    purpose: card-index
    algorithm: HMAC-SHA256
    id: bb
    pins:
      hsm-a: hmac-sha256:2222222222222222222222222222222222222222222222222222222222222222
    provenance: generated
    state: active
    created: "2026-11-22"
`

func TestKeyringIsReadAsItIsWritten(t *testing.T) {
	r, err := ParseKeyring([]byte(goodRing))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(goodRing))
	if r.Environment != "production" || len(r.Keys) != 4 || r.Digest() != hex.EncodeToString(sum[:]) {
		t.Errorf("keyring is %+v", r)
	}
	want := Key{
		Name: "tav-2026", Purpose: TAVSigning, Algorithm: RSA2048, ID: "6f1c", Provenance: Generated, State: Active, Created: "2026-11-22",
		Pins: map[string]Pin{"hsm-a": Pin("spki-sha256:" + strings.Repeat("0", 64)), "hsm-b": Pin("spki-sha256:" + strings.Repeat("1", 64))},
	}
	if k, ok := r.Find("tav-2026"); !ok || !reflect.DeepEqual(k, want) {
		t.Errorf("key is %+v", k)
	}
	if k, err := r.Active(TAVSigning); err != nil || k.Name != "tav-2026" {
		t.Errorf("active is %+v, %v", k, err)
	}
	if k, _ := r.Find("tav-2025"); k.State != Retired || k.Retired != "2026-12-01" {
		t.Errorf("key is %+v", k)
	}
	if _, ok := r.Find("tav"); ok {
		t.Error("found a key by half its name")
	}
	_, err = r.Active(CardVault) // it has only a next one
	requireKeyError(t, err, "card-vault", KeyNotListed)
}

// Each fault is found and said in the operator's words.
func TestKeyringFaultsAreNamed(t *testing.T) {
	for _, tc := range []struct {
		name     string
		old, new string // what is replaced in the good keyring, once
		want     string
	}{
		{"no environment", "environment: production\n", "", `environment is ""`},
		{"unknown environment", "production", "prod", `environment is "prod"`},
		{"unknown member of the keyring", "keys:", "version: 2\nkeys:", "version"},
		{"unknown member of a key", "    id: 6f1c", "    id: 6f1c\n    lable: x", "lable"},
		{"member in capitals", "    state: active", "    State: active", "State"},
		{"member twice", "    id: 6f1c", "    id: 6f1c\n    id: 6f1d", "id"},
		{"keys twice", "environment: production\n", "environment: production\nkeys: []\n", "keys"},
		{"second document", "# reviewed by two\n", "environment: production\n---\n", "more than one YAML document"},
		{"keys is no list", "keys:\n", "keys: 7\nrest:\n", ""},
		{"name is empty", "tav-2026", `""`, "name must be"},
		{"name is missing", "  - name: tav-2026\n    purpose", "  - purpose", "name must be"},
		{"name in capitals", "tav-2026", "TAV", "name must be"},
		{"name with a blank", "tav-2026", "tav 2026", "name must be"},
		{"name begins with a dot", "tav-2026", ".tav", "name must be"},
		{"name of 65 characters", "tav-2026", strings.Repeat("a", 65), "name must be"},
		{"name with a line end", "tav-2026", `"tav\n"`, "name must be"},
		{"name twice", "tav-2025", "tav-2026", "the name is used twice"},
		{"unknown purpose", "purpose: tav-signing", "purpose: signing", `unknown purpose "signing"`},
		{"no purpose", "    purpose: tav-signing\n", "", `unknown purpose ""`},
		{"algorithm of another purpose", "algorithm: RSA-2048", "algorithm: AES-256", "does not allow algorithm"},
		{"RSA key that is too long for its purpose", "algorithm: RSA-2048", "algorithm: RSA-3072", "it allows RSA-2048"},
		{"no algorithm", "    algorithm: RSA-2048\n", "", "does not allow algorithm"},
		{"id is empty", "id: 6f1c", `id: ""`, "id must be"},
		{"id is no hex", "id: 6f1c", "id: 6g1c", "id must be"},
		{"id in capitals", "id: 6f1c", "id: 6F1C", "id must be"},
		{"half a byte", "id: 6f1c", "id: 6f1", "id must be"},
		{"id of 65 bytes", "id: 6f1c", "id: " + strings.Repeat("ab", 65), "id must be"},
		{"id twice", "id: bb", "id: aa", "id is also that of vault.1"},
		{"unknown provenance", "provenance: generated", "provenance: found", `provenance is "found"`},
		{"no provenance", "    provenance: generated\n", "", `provenance is ""`},
		{"unknown state", "state: active", "state: ready", `state is "ready"`},
		{"no state", "    state: active\n", "", `state is ""`},
		{"two active", "state: retired", "state: active", "tav-2026 is active for tav-signing too"},
		{"no date", "    created: \"2026-11-22\"\n", "", `created is ""`},
		{"date in another order", `created: "2026-11-22"`, `created: "22.11.2026"`, "must be a date"},
		{"date with a time", `created: "2026-11-22"`, `created: "2026-11-22T00:00:00Z"`, "must be a date"},
		{"no such day", `created: "2026-11-22"`, `created: "2026-02-30"`, "must be a date"},
		{"retired on no date", "retired: 2026-12-01", "retired: yesterday", `retired is "yesterday"; it must be a date`},
		{"retired before it was made", "retired: 2026-12-01", "retired: 2025-11-21", "retired is 2025-11-21, before created"},
		{"retired and active", "    state: active", "    retired: 2026-12-01\n    state: active", `retired is set, and state is "active"`},
		{"retired and next", "    state: next", "    retired: 2026-12-01\n    state: next", `retired is set, and state is "next"`},
		{"certificate of an AES key", "    state: next", "    certificate: vault.pem\n    state: next", `a key of algorithm "AES-256" has none`},
		{"certificate at an absolute path", "    id: 6f1c", "    certificate: /etc/tav.pem\n    id: 6f1c", `certificate is "/etc/tav.pem"; it must be relative`},
		{"certificate in a list", "    id: 6f1c", "    certificate: [tav.pem]\n    id: 6f1c", ""},
		{"pin of another scheme", "hsm-a: spki-sha256", "hsm-a: hmac-sha256", `pins.hsm-a: a pin of RSA-2048 begins with "spki-sha256:"`},
		{"pin without a scheme", "hsm-a: spki-sha256:", "hsm-a: ", "pins.hsm-a: a pin of RSA-2048 begins with"},
		{"check value for a pin", "aes-gcm:AAAA", "kcv:AAAA", `pins.hsm-a: a pin of AES-256 begins with "aes-gcm:"`},
		{"SPKI pin too short", "hsm-b: spki-sha256:11", "hsm-b: spki-sha256:", "pins.hsm-b: the value has 31 bytes instead of 32"},
		{"SPKI pin too long", "hsm-b: spki-sha256:11", "hsm-b: spki-sha256:1111", "pins.hsm-b: the value has 33 bytes instead of 32"},
		{"SPKI pin is no hex", "hsm-b: spki-sha256:11", "hsm-b: spki-sha256:zz", "pins.hsm-b: the value is not hex"},
		{"AES pin is no Base64", "aes-gcm:AAAA", "aes-gcm:A!AA", "pins.hsm-a: the value is not Base64"},
		{"AES pin too short", "aes-gcm:AAAA", "aes-gcm:", "pins.hsm-a: the value has 40 bytes instead of 43"},
		{"HMAC pin too short", "hmac-sha256:22", "hmac-sha256:", "pins.hsm-a: the value has 31 bytes instead of 32"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(goodRing, tc.old) {
				t.Fatalf("the good keyring has no %q", tc.old)
			}
			r, err := ParseKeyring([]byte(strings.Replace(goodRing, tc.old, tc.new, 1)))
			if err == nil {
				t.Fatalf("accepted as %+v", r)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %q, want it to contain %q", err, tc.want)
			}
		})
	}
}

func TestAllFaultsOfAKeyringAreSaidAtOnce(t *testing.T) {
	_, err := ParseKeyring([]byte("environment: prod\nkeys:\n  - name: A\n  - name: b\n    id: x\n"))
	for _, want := range []string{"environment is", "keys[0] (A): name must be", "keys[0] (A): unknown purpose", "keys[1] (b): id must be", "keys[1] (b): created is"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestKeyringWithoutKeysIsOneAndAnEmptyFileIsNot(t *testing.T) {
	for _, text := range []string{"environment: test\n", "environment: test\nkeys: []\n", "environment: test\nkeys:\n", "---\nenvironment: test\n"} {
		if r, err := ParseKeyring([]byte(text)); err != nil || len(r.Keys) != 0 {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n", "[]\n", "production\n", "environment: [test]\n"} {
		if r, err := ParseKeyring([]byte(text)); err == nil {
			t.Errorf("%q is taken as %+v", text, r)
		}
	}
}

func TestSecondDocumentIsRefusedHoweverItIsWritten(t *testing.T) {
	for _, tail := range []string{
		"---\nenvironment: test\n", "---\n- 1\n", "---\ntext\n", "...\n---\nenvironment: test\n", "--- {}\n", "---\nbroken: [\n",
	} {
		if r, err := ParseKeyring([]byte("environment: test\n" + tail)); err == nil {
			t.Errorf("%q is taken as %+v", tail, r)
		}
	}
}

func TestSavedKeyringLoadsEqual(t *testing.T) {
	first, err := ParseKeyring([]byte(goodRing))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keyring.yaml")
	if err := os.WriteFile(file, []byte("what stood there before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(file); err != nil {
		t.Fatal(err)
	}
	again, err := LoadKeyring(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, first) {
		t.Errorf("loaded %+v\nsaved  %+v", again, first)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); again.Digest() != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s is not the file's", again.Digest())
	}
	requireAlone(t, file)
}

// Save replaces the file whole or leaves it as it was.
func TestSaveThatFailsChangesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keyring.yaml")
	if err := os.WriteFile(file, []byte(goodRing), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := LoadKeyring(file)
	if err != nil {
		t.Fatal(err)
	}
	before := r.Digest()
	faulty := *r
	faulty.Keys = append(slices.Clone(r.Keys), r.Keys[0])
	if err := faulty.Save(file); err == nil || !strings.Contains(err.Error(), "the name is used twice") {
		t.Errorf("a faulty keyring was saved: %v", err)
	}
	occupied := filepath.Join(dir, "occupied") // a directory that is not empty cannot be replaced
	if err := os.MkdirAll(filepath.Join(occupied, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(occupied); err == nil {
		t.Error("saved over a directory")
	}
	if err := r.Save(filepath.Join(dir, "missing", "keyring.yaml")); err == nil {
		t.Error("saved into a directory that is not there")
	}
	if r.Digest() != before || faulty.Digest() != before {
		t.Error("a save that failed changed the digest")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != goodRing {
		t.Errorf("the file is %q, %v", b, err)
	}
	if err := os.RemoveAll(occupied); err != nil {
		t.Fatal(err)
	}
	requireAlone(t, file)
}

// requireAlone requires that nothing unfinished lies beside the file.
func requireAlone(t *testing.T, file string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v", entries, err)
	}
}

func TestKeyringFileThatCannotBeOneIsRefused(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, []byte("environment: test\n#"+strings.Repeat("x", maxKeyring)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{large, dir, filepath.Join(dir, "missing.yaml")} {
		if _, err := LoadKeyring(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error is %v", file, err)
		}
	}
}

// A process with some of the roles has the keys of these, and knows the others well
// enough to leave them alone: they are not unlisted, not proved, not tried, not used.
func TestViewHasTheKeysOfItsPurposesOnly(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	proximity := stockEC(t, on, "proximity", ProximityToken)
	foreign := stockEC(t, on, "foreign", APITLS)
	change(t, on, func(u *unit) { // what would be wrong with these is not looked for
		remove(t, u, vault, secretKey)
		importSecret(t, u, vault, fill(9))
		remove(t, u, proximity, private)
	})
	calls := shim(t, on)
	ring := ringOf(vault, proximity, tav, index)
	var log bytes.Buffer
	tok := open(t, on, ring.Only(TAVSigning, CardIndex), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })

	for i, want := range []KeyProblem{KeyNotBound, KeyNotBound, "", ""} {
		if got := tok.Keys()[i]; got.Problem != want {
			t.Errorf("%s is reported as %q, want %q", got.Name, got.Problem, want)
		}
	}
	if u := tok.Unlisted(); len(u) != 1 || u[0].ID != foreign.ID {
		t.Errorf("unlisted are %+v, want %s only", u, foreign.Name)
	}
	if n := calls("C_Decrypt"); n != 0 {
		t.Errorf("the AES key was asked for %d proofs", n)
	}
	if strings.Contains(log.String(), "key unusable") {
		t.Errorf("somebody else's key is said to be unusable:\n%s", log.String())
	}
	for _, k := range []Key{tav, index} {
		if err := use(tok, k); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
	ctx := context.Background()
	for _, k := range []Key{vault, proximity} {
		for what, err := range map[string]error{
			"Key":        second(tok.Key(k.Name)),
			"Public":     second(tok.Public(k.Name)),
			"Signer":     second(tok.Signer(ctx, k.Name)),
			"Sign":       kinds["signing"](tok, k.Name),
			"SelfTest":   tok.SelfTest(ctx, k.Name),
			"EncryptGCM": kinds["encryption"](tok, k.Name),
			"DecryptGCM": second(tok.DecryptGCM(ctx, k.Name, make([]byte, gcmIV), nil, make([]byte, 32))),
			"HMAC":       kinds["HMAC"](tok, k.Name),
		} {
			t.Run(what+" of "+k.Name, func(t *testing.T) { requireKeyError(t, err, k.Name, KeyNotBound) })
		}
		_, err := tok.Active(k.Purpose)
		requireKeyError(t, err, string(k.Purpose), KeyNotBound)
	}
	_, err := tok.Active(APITLS)
	requireKeyError(t, err, string(APITLS), KeyNotBound)
	shut(t, tok)
	if got := tok.Keys()[0].Problem; got != KeyNotBound {
		t.Errorf("closed, it reports %q", got)
	}
}

// A token whose signing keys are all somebody else's is opened without a signature.
func TestKeysOfOtherRolesAreNotSelfTested(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, _ := stock(t, on)
	proximity := stockEC(t, on, "proximity", ProximityToken)
	calls := shim(t, on)
	tok := open(t, on, ringOf(tav, vault, proximity).Only(CardVault))
	if n := calls("C_Sign"); n != 0 {
		t.Errorf("%d signatures were made", n)
	}
	if err := use(tok, vault); err != nil {
		t.Error(err)
	}
}

func TestViewTakesAwayAndNeverGives(t *testing.T) {
	ring, err := ParseKeyring([]byte(goodRing))
	if err != nil {
		t.Fatal(err)
	}
	whole := *ring
	view := ring.Only(TAVSigning, CardVault)
	if view.Digest() != ring.Digest() || view.Environment != ring.Environment || !reflect.DeepEqual(view.Keys, ring.Keys) {
		t.Errorf("the view is %+v", view)
	}
	for name, narrow := range map[string]*Keyring{
		"a view of the view": view.Only(TAVSigning, CardIndex),
		"nothing, and more":  ring.Only().Only(TAVSigning, CardIndex),
	} {
		_, err := narrow.Active(CardIndex)
		requireKeyError(t, err, "card-index", KeyNotBound)
		if k, ok := narrow.Find("index_1"); !ok || k.Purpose != CardIndex {
			t.Errorf("%s does not know the key: %+v", name, k)
		}
	}
	if k, err := view.Active(TAVSigning); err != nil || k.Name != "tav-2026" {
		t.Errorf("active is %+v, %v", k, err)
	}
	if !reflect.DeepEqual(*ring, whole) {
		t.Error("a view has changed the keyring")
	}
	view.Keys[0].State = Retired
	if k, err := ring.Active(TAVSigning); err != nil {
		t.Errorf("what is done to a view shows in the keyring: %+v, %v", k, err)
	}
}

// Each pass type has a certificate, and so a key, of its own; each activation scheme too.
func TestOnlyKeysThatAreNamedMayBeSeveral(t *testing.T) {
	for _, p := range Purposes() {
		a := p.DefaultAlgorithm()
		text := "environment: test\nkeys:\n"
		for _, name := range []string{"aa", "bb"} {
			text += fmt.Sprintf("  - {name: %s, purpose: %s, algorithm: %s, id: %s, provenance: generated, state: active, created: 2026-11-22}\n", name, p, a, name)
		}
		_, err := ParseKeyring([]byte(text))
		if (err == nil) != (p == Pass || p == NetworkOTP) {
			t.Errorf("two active keys for %s: %v", p, err)
		}
	}
}
