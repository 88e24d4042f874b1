package hsm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

func TestKeyMovesOnInItsLifeAndNotBack(t *testing.T) {
	with := func(name string, p Purpose, s State) Key {
		k := entry(name, p)
		k.State = s
		return k
	}
	for _, tc := range []struct {
		name  string
		to    State
		after string // name and state of every key; empty if it is refused
	}{
		{"next", Active, "old retired, next active, pass active, pass-2 next, gone retired"},
		{"pass-2", Active, "old active, next next, pass active, pass-2 active, gone retired"},
		{"old", Retired, "old retired, next next, pass active, pass-2 next, gone retired"},
		{"next", Retired, "old active, next retired, pass active, pass-2 next, gone retired"},
		{"old", Active, ""}, {"old", Next, ""}, {"gone", Active, ""}, {"gone", Retired, ""}, {"nobody", Active, ""},
	} {
		ring := ringOf(with("old", CardVault, Active), with("next", CardVault, Next), with("pass", Pass, Active), with("pass-2", Pass, Next), with("gone", CardVault, Retired))
		ring.Keys[4].Retired = "2026-11-22"
		before := ring.Clone()
		err := ring.SetState(tc.name, tc.to, "2026-11-23")
		var all []string
		for _, k := range ring.Keys {
			all = append(all, k.Name+" "+string(k.State))
			if was, _ := before.Find(k.Name); k.State == Retired && was.State != Retired && k.Retired != "2026-11-23" {
				t.Errorf("%s is retired on %q", k.Name, k.Retired)
			}
		}
		if (err == nil) != (tc.after != "") || err == nil && strings.Join(all, ", ") != tc.after {
			t.Errorf("%s to %s: %v, %v", tc.name, tc.to, all, err)
		}
		if err == nil && errors.Join(ring.Check(), ring.Follows(before)) != nil {
			t.Errorf("%s to %s: %v", tc.name, tc.to, errors.Join(ring.Check(), ring.Follows(before)))
		}
	}
}

// A key is destroyed when it is retired and is the pinned one: both halves, and no other's.
func TestOnlyARetiredKeyIsDestroyed(t *testing.T) {
	on := softhsm.New(t)
	var old, active, other Key
	change(t, on, func(u *unit) {
		old = importEC(t, u, entry("old", ProximityToken), freshEC(t))
		active = importEC(t, u, entry("active", ProximityToken), freshEC(t))
		other = importSecret(t, u, entry("other", CardVault), make([]byte, 32))
	})
	old.State, other.State = Retired, Retired
	other.ID, active.ID = active.ID, other.ID // each entry is about the other's object
	other.Name, active.Name = "swapped", "front"
	tok := open(t, on, ringOf(old, other))
	if err := tok.Destroy(context.Background(), "swapped"); err == nil {
		t.Error("a key that is not the pinned one was destroyed")
	}
	keep := old
	keep.State = Active
	if err := errors.Join(tok.Use(context.Background(), ringOf(keep, other)), tok.Destroy(context.Background(), "old")); !errors.Is(err, ErrNotRetired) {
		t.Errorf("an active key: %v", err)
	}
	if err := errors.Join(tok.Use(context.Background(), ringOf(old, other)), tok.Destroy(context.Background(), "old")); err != nil {
		t.Fatal(err)
	}
	inv, err := tok.Inventory(context.Background())
	if err != nil || len(inv.Keys[0].Objects) != 0 || len(inv.Keys[1].Objects) != 2 || len(inv.Unlisted) != 1 {
		t.Errorf("left on the token: %+v, %v", inv, err)
	}
	old.State = Active
	if err := tok.Use(context.Background(), ringOf(old)); err != nil {
		t.Fatal(err)
	}
	if err := tok.Destroy(context.Background(), "old"); err == nil {
		t.Error("destroyed twice")
	}
	again := open(t, on, ringOf(old))
	if err := again.Destroy(context.Background(), "old"); err == nil || errors.Is(err, ErrNotRetired) {
		t.Errorf("a missing key: %v", err)
	}
}

func TestCertificateThatIsOverIsNotTaken(t *testing.T) {
	key := freshEC(t)
	k := entry("front", APITLS)
	k.Pins[member] = pinOf(t, key.Public())
	leaf := issue(t, "front", nil, key.Public(), key)
	if err := k.CheckCertificate(leaf, time.Now()); err != nil {
		t.Error(err)
	}
	if err := k.CheckCertificate(leaf, leaf.NotAfter.Add(time.Second)); err == nil || !strings.Contains(err.Error(), "it ended on") {
		t.Errorf("after its end: %v", err)
	}
	if err := k.CheckCertificate(issue(t, "front", nil, freshEC(t).Public(), key), time.Now()); err == nil {
		t.Error("another key's certificate was taken")
	}
}
