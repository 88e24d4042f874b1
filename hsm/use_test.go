package hsm

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

// A keyring is taken up under load: who names a key that stays, or leaves in the handover,
// meets no error; when the keyring itself is in use, the retired key makes nothing more, and
// still opens.
func TestKeyringIsTakenUpUnderLoad(t *testing.T) {
	on := softhsm.New(t)
	var old, next, vault, index Key
	change(t, on, func(u *unit) {
		old = importEC(t, u, entry("old", ProximityToken), freshEC(t))
		next = importEC(t, u, entry("next", ProximityToken), freshEC(t))
		vault = importSecret(t, u, entry("vault", CardVault), make([]byte, 32))
		index = importSecret(t, u, entry("index", CardIndex), make([]byte, 32))
	})
	next.State = Next
	before := ringOf(old, next, vault, index)
	wherever(t, on, before, func(t *testing.T, tok Member) { takesUpUnderLoad(t, tok, before) })
}

func takesUpUnderLoad(t *testing.T, tok Member, before *Keyring) {
	old, next, vault, index := before.Keys[0], before.Keys[1], before.Keys[2], before.Keys[3]
	iv := []byte("unique nonce")
	sealed, err := tok.EncryptGCM(context.Background(), "vault", iv, nil, []byte("card"))
	if err != nil {
		t.Fatal(err)
	}

	old.State, next.State, vault.State = Retired, Active, Retired
	after := ringOf(old, next, vault, index)
	if err := after.Follows(before); err != nil {
		t.Fatal(err)
	}
	handover := after.Handover(before)
	stop := make(chan struct{})
	var working, begun sync.WaitGroup
	for range 4 {
		begun.Add(1)
		working.Go(func() {
			for first := true; ; first = false {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := tok.Sign(context.Background(), "old", sha("x"), crypto.SHA256); err != nil {
					t.Errorf("the key that leaves: %v", err)
				}
				if _, err := tok.HMAC(context.Background(), "index", []byte("x")); err != nil {
					t.Errorf("the key that stays: %v", err)
				}
				if first {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	if err := tok.Use(context.Background(), handover); err != nil {
		t.Fatal(err)
	}
	if k, err := tok.Active(ProximityToken); err != nil || k.Name != "next" {
		t.Errorf("in the handover the active key is %s, %v", k.Name, err)
	}
	close(stop)
	working.Wait()
	if err := tok.Use(context.Background(), after); err != nil {
		t.Fatal(err)
	}
	_, err = tok.Sign(context.Background(), "old", sha("x"), crypto.SHA256)
	requireKeyError(t, err, "old", KeyRetired)
	_, err = tok.EncryptGCM(context.Background(), "vault", iv, nil, []byte("card"))
	requireKeyError(t, err, "vault", KeyRetired)
	requireSigns(t, tok, "next")
	if clear, err := tok.DecryptGCM(context.Background(), "vault", iv, nil, sealed); err != nil || string(clear) != "card" {
		t.Errorf("the retired key opens %q, %v", clear, err)
	}
	checkInventory(t, tok, after)
	tok.Restart(errors.New("as the test wants it"))
	until(func() bool { return tok.Ready() == nil })
	_, err = tok.Sign(context.Background(), "old", sha("x"), crypto.SHA256)
	requireKeyError(t, err, "old", KeyRetired)
}

// checkInventory reads a token after a keyring has been taken up.
func checkInventory(t *testing.T, tok Member, ring *Keyring) {
	t.Helper()
	inv, err := tok.Inventory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Keys) != len(ring.Keys) || len(inv.Unlisted) != 0 {
		t.Errorf("the inventory has %d keys, and %d that are not listed", len(inv.Keys), len(inv.Unlisted))
	}
	for i, k := range inv.Keys {
		if k.Name != ring.Keys[i].Name || k.State != ring.Keys[i].State || len(k.Objects) == 0 || k.Objects[0].Flags["TOKEN"] != true {
			t.Errorf("key %d of the inventory is %+v", i, k)
		}
		if k.Uses == 0 {
			t.Errorf("key %s has no uses", k.Name)
		}
	}
}

// Of several members each takes the keyring up; one that is away does when it is back.
func TestEveryMemberTakesTheKeyringUp(t *testing.T) {
	on := softhsm.New(t)
	var key Key
	change(t, on, func(u *unit) { key = importEC(t, u, entry("k", ProximityToken), freshEC(t)) })
	key.Pins["away"] = key.Pins[member]
	before := ringOf(key)
	cfg, away := configFor(on, before), configFor(on, before)
	away.Name, away.PINFile = "away", on.PINFile+".missing"
	h, err := Start(context.Background(), Failover, []Config{cfg, away})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	until(func() bool { return h.Ready() == nil })
	key.State = Retired
	after := ringOf(key)
	if err := h.Use(context.Background(), after); err != nil {
		t.Fatal(err)
	}
	if err := h.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, err = h.Sign(context.Background(), "k", sha("x"), crypto.SHA256)
	var unusable *KeyError
	if !errors.As(err, &unusable) || unusable.Problem != KeyRetired {
		t.Errorf("signed with %v", err)
	}
	if got := h.Listed(ProximityToken); len(got) != 1 || got[0].State != Retired {
		t.Errorf("listed %+v", got)
	}
	if got := h.members[1].keyring(); got != after {
		t.Error("the member that is away would begin with the keyring before")
	}
}

func TestKeyringFollowsAnotherOneStepAtATime(t *testing.T) {
	with := func(name string, p Purpose, s State) Key {
		k := entry(name, p)
		k.State = s
		return k
	}
	other := with("a", MerchantJWT, Active)
	other.ID = "ff"
	for _, tc := range []struct {
		name   string
		before []Key
		after  []Key
		wrong  string // empty when it may follow
	}{
		{"a key is made next", []Key{with("a", MerchantJWT, Active)}, []Key{with("a", MerchantJWT, Active), with("b", MerchantJWT, Next)}, ""},
		{"the next is taken into use", []Key{with("a", MerchantJWT, Active), with("b", MerchantJWT, Next)}, []Key{with("a", MerchantJWT, Retired), with("b", MerchantJWT, Active)}, ""},
		{"a retired one is taken out", []Key{with("a", MerchantJWT, Retired), with("b", MerchantJWT, Active)}, []Key{with("b", MerchantJWT, Active)}, ""},
		{"the next is given up", []Key{with("a", MerchantJWT, Active), with("b", MerchantJWT, Next)}, []Key{with("a", MerchantJWT, Active)}, ""},
		{"a vault key is taken into use at once", []Key{with("a", CardVault, Active)}, []Key{with("a", CardVault, Retired), with("b", CardVault, Active)}, ""},
		{"the first key of a purpose", nil, []Key{with("a", MerchantJWT, Active)}, ""},
		{"unpublished", []Key{with("a", MerchantJWT, Active)}, []Key{with("a", MerchantJWT, Retired), with("b", MerchantJWT, Active)}, "never next"},
		{"back from retirement", []Key{with("a", MerchantJWT, Retired)}, []Key{with("a", MerchantJWT, Active)}, "would be active again"},
		{"another card index", []Key{with("a", CardIndex, Active)}, []Key{with("a", CardIndex, Retired), with("b", CardIndex, Active)}, "stored anew"},
		{"back in line", []Key{with("a", CardVault, Active)}, []Key{with("a", CardVault, Next)}, "would be next again"},
		{"gone while active", []Key{with("a", CardVault, Active)}, nil, "no longer listed"},
		{"another key of the name", []Key{with("a", MerchantJWT, Active)}, []Key{other}, "another key than before"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := ringOf(tc.after...).Follows(ringOf(tc.before...))
			if (err == nil) != (tc.wrong == "") || (err != nil && !strings.Contains(err.Error(), tc.wrong)) {
				t.Errorf("says %v", err)
			}
		})
	}
}

// Wherever its module is, a member takes another keyring up, works by it after a restart too,
// and shows its token.
func TestMemberTakesAKeyringUpWherever(t *testing.T) {
	on, ring := full(t)
	wherever(t, on, ring, func(t *testing.T, m Member) {
		ctx := context.Background()
		next := ring.Clone()
		if err := errors.Join(next.SetState("tav", Retired, "2026-11-23"), next.SetState("coming", Active, "2026-11-23")); err != nil {
			t.Fatal(err)
		}
		if err := m.Use(ctx, next); err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			if _, err := m.Sign(ctx, "coming", sha("x"), crypto.SHA256); err != nil {
				t.Errorf("%s: the new key: %v", when, err)
			}
			_, err := m.Sign(ctx, "tav", sha("x"), crypto.SHA256)
			requireKeyError(t, err, "tav", KeyRetired)
			if k, err := m.Active(TAVSigning); err == nil {
				t.Errorf("%s: %s is active", when, k.Name)
			}
		}
		check("taken up")
		inv, err := m.Inventory(ctx)
		if err != nil || len(inv.Keys) != len(next.Keys) || inv.Token.Serial != on.Serial || m.Uses("coming") != 1 {
			t.Errorf("inventory is %+v, %v", inv, err)
		}
		for _, k := range inv.Keys {
			if want, _ := next.Find(k.Name); k.State != want.State || (k.Name != "missing") != (len(k.Objects) > 0) {
				t.Errorf("%s: %+v", k.Name, k)
			}
		}
		m.Restart(errors.New("asked for"))
		until(func() bool { return m.Ready() == nil })
		check("after a restart")
	})
}
