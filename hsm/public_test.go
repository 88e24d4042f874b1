package hsm

import (
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

// start starts an HSM of members that share a keyring, and closes it when the test ends.
func start(t *testing.T, ring *Keyring, members map[string]*softhsm.Token) *HSM {
	t.Helper()
	var configs []Config
	for _, name := range []string{"a", "b"} {
		if on := members[name]; on != nil {
			cfg := configFor(on, ring)
			cfg.Name = name
			configs = append(configs, cfg)
		}
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
	for _, m := range h.Members() {
		until(func() bool { return m.Ready() == nil })
	}
	return h
}

// pinnedOn pins a key that stands on the tests' one token on members a and b.
func pinnedOn(k Key) Key {
	k.Pins = map[string]Pin{"a": k.Pins[member], "b": k.Pins[member]}
	return k
}

// until waits for something that comes by itself.
func until(is func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		<-tick.C
	}
}

// down waits until the member knows nothing of its keys any more.
func down(m Member) {
	until(func() bool {
		_, err := m.Key("any")
		var gone *DownError
		return m.Ready() != nil && errors.As(err, &gone)
	})
}

// What has been proved is published whether a token is there or not: active, next and
// retired keys, also those that nobody asked for while it was. Nothing else is.
func TestPublicKeysOutliveTheToken(t *testing.T) {
	on := softhsm.New(t)
	tav, vault, _ := stock(t, on)
	next, retired := stockEC(t, on, "next", ProximityToken), stockEC(t, on, "retired", ProximityToken)
	next.State, retired.State = Next, Retired
	missing := entry("missing", APITLS)
	missing.Pins = map[string]Pin{member: tav.Pins[member]}
	shim(t, on)
	keys := []Key{tav, next, retired, vault, missing}
	for i := range keys {
		keys[i].Pins = map[string]Pin{"a": keys[i].Pins[member]}
	}
	h := start(t, ringOf(keys...), map[string]*softhsm.Token{"a": on})
	_, err := h.Public(missing.Name)
	requireKeyError(t, err, missing.Name, KeyMissing)

	published := func() {
		t.Helper()
		var asking sync.WaitGroup
		for range 8 {
			for _, k := range keys[:3] {
				asking.Go(func() {
					pub, err := h.Public(k.Name)
					if err != nil || pinOf(t, pub) != k.Pins["a"] {
						t.Errorf("public key of %s is %v, %v", k.Name, pub, err)
					}
				})
			}
		}
		asking.Wait()
		if pub, err := h.Public(vault.Name); err == nil {
			t.Errorf("a secret key has the public key %v", pub)
		}
	}

	end := misbehave(t, on, "lost")
	sign := func() error { return second(h.Sign(context.Background(), tav.Name, sha("message"), crypto.SHA256)) }
	var gone *DownError
	if err := sign(); !errors.As(err, &gone) {
		t.Fatalf("signed on a lost token: %v", err)
	}
	published() // while it is drained and opened again
	down(h.Members()[0])
	published()
	if err := sign(); !errors.As(err, &gone) {
		t.Errorf("signed on a lost token: %v", err)
	}
	for _, name := range []string{missing.Name, "nobody"} {
		if pub, err := h.Public(name); !errors.As(err, &gone) {
			t.Errorf("%s, which was never proved: %v, %v", name, pub, err)
		}
	}
	if _, err := h.Members()[0].Public(tav.Name); !errors.As(err, &gone) {
		t.Errorf("the member itself: %v", err)
	}

	end()
	until(func() bool { return h.Ready() == nil })
	published()
	if err := sign(); err != nil {
		t.Error(err)
	}
}

// A member that is ready and lacks the key is believed, whatever another one once had.
func TestKeyThatIsMissingOnAReadyMemberIsMissing(t *testing.T) {
	a := softhsm.New(t)
	b, err := a.Add("second")
	if err != nil {
		t.Fatal(err)
	}
	b.PINFile = filepath.Join(t.TempDir(), "pin") // one of its own
	if err := os.WriteFile(b.PINFile, []byte(b.PIN()), 0o600); err != nil {
		t.Fatal(err)
	}
	var tav Key
	for _, on := range []*softhsm.Token{a, b} {
		change(t, on, func(u *unit) { tav = importRSA(t, u, entry("tav", TAVSigning), hostRSA(t, 0)) })
	}
	h := start(t, ringOf(pinnedOn(tav)), map[string]*softhsm.Token{"a": a, "b": b})
	ma, mb := h.Members()[0].(*Token), h.Members()[1]
	operate(t, ma, func(u *unit) { remove(t, u, tav, private, public) })
	leave := func(on *softhsm.Token) { // its PIN file is one that is not read
		if err := os.Chmod(on.PINFile, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	renewed := errors.New("to be opened anew")

	leave(b)
	ma.Restart(renewed)
	until(func() bool { return ma.Ready() == nil })
	if mb.Ready() == nil {
		t.Fatal("b is ready")
	}
	published := func(when string) {
		t.Helper()
		if pub, err := h.Public(tav.Name); err != nil || !hostRSA(t, 0).PublicKey.Equal(pub) {
			t.Errorf("%s: %v, %v", when, pub, err)
		}
	}
	published("with a ready and without the key")

	leave(a)
	release := occupy(t, ma, ma.tls) // which keeps it draining
	ma.Restart(renewed)
	published("with a in trouble")
	release()
	down(ma)
	published("with nobody there")
}
