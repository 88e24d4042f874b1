//go:build cluster

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/integration/actors"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

func init() { raceDetector = false } // it makes the replicas three times slower

// callers is how many clients a measured load has.
const callers = 16

// Restarts under constant load: how many requests fail, and how long nobody is served.
func TestRestartsUnderLoad(t *testing.T) {
	r := newRig(t, options{})
	type row struct {
		what string
		do   func()
	}
	const killed = "one replica killed -9, and started"
	var table strings.Builder
	table.WriteString("\n| what | requests | failed | longest gap | lasted |\n|---|---|---|---|---|\n")
	for _, restart := range []row{
		{"nothing, for comparison", func() { <-time.After(10 * time.Second) }},
		{"rolling restart of both replicas", func() {
			for _, p := range r.replicas() {
				p.Stop()
				p.again()
				r.awaitIn(2)
			}
		}},
		{killed, func() {
			r.a.Kill()
			r.a.again()
			r.awaitIn(2)
		}},
		{"PostgreSQL restarted (fast)", func() { r.restartPostgres(true, 0) }},
		{"PostgreSQL killed, and started", func() { r.restartPostgres(false, 0) }},
		{"PostgreSQL away for 5 s", func() { r.restartPostgres(true, 5*time.Second) }},
		{"PostgreSQL paused for 5 s", func() {
			r.check(r.postgres.Pause())
			<-time.After(5 * time.Second)
			r.check(r.postgres.Continue())
			r.awaitIn(2)
		}},
	} {
		l := newLoad(callers, politely(r.mix(r.balancer)))
		<-time.After(2 * time.Second)
		began := time.Now()
		restart.do()
		lasted := time.Since(began)
		<-time.After(2 * time.Second)
		all := l.end()
		bad := failures(all)
		fmt.Fprintf(&table, "| %s | %d | %d | %d ms | %.1f s |\n", restart.what, len(all), len(bad), longestGap(all).Milliseconds(), lasted.Seconds())
		for _, a := range all {
			// What a killed replica had taken nobody can answer for: the balancer says 502.
			if a.Status == http.StatusBadGateway && restart.what == killed {
				continue
			}
			if a.failed() && a.err == nil && (a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "") {
				t.Errorf("%s: a failed request is answered %d: %s", restart.what, a.Status, a.Body)
			}
		}
		if restart.what == "rolling restart of both replicas" && len(bad) != 0 {
			t.Errorf("%d requests failed:\n%s", len(bad), strings.Join(bad[:min(len(bad), 10)], "\n"))
		}
	}
	t.Log(table.String())
	logsAreWhole(t, r)
}

// restartPostgres has the database stop, stay away, and start.
func (r *rig) restartPostgres(cleanly bool, away time.Duration) {
	r.t.Helper()
	r.postgres.Halt(cleanly)
	<-time.After(away)
	r.check(r.postgres.Resume())
	r.awaitIn(2)
}

// politely keeps clients from asking again and again where nobody serves: all together ask at
// most 800 times a second.
func politely(next ask) ask {
	tick := time.NewTicker(time.Second / 800)
	return func() (string, actors.Call) {
		<-tick.C
		return next()
	}
}

// What a second replica is worth where the tokens are the bound, and where that stops: each
// signature takes a token so long, and a token does so many at once.
func TestSecondReplica(t *testing.T) {
	const atOnce = 4 // RSA operations in a token: twice the cores
	var table strings.Builder
	table.WriteString("\n| a signature takes the token | bound of one token | one replica | two replicas | ratio |\n|---|---|---|---|---|\n")
	r := newRig(t, options{})
	for _, delay := range []time.Duration{80 * time.Millisecond, 40 * time.Millisecond, 20 * time.Millisecond, 10 * time.Millisecond, 5 * time.Millisecond, 0} {
		var rules []*faultmodule.Injected
		if delay != 0 {
			for _, p := range r.replicas() {
				rules = append(rules, p.fault.Delay("C_SignInit", delay, faultmodule.Forever))
			}
		}
		one, two := r.rate(r.a), r.rate(r.a, r.b)
		for _, rule := range rules {
			rule.Clear()
		}
		bound := "-"
		if delay != 0 {
			bound = fmt.Sprintf("%.0f/s", atOnce/delay.Seconds())
		}
		fmt.Fprintf(&table, "| %v | %s | %.0f/s | %.0f/s | %.2f |\n", delay, bound, one, two, two/one)
	}
	t.Log(table.String())
}

// rate is how many merchant tokens a second clients get from these replicas, of 64 clients
// that each ask one after the other.
func (r *rig) rate(from ...*replica) float64 {
	r.t.Helper()
	var mu sync.Mutex
	n := 0
	next := func() (string, actors.Call) {
		mu.Lock()
		n++
		at := from[n%len(from)].api
		mu.Unlock()
		return "merchant token", r.mint(at, r.bearer())
	}
	const lasts = 5 * time.Second
	l := newLoad(64, next)
	<-time.After(time.Second) // until all connections are there
	from0 := time.Now()
	<-time.After(lasts)
	to := time.Now()
	served := 0
	for _, a := range l.end() {
		if a.failed() {
			r.t.Errorf("answered %d, %v: %s", a.Status, a.err, a.Body)
			return 0
		}
		if a.ended.After(from0) && a.ended.Before(to) {
			served++
		}
	}
	return float64(served) / to.Sub(from0).Seconds()
}
