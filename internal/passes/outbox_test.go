package passes_test

import (
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
)

func (w *world) lease(n int) []passes.Push {
	w.Helper()
	now := w.clock.Now()
	got, err := w.store.LeasePushes(w.ctx, ecType, passes.Wallets{}, now, now.Add(time.Minute), n)
	if err != nil {
		w.Fatal(err)
	}
	return got
}

func (w *world) end(ends ...passes.PushEnd) {
	w.Helper()
	if err := w.store.EndPushes(w.ctx, ends); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pending() int { return w.count(`SELECT COUNT(*) FROM pass_pushes`) }

func TestManyChangesAreOnePendingPush(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p, q := w.put(pass(ecType, "1"), card(0)), w.put(pass(ecType, "2"), card(0))
	w.register(p, "device", "a")
	w.register(q, "device", "a") // one push token for two passes
	w.register(p, "another", "b")
	for i := range 5 {
		w.put(p.ID, card(i+1))
		w.put(q.ID, card(i+1))
	}
	if n := w.pending(); n != 2 {
		t.Errorf("%d pushes are pending for 2 push tokens", n)
	}
}

func TestEntryIsLeasedToOneAndComesBackWithTheLease(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	for _, d := range []string{"a", "b", "c"} {
		w.register(p, d, d)
	}
	w.put(p.ID, card(1))
	first, second := w.lease(2), w.lease(2)
	if len(first) != 2 || len(second) != 1 || len(w.lease(9)) != 0 {
		t.Fatalf("leased %d, then %d", len(first), len(second))
	}
	w.end(passes.PushEnd{Push: first[0]})
	w.clock.Add(time.Minute)
	again := w.lease(9)
	if len(again) != 2 {
		t.Fatalf("%d come back", len(again))
	}
	for _, late := range []passes.Push{first[1], second[0]} { // whose leases are over
		w.end(passes.PushEnd{Push: late}, passes.PushEnd{Push: late, RetryAt: start})
	}
	if n := w.pending(); n != 2 {
		t.Errorf("who was late ended an entry: %d are left", n)
	}
}

// The push that is under way may carry the device to the old version.
func TestChangeDuringAPushIsPushedAgain(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "device", "a")
	w.put(p.ID, card(1))
	leased := w.lease(1)
	w.put(p.ID, card(2))
	w.end(passes.PushEnd{Push: leased[0]})
	if again := w.lease(1); len(again) != 1 {
		t.Error("the change during the push is lost")
	}
}

func TestRetriedEntryWaitsAndCounts(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "device", "a")
	w.put(p.ID, card(1))
	w.end(passes.PushEnd{Push: w.lease(1)[0], RetryAt: start.Add(10 * time.Second)})
	w.clock.Add(9 * time.Second)
	if len(w.lease(1)) != 0 {
		t.Error("tried again too early")
	}
	w.clock.Add(time.Second)
	if again := w.lease(1); len(again) != 1 || again[0].Attempts != 1 {
		t.Errorf("then %+v", again)
	}
}

func TestUnregisteringDropsThePushUnlessAnotherPassNeedsIt(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p, q := w.put(pass(ecType, "1"), card(0)), w.put(pass(ecType, "2"), card(0))
	w.register(p, "device", "a")
	w.register(q, "device", "a")
	w.put(p.ID, card(1))
	if err := w.svc.Unregister(w.ctx, p.ID, "device", shows(p)); err != nil || w.pending() != 1 {
		t.Errorf("%d pending after the first, %v", w.pending(), err)
	}
	if err := w.svc.Unregister(w.ctx, q.ID, "device", shows(q)); err != nil || w.pending() != 0 {
		t.Errorf("%d pending after the second, %v", w.pending(), err)
	}
	if err := w.svc.Unregister(w.ctx, q.ID, "device", shows(q)); err != nil {
		t.Errorf("again: %v", err)
	}
}

// A device that came back after the push service gave it up is not forgotten.
func TestRegistrationRenewedAfterTheTimestampStays(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "gone", "a")
	w.clock.Add(time.Hour)
	w.register(p, "back", "a")
	w.put(p.ID, card(1))
	w.end(passes.PushEnd{Push: w.lease(1)[0], Forget: start.Add(time.Minute)})
	if len(w.updated(ecType, "gone", "").Serials) != 0 || len(w.updated(ecType, "back", "").Serials) != 1 || w.pending() != 0 {
		t.Error("the wrong registration was forgotten")
	}
}

func TestNothingIsPushedWherePushingIsDisabled(t *testing.T) {
	w := newWorld(t)
	w.settings.Push = false
	w.serve()
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "device", "a")
	w.put(p.ID, card(1))
	if w.pending() != 0 {
		t.Error("an entry that nobody takes")
	}
}

// What was not tried when the process stopped, or another entry was refused, is due at once
// and as it was.
func TestEntryThatWasNotTriedIsAsItWas(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "device", "a")
	w.put(p.ID, card(1))
	w.end(passes.PushEnd{Push: w.lease(1)[0], RetryAt: start, NotTried: true})
	if again := w.lease(1); len(again) != 1 || again[0].Attempts != 0 {
		t.Errorf("leased %+v", again)
	}
}
