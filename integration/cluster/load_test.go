package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mintmark/mintmark/integration/actors"
)

// asked is a request of a load and its answer.
type asked struct {
	began, ended time.Time
	kind         string
	actors.Answer
	err error
}

// failed is whatever a caller could not use.
func (a asked) failed() bool { return a.err != nil || a.Status != http.StatusOK }

// load is clients that ask one thing after the other, each over connections that it keeps.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex
	all     []asked // guarded by mu
}

// ask is what a client of a load does: it gives the kind of the request, and the request.
type ask func() (kind string, c actors.Call)

// mix has every fifth request seal a card, and the others sign merchant tokens.
func (r *rig) mix(at string) ask {
	var mu sync.Mutex
	n := 0
	return func() (string, actors.Call) {
		mu.Lock()
		n++
		sealed := n%5 == 0
		mu.Unlock()
		if sealed {
			return "card", r.seal(at, r.sealing())
		}
		return "merchant token", r.mint(at, r.bearer())
	}
}

// mint is the call for a merchant token.
func (r *rig) mint(at, bearer string) actors.Call {
	return actors.Call{Method: http.MethodPost, URL: at + "/v1/merchant-tokens", Token: bearer, Body: map[string]any{"sub": "m", "usr": "u", "aud": "a"}}
}

// newLoad starts so many clients.
func newLoad(clients int, next ask) *load {
	l := &load{stop: make(chan struct{})}
	for range clients {
		l.running.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.one(next)
			}
		})
	}
	return l
}

func (l *load) one(next ask) {
	kind, c := next()
	a := asked{kind: kind, began: time.Now()}
	a.Answer, a.err = c.By(client)
	a.ended = time.Now()
	l.mu.Lock()
	l.all = append(l.all, a)
	l.mu.Unlock()
}

// end stops the clients and gives all that happened, in the order of its end.
func (l *load) end() []asked {
	close(l.stop)
	l.running.Wait()
	slices.SortFunc(l.all, func(a, b asked) int { return a.ended.Compare(b.ended) })
	return l.all
}

// failures are the failed ones, a line each.
func failures(all []asked) (lines []string) {
	for _, a := range all {
		if a.failed() {
			lines = append(lines, fmt.Sprintf("%s at %s: %d %v %s", a.kind, a.began.Format("05.000"), a.Status, a.err, a.Body))
		}
	}
	return lines
}

// longestGap is the longest time between two answers that callers could use.
func longestGap(all []asked) time.Duration {
	var gap time.Duration
	var last time.Time
	for _, a := range all {
		if a.failed() {
			continue
		}
		if !last.IsZero() {
			gap = max(gap, a.ended.Sub(last))
		}
		last = a.ended
	}
	return gap
}
