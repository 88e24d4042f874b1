package httpapi

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Activity is what the metrics said every ten seconds of the last hour, for the console's
// charts. It reads the metrics that /metrics shows and counts nothing itself. It is bounded
// by the number of samples, and each sample by the labels that the metrics can have.
type Activity struct {
	read *prometheus.Registry // of the metrics that are sampled

	mu      sync.Mutex
	samples []sample // the oldest first; guarded by mu
}

const (
	sampleEvery = 10 * time.Second
	samplesKept = 361 // an hour, and where it begins
)

// What is sampled: answers to requests, and units of work on the tokens.
const (
	requestWork = "requests"
	tokenWork   = "token"
)

// A kindOfWork is a series of the metrics: a route, or an operation of the token.
type kindOfWork struct{ of, name string }

// A sample is what the metrics said at one moment, counted from the start of the process.
type sample struct {
	at time.Time
	by map[kindOfWork]*tally
}

// A tally counts work: how often, how often in vain (an answer of 5xx, or anything but ok),
// and how many took at most as long as each of tokenBuckets, the last being all. Differences
// are right also when a number has run over.
type tally struct {
	times, failed uint32
	within        []uint32
}

func newTally() *tally { return &tally{within: make([]uint32, len(tokenBuckets)+1)} }

// add adds what came to other between old, nil for nothing, and it.
func (t *tally) add(other, old *tally) {
	if old == nil {
		old = newTally()
	}
	t.times += other.times - old.times
	t.failed += other.failed - old.failed
	for i := range t.within {
		t.within[i] += other.within[i] - old.within[i]
	}
}

// Activity gives the samples of these metrics, which Run takes.
func (m *Metrics) Activity() *Activity {
	a := &Activity{read: prometheus.NewRegistry()}
	a.read.MustRegister(m.requests, m.duration, m.tokenCalls, m.tokenTime)
	return a
}

// Run takes a sample at once and then every ten seconds, until the context ends.
func (a *Activity) Run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		a.take(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take takes a sample, and forgets one that is older than the hour.
func (a *Activity) take(now time.Time) {
	families, err := a.read.Gather()
	if err != nil { // vectors alone do not fail
		return
	}
	s := sample{at: now, by: map[kindOfWork]*tally{}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := map[string]string{}
			for _, l := range m.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			t := s.of(label)
			if t == nil {
				continue
			}
			if h := m.GetHistogram(); h != nil {
				for i, b := range h.GetBucket() {
					t.within[i] = uint32(b.GetCumulativeCount())
				}
				t.within[len(tokenBuckets)] = uint32(h.GetSampleCount())
				continue
			}
			n := uint32(uint64(m.GetCounter().GetValue()))
			t.times += n
			if inVain(label) {
				t.failed += n
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.samples) == samplesKept {
		a.samples = slices.Delete(a.samples, 0, 1)
	}
	a.samples = append(a.samples, s)
}

// of gives the tally of the series with these labels; nil for the console's own pages, whose
// readers would see themselves.
func (s *sample) of(label map[string]string) *tally {
	k := kindOfWork{requestWork, label["route"]}
	if op, ok := label["op"]; ok {
		k = kindOfWork{tokenWork, op}
	}
	if strings.HasPrefix(k.name, consolePath) {
		return nil
	}
	if s.by[k] == nil {
		s.by[k] = newTally()
	}
	return s.by[k]
}

func inVain(label map[string]string) bool {
	outcome, ofToken := label["outcome"]
	return ofToken && outcome != "ok" || !ofToken && strings.HasPrefix(label["status"], "5")
}

// A period is what was done of one kind in a time.
type period struct {
	From, To time.Time
	tally
}

// periods gives what was done of a kind of work between every so many samples, the oldest
// first.
func (a *Activity) periods(of string, every int) []period {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []period
	for i := every; i-every < len(a.samples)-1; i += every {
		from, to := a.samples[i-every], a.samples[min(i, len(a.samples)-1)]
		p := period{From: from.at, To: to.at, tally: *newTally()}
		for k, t := range to.by {
			if k.of == of {
				p.add(t, from.by[k])
			}
		}
		all = append(all, p)
	}
	return all
}

// A share is what was done of one series in the time that is kept.
type share struct {
	Name string
	period
}

// shares lists the series of a kind of work that were worked on, the busiest first.
func (a *Activity) shares(of string) []share {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.samples) < 2 {
		return nil
	}
	from, to := a.samples[0], a.samples[len(a.samples)-1]
	var all []share
	for k, t := range to.by {
		p := period{From: from.at, To: to.at, tally: *newTally()}
		if p.add(t, from.by[k]); k.of == of && p.times > 0 {
			all = append(all, share{k.name, p})
		}
	}
	slices.SortFunc(all, func(x, y share) int {
		if x.times != y.times {
			return int(int64(y.times) - int64(x.times))
		}
		return strings.Compare(x.Name, y.Name)
	})
	return all
}

// Times is how often.
func (p period) Times() uint32 { return p.times }

// Failed is how often in vain.
func (p period) Failed() uint32 { return p.failed }

// Rate is how often in a second.
func (p period) Rate() float64 { return float64(p.times) / p.seconds() }

// FailedRate is how often in vain in a second.
func (p period) FailedRate() float64 { return float64(p.failed) / p.seconds() }

func (p period) seconds() float64 { return max(p.To.Sub(p.From), time.Millisecond).Seconds() }

// Median is the time, in seconds, within which half was done; false where nothing was.
func (p period) Median() (float64, bool) { return p.quantile(0.5) }

// Slow is the time within which 99 in 100 were done.
func (p period) Slow() (float64, bool) { return p.quantile(0.99) }

// quantile is within a bucket as if the bucket's were spread evenly over it; of what took
// longer than the largest bucket, that bucket.
func (p period) quantile(q float64) (float64, bool) {
	all := p.within[len(tokenBuckets)]
	if all == 0 {
		return 0, false
	}
	rank, below, lower := q*float64(all), 0.0, 0.0
	for i, upper := range tokenBuckets {
		if n := float64(p.within[i]); n >= rank {
			return lower + (upper-lower)*(rank-below)/(n-below), true
		} else {
			below, lower = n, upper
		}
	}
	return lower, true
}
