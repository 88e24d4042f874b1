package hsm

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

// retiring is a token with one key, a keyring in which it is active, and one in which it is
// retired.
func retiring(t *testing.T) (on *softhsm.Token, before, after *Keyring) {
	t.Helper()
	on = softhsm.New(t)
	key := stockEC(t, on, "k", ProximityToken)
	before = ringOf(key)
	key.State = Retired
	return on, before, ringOf(key)
}

// refuses requires that the key of retiring makes nothing.
func refuses(t *testing.T, m Member) {
	t.Helper()
	requireKeyError(t, second(m.Sign(context.Background(), "k", sha("x"), crypto.SHA256)), "k", KeyRetired)
}

// Of keyrings that are taken up at the same time one is in use in the end, and the member has
// lost nothing by it.
func TestKeyringsTakenUpAtOnceEndInOne(t *testing.T) {
	on, before, after := retiring(t)
	wherever(t, on, before, func(t *testing.T, m Member) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		since := m.Status().Since
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				ring := before
				if i%2 == 0 {
					ring = after
				}
				if err := m.Use(ctx, ring.Clone()); err != nil && !errors.Is(err, errSuperseded) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := m.Use(ctx, after); err != nil {
			t.Error(err)
		}
		refuses(t, m)
		if m.keyring() != after {
			t.Error("it works by another keyring than it was given last")
		}
		if s := m.Status(); s.Since != since {
			t.Errorf("the member has not been ready all the time: %v", s)
		}
	})
}

// A child that is told of two keyrings in the wrong order works by the later one.
func TestOlderKeyringIsNotTakenUpAgain(t *testing.T) {
	needsLinux(t, ProcessIsolation)
	on, before, after := retiring(t)
	wherever(t, on, before, func(t *testing.T, m Member) {
		child, ok := m.(*isolated)
		if !ok {
			t.Skip("one process, and nothing to overtake")
		}
		first, then, p := child.want(before), child.want(after), child.current.Load()
		tell := func(s ringSettings) error {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = p.exchange(context.Background(), request{op: opUse, fields: [][]byte{b}}, func() {})
			return err
		}
		if err := tell(then); err != nil {
			t.Error(err)
		}
		if err := tell(first); !errors.Is(err, errSuperseded) {
			t.Errorf("the older one: %v", err)
		}
		refuses(t, m)
		if child.current.Load() != p {
			t.Error("it cost the process")
		}
	})
}

// A keyring that could not be taken up in time is in use before the member works again.
func TestKeyringThatIsLateIsTakenUpAllTheSame(t *testing.T) {
	on, before, after := retiring(t)
	wherever(t, on, before, func(t *testing.T, m Member) {
		release := func() {}
		switch m := m.(type) {
		case *Token:
			m.mod.machine.op <- struct{}{} // somebody connects
			release = func() { <-m.mod.machine.op }
		case *isolated:
			if err := m.current.Load().cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := m.Use(ctx, after); err == nil {
			t.Error("it was taken up by whom nobody could ask")
		}
		if m.Ready() == nil && m.keyring() == before { // a child may have been replaced by now
			t.Error("it goes on by the keyring before")
		}
		release()
		until(func() bool { return m.Ready() == nil })
		refuses(t, m)
	})
}

// A member that hangs does not keep the keyring from the others.
func TestMemberThatHangsKeepsTheKeyringFromNobodyElse(t *testing.T) {
	needsLinux(t, ProcessIsolation)
	on, before, after := retiring(t)
	for _, ring := range []*Keyring{before, after} {
		ring.Keys[0] = pinnedOn(ring.Keys[0])
	}
	var configs []Config
	for _, name := range []string{"a", "b"} {
		cfg := configFor(on, before)
		cfg.Name, cfg.Isolation, cfg.DataDir = name, ProcessIsolation, t.TempDir()
		configs = append(configs, cfg)
	}
	h, err := Start(context.Background(), Failover, configs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	a, b := h.Members()[0].(*isolated), h.Members()[1].(*isolated)
	until(func() bool { return a.Ready() == nil && b.Ready() == nil })
	process := b.current.Load()
	if err := a.current.Load().cmd.Process.Signal(os.Signal(syscall.SIGSTOP)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	used := make(chan error, 1)
	go func() { used <- h.Use(ctx, after) }()
	answered := func() bool {
		process.mu.Lock()
		defer process.mu.Unlock()
		return len(process.waiting) == 0
	}
	until(func() bool { return b.keyring() == after && answered() || ctx.Err() != nil })
	if ctx.Err() != nil {
		t.Error("b waits for a")
	}
	cancel()
	if err := <-used; err == nil {
		t.Error("a has taken it up while it was stopped")
	}
	refuses(t, b)
	if b.current.Load() != process {
		t.Error("b has paid for it")
	}
	until(func() bool { return a.Ready() == nil })
	refuses(t, a)
}

// The public key that is remembered under a name is not given for another key of the name.
func TestRememberedPublicKeyIsThePinnedOne(t *testing.T) {
	on, before, _ := retiring(t)
	before.Keys[0] = pinnedOn(before.Keys[0])
	h := start(t, before, map[string]*softhsm.Token{"a": on})
	if _, err := h.Public("k"); err != nil {
		t.Fatal(err)
	}
	other := entry("k", ProximityToken)
	other.ID = "ff"
	pin, err := spkiPin(freshEC(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	other.Pins = map[string]Pin{"a": pin}
	for name, ring := range map[string]*Keyring{"taken out": ringOf(), "another key, not there yet": ringOf(other)} {
		if err := h.Use(context.Background(), ring); err != nil {
			t.Fatal(err)
		}
		if pub, err := h.Public("k"); err == nil {
			t.Errorf("%s: the public key is %v", name, pub)
		}
	}
}
