package store_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit/webservice"
)

func TestPassIsReadWithItsTypeAndListedAfterRegistering(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		ctx := context.Background()
		id := passes.ID{TypeID: passes.TypeID{Tenant: "shop", Type: "pass.a"}, Serial: "1"}
		row := passes.PassRow{ID: id, Ref: 7, Document: []byte(`{}`), Token: "token"}
		mustAppend(t, s, passes.PassPut{Row: &row, Now: noon})
		got, _, err := s.PassOf(ctx, id)
		if err != nil || got.Ref != 7 || got.Version != 1 {
			t.Errorf("read %+v, %v", got, err)
		}
		if _, _, err := s.PassOf(ctx, passes.ID{TypeID: id.TypeID, Serial: "2"}); !errors.Is(err, passes.ErrUnknown) {
			t.Errorf("another serial: %v", err)
		}
		r := passes.Registration{Pass: got, PushToken: "push", Client: "apple", At: noon.Add(-time.Hour)}
		if created, err := s.Register(ctx, r); err != nil || !created {
			t.Errorf("created %v, %v", created, err)
		}
		for since, want := range map[int64]int{0: 1, got.Stamp: 1, got.Stamp + 1: 0, got.Stamp + 2: 1} {
			if all, err := s.ChangedSince(ctx, r.Device, id.TypeID, since); err != nil || len(all) != want {
				t.Errorf("since %d: %v, %v", since-got.Stamp, all, err)
			}
		}
	})
}

// shop is a pass type with two passes, 1 and 2, over a new database.
type shop struct {
	*opened
	t    testing.TB
	id   passes.TypeID
	pass map[string]*passes.PassRow
}

func newShop(t *testing.T, e engine) *shop {
	t.Helper()
	s, _ := e.openNew(t)
	w := &shop{opened: s, t: t, id: passes.TypeID{Tenant: "shop", Type: "pass.a"}, pass: map[string]*passes.PassRow{}}
	for ref, serial := range []string{"1", "2"} {
		w.pass[serial] = &passes.PassRow{ID: passes.ID{TypeID: w.id, Serial: serial}, Ref: int64(ref + 7), Document: []byte(`{}`), Token: "token-" + serial}
		mustAppend(t, s, passes.PassPut{Row: w.pass[serial], Now: noon})
	}
	return w
}

// register has a device have a pass, under a push token.
func (w *shop) register(device byte, serial, token, client string) bool {
	w.t.Helper()
	created, err := w.Register(w.t.Context(), passes.Registration{
		Device: passes.DeviceKey{device}, Pass: *w.pass[serial], PushToken: token, Client: webservice.ClientKind(client), At: noon,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return created
}

// change writes the next version of a pass, and tells its devices.
func (w *shop) change(serial string, at time.Time) {
	w.t.Helper()
	mustAppend(w.t, w.opened, passes.PassPut{Row: w.pass[serial], Push: true, Now: at})
}

// lease takes what is due at a time, for a minute.
func (w *shop) lease(at time.Time) map[string]passes.Push {
	w.t.Helper()
	all, err := w.LeasePushes(w.t.Context(), w.id, passes.Wallets{}, at, at.Add(time.Minute), 10)
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[string]passes.Push{}
	for _, p := range all {
		got[p.PushToken] = p
	}
	return got
}

// leased requires the push tokens that are due at a time.
func (w *shop) leased(at time.Time, want ...string) map[string]passes.Push {
	w.t.Helper()
	got := w.lease(at)
	same(w.t, want, slices.Sorted(maps.Keys(got)))
	return got
}

func (w *shop) end(ends ...passes.PushEnd) {
	w.t.Helper()
	if err := w.EndPushes(w.t.Context(), ends); err != nil {
		w.t.Fatal(err)
	}
}

// Versions rise by one, stamps and seconds rise always, and a condition that does not hold
// changes nothing; a type's revision counts for all its passes.
func TestVersionsOfPassesAndTypesRise(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		w := newShop(t, e)
		ctx := t.Context()
		first := *w.pass["1"]
		w.pass["1"].Document, w.pass["1"].Files, w.pass["1"].Voided = []byte(`{"a":1}`), passes.Files{"icon.png": "00"}, true
		w.change("1", noon) // in the same moment
		got, _, err := w.PassOf(ctx, first.ID)
		if err != nil || got.Version != 2 || got.Stamp <= first.Stamp || got.Modified <= first.Modified || got.Token != first.Token || !got.Voided || got.Files["icon.png"] != "00" {
			t.Errorf("changed to %+v, %v", got, err)
		}
		stale := got
		for _, when := range []passes.Condition{passes.Only(1), passes.Only()} {
			if err := appendTo(w.opened, passes.PassPut{Row: &stale, If: when, Now: noon}); !errors.Is(err, passes.ErrPrecondition) {
				t.Errorf("put under %v: %v", when, err)
			}
		}
		unknown := passes.PassRow{ID: passes.ID{TypeID: w.id, Serial: "3"}, Ref: 99, Document: []byte(`{}`), Token: "t"}
		if err := appendTo(w.opened, passes.PassPut{Row: &unknown, If: passes.Existing, Now: noon}); !errors.Is(err, passes.ErrPrecondition) {
			t.Errorf("a new one as an existing one: %v", err)
		}
		row := passes.TypeRow{TypeID: w.id, Template: []byte(`{"b":2}`), Files: passes.Files{"logo.png": "11"}, Certificate: "pem"}
		mustAppend(t, w.opened, passes.TypePut{Row: &row, Now: noon})
		if row.Revision != 1 || row.Stamp <= got.Stamp || row.Modified <= got.Modified {
			t.Errorf("the type is %+v, its pass %+v", row, got)
		}
		if err := appendTo(w.opened, passes.TypePut{Row: &passes.TypeRow{TypeID: w.id}, If: passes.Only(2), Now: noon}); !errors.Is(err, passes.ErrPrecondition) {
			t.Errorf("another revision: %v", err)
		}
		read, err := w.TypeOf(ctx, w.id)
		same(t, row, read)
		again, shared, errOf := w.PassOf(ctx, first.ID)
		same(t, row, shared)
		same(t, got, again)
		if err != nil || errOf != nil {
			t.Error(err, errOf)
		}
		if none, err := w.TypeOf(ctx, passes.TypeID{Tenant: "other", Type: "pass.a"}); err != nil || none.Revision != 0 {
			t.Errorf("another tenant's type: %+v, %v", none, err)
		}
	})
}

func TestFileIsItsTenantsAlone(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		w := newShop(t, e)
		for range 2 { // the second is not written again
			mustAppend(t, w.opened, passes.AssetPut{Tenant: "shop", SHA256: "aa", Content: []byte{0, 1, 0xff}, Now: noon})
		}
		if got, err := w.PassAsset(t.Context(), "shop", "aa"); err != nil || !bytes.Equal(got, []byte{0, 1, 0xff}) {
			t.Errorf("%x, %v", got, err)
		}
		for _, id := range [][2]string{{"other", "aa"}, {"shop", "bb"}} {
			if got, err := w.PassAsset(t.Context(), id[0], id[1]); !errors.Is(err, passes.ErrUnknown) {
				t.Errorf("%v: %x, %v", id, got, err)
			}
		}
	})
}

// What is kept is bounded by tenant and by pass; what is there already is no more of it.
func TestFilesAndRegistrationsAreBounded(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		w := newShop(t, e)
		put := func(tenant, sum string, limits passes.Limits) error {
			return appendTo(w.opened, passes.AssetPut{Tenant: tenant, SHA256: sum, Content: []byte("four"), Limits: limits, Now: noon})
		}
		beyond := func(what string, err error) {
			t.Helper()
			var quota *passes.QuotaError
			if !errors.As(err, &quota) || quota.Of != what {
				t.Errorf("%v, want too many %s", err, what)
			}
		}
		two, eight := passes.Limits{Files: 2}, passes.Limits{FileBytes: 8}
		for _, tenant := range []string{"shop", "rail"} {
			for _, sum := range []string{"a", "b", "a"} {
				if err := errors.Join(put(tenant, sum, two), put(tenant, sum, eight)); err != nil {
					t.Errorf("%s %s: %v", tenant, sum, err)
				}
			}
			beyond("files", put(tenant, "c", two))
			beyond("files", put(tenant, "c", eight))
		}
		register := func(device byte, serial string) error {
			_, err := w.Register(t.Context(), passes.Registration{Device: passes.DeviceKey{device}, Pass: *w.pass[serial], PushToken: "t", Client: "apple", At: noon, Limit: 2})
			return err
		}
		if err := errors.Join(register(1, "1"), register(2, "1"), register(1, "1"), register(3, "2")); err != nil {
			t.Error(err)
		}
		beyond("registrations", register(3, "1"))
	})
}

// One pending entry for a push token, under a lease and a fence: what changes while it is
// held is told once more, whatever the holder says of it.
func TestOutboxTellsEachDeviceOnceAndAgainAfterAChange(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		w := newShop(t, e)
		if !w.register(1, "1", "a", "apple") || !w.register(1, "2", "a", "apple") || !w.register(2, "1", "b", "android") || w.register(2, "1", "b", "android") {
			t.Error("what is new is not told from what is not")
		}
		w.leased(noon)
		w.change("1", noon)
		w.change("2", noon)
		for _, to := range []passes.Wallets{{Only: "walletunion"}, {But: []webservice.ClientKind{"android", "apple"}}} {
			if got, err := w.LeasePushes(t.Context(), w.id, to, noon, noon.Add(time.Minute), 10); err != nil || len(got) != 0 {
				t.Errorf("%+v: %v, %v", to, got, err)
			}
		}
		for token, to := range map[string]passes.Wallets{"b": {Only: "android"}, "a": {But: []webservice.ClientKind{"android"}}} {
			got, err := w.LeasePushes(t.Context(), w.id, to, noon, noon, 10) // over at once
			if err != nil || len(got) != 1 || got[0].PushToken != token {
				t.Errorf("%+v: %v, %v", to, got, err)
			}
		}
		held := w.leased(noon, "a", "b")
		if held["a"].Client != "apple" || held["b"].Client != "android" {
			t.Errorf("held are %+v", held)
		}
		w.leased(noon.Add(59 * time.Second))
		w.change("1", noon.Add(time.Second)) // while both are held
		w.end(passes.PushEnd{Push: held["a"]}, passes.PushEnd{Push: held["b"], RetryAt: noon.Add(time.Hour)})
		held = w.leased(noon.Add(time.Second), "a", "b")
		w.end(passes.PushEnd{Push: held["a"]}, passes.PushEnd{Push: held["b"], RetryAt: noon.Add(time.Hour)})
		w.leased(noon.Add(59 * time.Minute))
		late := w.leased(noon.Add(time.Hour), "b")["b"]
		if late.Attempts != 1 {
			t.Errorf("it is tried for the %d. time", late.Attempts)
		}
		w.end(passes.PushEnd{Push: late, RetryAt: noon.Add(time.Hour), NotTried: true})
		if again := w.leased(noon.Add(time.Hour), "b")["b"]; again.Attempts != 1 {
			t.Errorf("what was not tried counts: %d", again.Attempts)
		}
		// A lease that ran out is taken by the next, and its holder ends nothing any more.
		next := w.leased(noon.Add(62*time.Minute), "b")["b"]
		w.end(passes.PushEnd{Push: late})
		w.end(passes.PushEnd{Push: next, RetryAt: noon.Add(62 * time.Minute)})
		w.leased(noon.Add(62*time.Minute), "b")
		// A change of the type tells every device once.
		mustAppend(t, w.opened, passes.TypePut{Row: &passes.TypeRow{TypeID: w.id}, Push: true, Now: noon.Add(2 * time.Hour)})
		w.leased(noon.Add(2*time.Hour), "a", "b")
	})
}

// A pending push follows the device: to its new token, away with its registration, and away
// with all that a push service forgets.
func TestPendingPushFollowsItsDevice(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		w := newShop(t, e)
		w.register(1, "1", "a", "apple")
		w.register(2, "1", "b", "apple")
		w.register(2, "2", "b", "apple")
		w.register(3, "1", "c", "apple")
		w.change("1", noon)
		w.register(1, "1", "a2", "apple")
		w.register(2, "1", "b2", "apple") // b is still told, for the other pass
		w.leased(noon, "a2", "b", "c")
		if err := w.Unregister(t.Context(), passes.DeviceKey{3}, *w.pass["1"]); err != nil {
			t.Fatal(err)
		}
		if err := w.Unregister(t.Context(), passes.DeviceKey{9}, *w.pass["1"]); err != nil {
			t.Errorf("one that is not registered: %v", err)
		}
		later := noon.Add(time.Hour)
		held := w.leased(later, "a2", "b")
		w.end(passes.PushEnd{Push: held["a2"], Forget: noon.Add(-time.Second)}, passes.PushEnd{Push: held["b"], Forget: later})
		w.change("1", later)
		w.change("2", later)
		w.leased(later, "a2", "b2") // renewed since; forgotten; of the other token
	})
}

// A pass is personalised once: claimed under a lease and a fence, free again when that was
// for nothing, and a version of its own when it was not.
func TestPersonalisationIsHadOnce(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		w := newShop(t, e)
		claim := func(at time.Time) *passes.PersonalClaim {
			return &passes.PersonalClaim{Pass: *w.pass["1"], Info: []byte(`{"n":1}`), Push: true, Now: at, Until: at.Add(time.Minute)}
		}
		refused := func(c record.Change) {
			t.Helper()
			if err := appendTo(w.opened, c); !errors.Is(err, passes.ErrPersonalized) {
				t.Errorf("%v, want ErrPersonalized", err)
			}
		}
		w.register(1, "1", "a", "apple")
		first := claim(noon)
		mustAppend(t, w.opened, first)
		refused(claim(noon.Add(59 * time.Second)))
		second := claim(noon.Add(time.Minute)) // the lease ran out
		mustAppend(t, w.opened, second)
		refused(first.End(true))
		mustAppend(t, w.opened, second.End(false))
		third := claim(noon)
		mustAppend(t, w.opened, third)
		w.leased(noon)
		mustAppend(t, w.opened, third.End(true))
		got, _, err := w.PassOf(t.Context(), w.pass["1"].ID)
		if err != nil || got.Version != 2 || string(got.Personal) != `{"n":1}` || got.Modified <= w.pass["1"].Modified {
			t.Errorf("personalised as %+v, %v", got, err)
		}
		w.leased(noon, "a")
		refused(claim(noon.Add(time.Hour)))
	})
}
