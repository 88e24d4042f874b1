package passes_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
)

// Each test here is a fault that was seen in another server.

func TestListHasEveryPassNewerThanTheTagNotOnlyTheNewest(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	var all []passes.Stored
	for _, serial := range []string{"1", "2", "3"} {
		p := w.put(pass(ecType, serial), card(1))
		w.register(p, "device", serial)
		all = append(all, p)
	}
	tag := w.updated(ecType, "device", "").Tag
	for _, p := range all {
		w.clock.Add(time.Minute)
		w.put(p.ID, card(2))
	}
	u := w.updated(ecType, "device", tag)
	slices.Sort(u.Serials)
	if !slices.Equal(u.Serials, []string{"1", "2", "3"}) {
		t.Errorf("listed %v", u.Serials)
	}
}

func TestIfModifiedSinceIsATimeAndGivesNotModified(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(1))
	got, err := w.fetch(p, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, since := range []time.Time{got.Modified, got.Modified.Add(time.Hour)} {
		if again, err := w.fetch(p, since); !errors.Is(err, passes.ErrNotModified) || !again.Modified.Equal(got.Modified) {
			t.Errorf("since %v: %v", since, err)
		}
	}
	if _, err := w.fetch(p, got.Modified.Add(-time.Second)); err != nil {
		t.Errorf("a second before: %v", err)
	}
}

func TestReRegistrationReplacesThePushToken(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(1))
	w.register(p, "device", "old")
	w.put(p.ID, card(2)) // a push is pending for the old token
	created, err := w.svc.Register(w.ctx, p.ID, "device", shows(p), pushToken("new"))
	if err != nil || created {
		t.Fatalf("created %v, %v", created, err)
	}
	for token, want := range map[string]int{"old": 0, "new": 1} {
		if n := w.count(`SELECT COUNT(*) FROM pass_registrations WHERE push_token = ?`, pushToken(token)); n != want {
			t.Errorf("%d registrations of the %s token", n, token)
		}
		if n := w.count(`SELECT COUNT(*) FROM pass_pushes WHERE push_token = ?`, pushToken(token)); n != want {
			t.Errorf("%d pushes to the %s token", n, token)
		}
	}
}

func TestTagIsTheGreatestStampGivenAndNotTheTime(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(1))
	w.register(p, "device", "a")
	w.clock.Add(time.Hour)
	u := w.updated(ecType, "device", "")
	if want := w.count(`SELECT stamp FROM pass_registrations`); u.Tag != strconv.Itoa(want) || int64(want) <= p.Stamp {
		t.Errorf("tag is %s, the greatest stamp %d", u.Tag, want)
	}
	if u := w.updated(ecType, "device", u.Tag); len(u.Serials) != 0 {
		t.Errorf("listed again: %v", u.Serials)
	}
}

func TestChangesOfOneMomentAreAllFound(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "device", "a")
	tag := w.updated(ecType, "device", "").Tag
	for i := range 5 { // the clock stands, and then goes back
		if i == 3 {
			w.clock.Add(-time.Hour)
		}
		w.put(p.ID, card(i+1))
		u := w.updated(ecType, "device", tag)
		if len(u.Serials) != 1 {
			t.Fatalf("change %d is not found with tag %s", i, tag)
		}
		tag = u.Tag
	}
}

func TestLastModifiedIsTheVersionsAndNotTheTime(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	var last time.Time
	for i := range 5 {
		w.put(p.ID, card(i))
		first, err := w.fetch(p, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		w.clock.Add(100 * time.Millisecond)
		again, err := w.fetch(p, time.Time{})
		if err != nil || !again.Modified.Equal(first.Modified) {
			t.Errorf("the same version is of %v and of %v, %v", first.Modified, again.Modified, err)
		}
		if i > 0 && first.Modified.Sub(last) < time.Second {
			t.Errorf("versions are %v apart", first.Modified.Sub(last))
		}
		last = first.Modified
	}
}

func TestTagsOfOlderServersAreUnderstood(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(0))
	w.register(p, "device", "a")
	seconds := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	for tag, want := range map[string]int{
		"":                               1,
		seconds(start.Add(-time.Second)): 1,
		seconds(start.Add(time.Second)):  1, // no stamp of ours is so great
		"yesterday":                      1,
		"-1":                             1,
		"99999999999999999999999999":     1,
		"1.5":                            1,
		strconv.FormatInt(p.Stamp+1, 10): 0, // the registration's
		strconv.FormatInt(p.Stamp+2, 10): 1,
		strconv.FormatInt(p.Stamp, 10):   1,
	} {
		if u := w.updated(ecType, "device", tag); len(u.Serials) != want {
			t.Errorf("tag %q lists %v", tag, u.Serials)
		}
	}
}

func TestDeviceSeesItsOwnPassesOfOneTypeAndTenant(t *testing.T) {
	w := newWorld(t)
	for _, id := range []passes.TypeID{ecType, otherType} {
		w.setUp(id)
		w.register(w.put(pass(id, "of-"+id.Tenant), card(1)), "device", id.Tenant)
	}
	for _, tc := range []struct {
		id     passes.TypeID
		device string
		want   int
	}{
		{ecType, "device", 1}, {otherType, "device", 1}, {rsaType, "device", 0}, {ecType, "another", 0}, {ecType, "", 0},
		{passes.TypeID{Tenant: "rail", Type: ecType.Type}, "device", 0},
	} {
		u := w.updated(tc.id, tc.device, "")
		if len(u.Serials) != tc.want || (tc.want == 1 && u.Serials[0] != "of-"+tc.id.Tenant) {
			t.Errorf("%v, %s: %v", tc.id, tc.device, u.Serials)
		}
	}
}

// A change of the type is one of all its passes.
func TestChangeOfTheTypeIsFoundByItsDevices(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	p := w.put(pass(ecType, "1"), card(1))
	w.register(p, "device", "a")
	tag := w.updated(ecType, "device", "").Tag
	first, err := w.fetch(p, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	row, err := w.svc.Type(w.ctx, ecType)
	if err != nil {
		t.Fatal(err)
	}
	row.Template = []byte(`{"organizationName":"Another","description":"Loyalty card"}`)
	for range 2 { // the second is what is there already, and changes nothing
		if got, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); err != nil || got.Revision != 2 {
			t.Errorf("revision %d, %v", got.Revision, err)
		}
	}
	u := w.updated(ecType, "device", tag)
	if len(u.Serials) != 1 || w.count(`SELECT COUNT(*) FROM pass_pushes`) != 1 {
		t.Fatalf("listed %v", u.Serials)
	}
	second, err := w.fetch(p, first.Modified)
	if err != nil || second.Modified.Sub(first.Modified) < time.Second {
		t.Errorf("fetched %v after %v, %v", second.Modified, first.Modified, err)
	}
	w.put(p.ID, card(2))
	third, err := w.fetch(p, second.Modified)
	if err != nil || third.Modified.Sub(second.Modified) < time.Second || len(w.updated(ecType, "device", u.Tag).Serials) != 1 {
		t.Errorf("fetched %v after %v, %v", third.Modified, second.Modified, err)
	}
}

func TestTemplateWithAMemberOfAWrongTypeIsRefused(t *testing.T) {
	w := newWorld(t)
	var invalid *passes.InvalidError
	row := passes.TypeRow{TypeID: ecType, Template: []byte(`{"description":7}`)}
	if _, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); !errors.As(err, &invalid) {
		t.Errorf("error is %v", err)
	}
}

func TestFilesOfAPassAreBoundedTogether(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	sum, err := w.svc.PutFile(w.ctx, issuer, ecType.Tenant, make([]byte, passes.MaxFile))
	if err != nil {
		t.Fatal(err)
	}
	doc := card(1)
	doc.Files = passes.Files{}
	for i := range 5 {
		doc.Files["strip"+strconv.Itoa(i)+".png"] = sum
	}
	var field *passes.FieldError
	if _, err := w.svc.Put(w.ctx, issuer, pass(ecType, "1"), doc, passes.Anything); !errors.As(err, &field) || field.Member != "files" {
		t.Errorf("error is %v", err)
	}
}
