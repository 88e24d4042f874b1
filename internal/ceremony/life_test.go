package ceremony_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/ceremony"
)

// unproved is a token whose new keys do not work.
type unproved struct {
	*hsm.Token
	fails bool
}

func (u *unproved) SelfTest(ctx context.Context, name string) error {
	if u.fails {
		return errors.New("the key does not work")
	}
	return u.Token.SelfTest(ctx, name)
}

// A key is destroyed only when what takes its place has been proved; its public half is kept
// for what it signed.
func TestKeyIsDestroyedLastAndItsPublicHalfIsKept(t *testing.T) {
	ctx := context.Background()
	token := hsmtest.New(t, func([]hsm.NewKey) []hsm.NewKey {
		return []hsm.NewKey{{Name: "report", Purpose: hsm.AuditReport}, {Name: "old", Purpose: hsm.AuditCheckpoint}}
	})
	token.Reopen(t, func(ring *hsm.Keyring) {
		ring.Keys[1].State, ring.Keys[1].Retired = hsm.Retired, ring.Keys[1].Created
	})
	ring := &hsm.Keyring{Environment: "test"}
	for _, k := range token.Keys() {
		ring.Keys = append(ring.Keys, k.Key)
	}
	ring.Keys[1].Pins["other"] = "spki-sha256:" + hsm.Pin(strings.Repeat("ab", 32)) // a copy on another member
	old := ring.Clone().Keys[1]
	at := ceremony.Place{Token: &unproved{token.Token, true}, Ring: ring, Now: time.Now, Say: t.Logf}
	run := func(name string) (ceremony.Done, error) {
		p := plan(t, fmt.Sprintf("generate: [{name: %s, purpose: audit-checkpoint, state: active}]\ndestroy: [{key: old, pin: %q}]", name, old.Pins[hsmtest.Member]))
		if err := errors.Join(p.Check(ring, time.Now()), p.Rehearse(ctx, at)); err != nil {
			t.Fatal(err)
		}
		return p.Run(ctx, at)
	}
	done, err := run("log-1")
	if _, listed := done.Ring.Find("old"); err == nil || !listed {
		t.Errorf("a new key that does not work: %v", err)
	}
	if same, err := token.Answers(ctx, old, old.Pins[hsmtest.Member]); err != nil || !same {
		t.Errorf("the old key is gone with it: %v", err)
	}
	at.Token = &unproved{token.Token, false}
	if done, err = run("log-2"); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Answers(ctx, old, old.Pins[hsmtest.Member]); err == nil {
		t.Error("the old key is there")
	}
	left, _ := done.Ring.Find("old")
	if diff := cmp.Diff(map[string]hsm.Pin{"other": old.Pins["other"]}, left.Pins); diff != "" {
		t.Errorf("where the other member has it: %s", diff)
	}
	if err := errors.Join(done.Ring.Destroyed("old", "other"), done.Ring.Destroyed("report", "other")); !errors.Is(err, hsm.ErrNotRetired) {
		t.Error(err)
	}
	if _, listed := done.Ring.Find("old"); listed {
		t.Error("it is listed when no member has it")
	}
	if block, _ := pem.Decode(done.Files["old.pem"]); block == nil || block.Type != "PUBLIC KEY" || fmt.Sprintf("spki-sha256:%x", sha256.Sum256(block.Bytes)) != string(old.Pins[hsmtest.Member]) {
		t.Errorf("its public half is %s", done.Files["old.pem"])
	}
}

// sshSignature signs as ssh-keygen -Y sign does.
func sshSignature(t *testing.T, key ed25519.PrivateKey, text string) []byte {
	t.Helper()
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte(text))
	type over struct {
		Namespace, Reserved, Hash string
		Digest                    []byte
	}
	inner, err := s.Sign(nil, append([]byte("SSHSIG"), ssh.Marshal(over{ceremony.Namespace, "", "sha512", sum[:]})...))
	if err != nil {
		t.Fatal(err)
	}
	type envelope struct {
		Version                   uint32
		Key                       []byte
		Namespace, Reserved, Hash string
		Signature                 []byte
	}
	blob := ssh.Marshal(envelope{1, s.PublicKey().Marshal(), ceremony.Namespace, "", "sha512", ssh.Marshal(inner)})
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: append([]byte("SSHSIG"), blob...)})
}

// What a transcript says beside its plan is what the plan says.
func TestTranscriptIsHeldAgainstItsPlan(t *testing.T) {
	text := head + "people:\n"
	var keys []ed25519.PrivateKey
	for _, name := range []string{"Ada Lovelace", "Grace Hopper"} {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(name, 3)[:ed25519.SeedSize]))
		pub, err := ssh.NewPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
		text += fmt.Sprintf("  - {name: %s, ssh: %s}\n", name, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))))
	}
	text += "states: [{key: log, state: retired}]\n"
	p, err := ceremony.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	people, err := p.Verify([][]byte{sshSignature(t, keys[1], text), sshSignature(t, keys[0], text)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ceremony.Transcript){
		"":                   func(*ceremony.Transcript) {},
		"another person":     func(t *ceremony.Transcript) { t.People[0].Person = "Eve" },
		"another key":        func(t *ceremony.Transcript) { t.People[1].Key = "ssh SHA256:other" },
		"one person too few": func(t *ceremony.Transcript) { t.People = t.People[:1] },
		"another member":     func(t *ceremony.Transcript) { t.Member = "hsm-b" },
		"another ceremony":   func(t *ceremony.Transcript) { t.Ceremony = "other" },
		"another keyring":    func(t *ceremony.Transcript) { t.After += "# more\n" },
		"another plan":       func(t *ceremony.Transcript) { t.Plan += "# more\n" },
	} {
		account, err := p.Account(append([]ceremony.Signed{}, people...), ringWith(), ceremony.Done{Ring: ringWith()})
		if err != nil {
			t.Fatal(err)
		}
		change(&account)
		written, err := account.Text()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ceremony.ParseTranscript(written); (err == nil) != (name == "") || err != nil && !errors.Is(err, ceremony.ErrTranscript) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
