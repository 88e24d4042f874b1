package passes_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/passkit"
)

// A phone polls as devices do: it lists with the last tag, and then fetches what was
// listed, one by one, with the time that it was given with its version.
type phone struct {
	name   string
	tag    string
	listed []string             // still to be fetched
	has    map[string]string    // serial to what it shows
	times  map[string]time.Time // serial to Last-Modified
}

// However updates, changes of the type, polls in part and a clock that stands or goes back
// are mixed: a phone that polls to the end has the latest version of everything.
func TestPhoneThatPollsWithItsLastTagMissesNothing(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++ // each check has passes of its own
		serials := []string{fmt.Sprintf("%d-a", round), fmt.Sprintf("%d-b", round), fmt.Sprintf("%d-c", round)}
		for _, s := range serials {
			w.put(pass(ecType, s), passes.Document{Pass: []byte(`{"description":"d","organizationName":"o","generic":{}}`)})
		}
		phones := []*phone{}
		for i := range 2 {
			p := &phone{name: fmt.Sprintf("%d-phone-%d", round, i), has: map[string]string{}, times: map[string]time.Time{}}
			phones = append(phones, p)
			for _, s := range serials[i:] {
				w.register(w.get(s), p.name, p.name+s)
			}
		}
		anyPhone, anySerial := rapid.SampledFrom(phones), rapid.SampledFrom(serials)
		change := 0
		r.Repeat(map[string]func(*rapid.T){
			"update": func(r *rapid.T) {
				change++
				w.put(pass(ecType, anySerial.Draw(r, "serial")), passes.Document{Pass: []byte(
					fmt.Sprintf(`{"description":"d","organizationName":"o","generic":{"backFields":[{"key":"n","value":%d}]}}`, change))})
			},
			"update of the type": func(r *rapid.T) {
				change++
				row, err := w.svc.Type(w.ctx, ecType)
				if err != nil {
					r.Fatal(err)
				}
				row.Template = []byte(`{"logoText":"` + fmt.Sprint(round, "-", change) + `"}`)
				if _, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); err != nil {
					r.Fatal(err)
				}
			},
			"time": func(r *rapid.T) {
				w.clock.Add(time.Duration(rapid.IntRange(-2000, 5000).Draw(r, "milliseconds")) * time.Millisecond)
			},
			"unregister and register": func(r *rapid.T) {
				p, s := anyPhone.Draw(r, "phone"), anySerial.Draw(r, "serial")
				if _, has := p.times[s]; !has {
					return
				}
				stored := w.get(s)
				if err := w.svc.Unregister(w.ctx, stored.ID, p.name, shows(stored)); err != nil {
					r.Fatal(err)
				}
				change++
				w.put(stored.ID, passes.Document{Pass: fmt.Appendf(nil,
					`{"description":"d","organizationName":"o","generic":{"backFields":[{"key":"n","value":%d}]}}`, change)})
				if rapid.Bool().Draw(r, "another change is seen meanwhile") {
					w.pollToTheEnd(p)
				}
				w.register(stored, p.name, p.name+s)
			},
			"list":  func(r *rapid.T) { w.list(anyPhone.Draw(r, "phone")) },
			"fetch": func(r *rapid.T) { w.fetchOne(anyPhone.Draw(r, "phone")) },
			"poll to the end": func(r *rapid.T) {
				p := anyPhone.Draw(r, "phone")
				w.pollToTheEnd(p)
				w.hasTheLatest(r, p, serials)
			},
		})
		for _, p := range phones {
			w.pollToTheEnd(p)
			w.hasTheLatest(r, p, serials)
		}
	})
}

func (w *world) get(serial string) passes.Stored {
	w.Helper()
	p, err := w.svc.Get(w.ctx, pass(ecType, serial))
	if err != nil {
		w.Fatal(err)
	}
	return p
}

func (w *world) list(p *phone) {
	w.Helper()
	u := w.updated(ecType, p.name, p.tag)
	if len(u.Serials) > 0 {
		p.listed, p.tag = append(p.listed, u.Serials...), u.Tag
	}
}

// fetchOne fetches one of what was listed, and looks at what the signed pass shows.
func (w *world) fetchOne(p *phone) {
	w.Helper()
	if len(p.listed) == 0 {
		return
	}
	serial := p.listed[0]
	p.listed = p.listed[1:]
	got, err := w.fetch(w.get(serial), p.times[serial])
	if errors.Is(err, passes.ErrNotModified) {
		return
	}
	if err != nil {
		w.Fatal(err)
	}
	b, err := passkit.Open(got.Content)
	if err != nil {
		w.Fatal(err)
	}
	p.has[serial], p.times[serial] = w.shows(b.Files[passkit.FilePass], nil), got.Modified
}

// shows is the number in a pass, and the text of its template.
func (w *world) shows(document, template []byte) string {
	w.Helper()
	var p struct {
		LogoText string
		Generic  struct{ BackFields []struct{ Value int } }
	}
	err := json.Unmarshal(document, &p)
	if template != nil {
		err = errors.Join(err, json.Unmarshal(template, &p))
	}
	if err != nil {
		w.Fatal(err)
	}
	return fmt.Sprint(p.LogoText, p.Generic.BackFields)
}

// latest is what a pass shows by the database.
func (w *world) latest(serial string) string {
	w.Helper()
	row, err := w.store.TypeOf(w.ctx, ecType)
	if err != nil {
		w.Fatal(err)
	}
	return w.shows(w.get(serial).Document.Pass, row.Template)
}

func (w *world) pollToTheEnd(p *phone) {
	w.Helper()
	for len(p.listed) > 0 {
		w.fetchOne(p)
	}
	w.list(p)
	for len(p.listed) > 0 {
		w.fetchOne(p)
	}
}

func (w *world) hasTheLatest(r *rapid.T, p *phone, serials []string) {
	for _, s := range serials {
		if _, registered := p.has[s]; !registered && s == serials[0] && p.name[len(p.name)-1] == '1' {
			continue // the second phone does not have the first pass
		}
		if want := w.latest(s); p.has[s] != want {
			r.Fatalf("%s has %s of %s, the latest is %s; its tag is %s", p.name, p.has[s], s, want, p.tag)
		}
	}
}

// The same at once: writers in parallel, and a phone that polls all the while.
func TestPhoneMissesNothingOfWritersInParallel(t *testing.T) {
	w := newWorld(t)
	w.setUp(ecType)
	serials := []string{"a", "b", "c", "d"}
	p := &phone{name: "phone", has: map[string]string{}, times: map[string]time.Time{}}
	for _, s := range serials {
		w.register(w.put(pass(ecType, s), passes.Document{Pass: []byte(`{"description":"d","organizationName":"o","generic":{}}`)}), p.name, s)
	}
	shared, err := w.svc.Type(w.ctx, ecType)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	done := make(chan struct{})
	for i, s := range serials {
		writers.Go(func() {
			for n := range 25 {
				doc := passes.Document{Pass: []byte(fmt.Sprintf(`{"description":"d","organizationName":"o","generic":{"backFields":[{"key":"n","value":%d}]}}`, i*1000+n))}
				if _, err := w.svc.Put(w.ctx, issuer, pass(ecType, s), doc, passes.Anything); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Go(func() {
		for n := range 25 {
			row := passes.TypeRow{TypeID: ecType, Template: fmt.Appendf(nil, `{"logoText":"t%d"}`, n), Files: shared.Files}
			if _, _, err := w.svc.PutType(w.ctx, issuer, row, passes.Anything); err != nil {
				t.Error(err)
				return
			}
		}
	})
	go func() { writers.Wait(); close(done) }()
	for polling := true; polling; {
		select {
		case <-done:
			polling = false
		default:
		}
		w.list(p)
		w.fetchOne(p)
	}
	w.pollToTheEnd(p)
	for _, s := range serials {
		if got, want := p.has[s], w.latest(s); got != want {
			t.Errorf("%s: has %s, the latest is %s", s, got, want)
		}
	}
}
