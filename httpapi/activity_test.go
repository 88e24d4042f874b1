package httpapi

import (
	"strings"
	"testing"
	"time"
)

// The charts say what the metrics said, between their samples and no longer than an hour, and
// leave the console's own pages out.
func TestActivityIsWhatTheMetricsSaid(t *testing.T) {
	m := NewMetrics("test")
	a := m.Activity()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tick := func() { a.take(now); now = now.Add(sampleEvery) }
	m.answered("/a", "GET", 200, time.Millisecond) // before the first sample: of no period
	tick()
	if len(a.periods(requestWork, 1)) != 0 || len(a.shares(requestWork)) != 0 {
		t.Error("one sample is no period")
	}
	for i := range 100 {
		status := 200
		if i%4 == 0 {
			status = 503
		}
		m.answered("/a", "GET", status, 3*time.Millisecond)
	}
	m.answered("/b", "POST", 409, time.Second)
	m.answered(consolePath+"log", "GET", 200, time.Second)
	m.TokenCall("sign", "rsa", 0, 20*time.Millisecond, "ok")
	m.TokenCall("sign", "rsa", 0, 0, "busy")
	tick()
	p := a.periods(requestWork, 1)[0]
	median, _ := p.Median()
	slow, _ := p.Slow()
	if p.times != 101 || p.failed != 25 || p.Rate() != 10.1 || median < 0.0025 || median > 0.005 || slow > 0.005 {
		t.Errorf("%d, %d, %v, %v, %v", p.times, p.failed, p.Rate(), median, slow)
	}
	if by := a.shares(requestWork); len(by) != 2 || by[0].Name != "/a" || by[1].Name != "/b" {
		t.Errorf("by route: %+v", by)
	}
	if by := a.shares(tokenWork); len(by) != 1 || by[0].times != 2 || by[0].failed != 1 {
		t.Errorf("on the token: %+v", by)
	}
	tick()
	if _, any := a.periods(requestWork, 1)[1].Median(); any {
		t.Error("a time of nothing")
	}
	for range 3 * samplesKept {
		tick()
	}
	if n := len(a.periods(requestWork, 1)); n != samplesKept-1 || len(a.shares(requestWork)) != 0 {
		t.Errorf("%d periods are kept", n)
	}
	if n := len(a.periods(requestWork, perFiveMinutes)); n != 12 {
		t.Errorf("an hour has %d times five minutes", n)
	}
}

// Counters that run over still give differences.
func TestTalliesRunOver(t *testing.T) {
	old, now, sum := newTally(), newTally(), newTally()
	old.times, now.times = 1<<32-1, 4
	if sum.add(now, old); sum.times != 5 {
		t.Errorf("%d", sum.times)
	}
}

// A chart has its words for those who do not see it, and no line where nothing is known.
func TestChartSaysWhatItShows(t *testing.T) {
	m := NewMetrics("test")
	a := m.Activity()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, work := range []int{1, 0, 1} {
		a.take(now)
		for range work {
			m.answered("/a", "GET", 200, time.Millisecond)
		}
		now = now.Add(sampleEvery)
	}
	a.take(now)
	c := draw("x", "Times", a.periods(requestWork, 1), asMilliseconds, curve{"Median", "line-a", period.Median})
	if len(c.Lines) != 1 || len(c.Lines[0].Pieces) != 2 || len(c.Levels) != 3 || !strings.HasPrefix(c.Description, "From 12:00 to 12:00 UTC. Median: at most ") {
		t.Errorf("%+v", c)
	}
	for v, want := range map[float64]float64{0: 1, 0.03: 0.05, 1: 1, 1.1: 2, 2.5: 5, 7: 10, 99: 100} {
		if got := roundUp(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("%v is rounded up to %v", v, got)
		}
	}
}
