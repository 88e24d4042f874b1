// Package bench measures: clients in a closed loop, rounds that alternate between the
// subjects, medians, and a table with goals.
//
//	subjects := []bench.Subject{
//		{Name: "raw RSA-2048", Measure: …},
//		{Name: "RS256 merchant JWT", Raw: "raw RSA-2048", Measure: …},
//	}
//	rows, err := bench.Run(subjects, bench.Plan{Clients: []int{1, 8, 32}, Rounds: 5, Each: 2 * time.Second}, nil)
//
// In a round every subject has its turn at every number of clients, so that a machine that
// gets slower does so for all. What a figure is worth is in docs/performance.md.
package bench

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Point is one measurement.
type Point struct {
	Operations uint64
	Refused    uint64 // more, which were told to come back: not done, and not timed
	Took       time.Duration
	P50, P99   time.Duration // of one operation, as its client saw it
	CPU        time.Duration // of what is measured, over all operations
	ClientCPU  time.Duration // of the clients' process
}

// Subject is something to measure.
type Subject struct {
	Name string
	Raw  string // the name of the subject that it is held against; empty for none
	// Clients are the numbers of clients, if not the plan's.
	Clients []int
	// Measure has so many clients work for so long.
	Measure func(clients int, d time.Duration) (Point, error)
}

// Plan is how much is measured.
type Plan struct {
	Clients []int
	Rounds  int
	Each    time.Duration
}

// Points is how many measurements a round has.
func (p Plan) Points(subjects []Subject) (n int) {
	for _, s := range subjects {
		n += len(s.clients(p))
	}
	return n
}

func (s Subject) clients(p Plan) []int {
	if s.Clients != nil {
		return s.Clients
	}
	return p.Clients
}

// Run measures all subjects, round after round, and gives a row for each of them and each
// number of clients: medians over the rounds. progress is told of each round; nil for nobody.
func Run(subjects []Subject, p Plan, progress func(round int)) ([]Row, error) {
	type at struct {
		subject string
		clients int
	}
	got := map[at][]Point{}
	for round := range p.Rounds {
		if progress != nil {
			progress(round)
		}
		for _, s := range subjects {
			for _, n := range s.clients(p) {
				point, err := s.Measure(n, p.Each)
				if err != nil {
					return nil, fmt.Errorf("measure %s at %d clients: %w", s.Name, n, err)
				}
				got[at{s.Name, n}] = append(got[at{s.Name, n}], point)
			}
		}
	}
	var rows []Row
	for _, s := range subjects {
		for _, n := range s.clients(p) {
			r, err := rowOf(got[at{s.Name, n}])
			if err != nil {
				return nil, fmt.Errorf("measure %s at %d clients: %w", s.Name, n, err)
			}
			r.Subject, r.Raw, r.Clients = s.Name, s.Raw, n
			for _, p := range got[at{s.Name, n}] {
				r.Refused += p.Refused
			}
			rows = append(rows, r)
		}
	}
	return held(rows), nil
}

// rowOf takes each figure's median, of the rounds in which something was done.
func rowOf(points []Point) (Row, error) {
	points = slices.DeleteFunc(slices.Clone(points), func(p Point) bool { return p.Operations == 0 })
	if len(points) == 0 {
		return Row{}, errors.New("nothing was done")
	}
	middle := func(of func(Point) float64) float64 {
		var v []float64
		for _, p := range points {
			v = append(v, of(p))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	each := func(d time.Duration, p Point) float64 { return d.Seconds() * 1000 / float64(p.Operations) }
	return Row{
		PerSecond: middle(func(p Point) float64 { return float64(p.Operations) / p.Took.Seconds() }),
		P50:       middle(func(p Point) float64 { return p.P50.Seconds() * 1000 }),
		P99:       middle(func(p Point) float64 { return p.P99.Seconds() * 1000 }),
		CPU:       middle(func(p Point) float64 { return each(p.CPU, p) }),
		ClientCPU: middle(func(p Point) float64 { return each(p.ClientCPU, p) }),
	}, nil
}

// ErrRefused is a client's error when it was told to come back later. It is counted: a
// disk that stands still for a moment is a figure, and no reason to lose a run.
var ErrRefused = errors.New("refused for now")

// Loop has clients do it one after the other for a while: each begins its next when the
// last is done. do is told which client it is; the first error but ErrRefused ends the loop.
// cpu gives the processor time that is measured; Own for this process's.
func Loop(clients int, d time.Duration, cpu func() (time.Duration, error), do func(client int) error) (Point, error) {
	var stop atomic.Bool
	var once sync.Once
	var failed error
	var refused atomic.Uint64
	times := make([][]time.Duration, clients)
	before, err := cpu()
	if err != nil {
		return Point{}, err
	}
	own, _ := Own()
	began := time.Now()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for !stop.Load() {
				at := time.Now()
				err := do(i)
				if errors.Is(err, ErrRefused) {
					refused.Add(1)
					continue
				}
				if err != nil {
					once.Do(func() { failed = err })
					stop.Store(true)
					return
				}
				times[i] = append(times[i], time.Since(at))
			}
		})
	}
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	all.Wait()
	timer.Stop()
	p := Point{Took: time.Since(began), Refused: refused.Load()}
	after, err := cpu()
	if failed != nil {
		err = failed
	}
	if err != nil {
		return Point{}, err
	}
	p.CPU = after - before
	after, _ = Own()
	p.ClientCPU = after - own
	took := slices.Concat(times...)
	if p.Operations = uint64(len(took)); p.Operations > 0 {
		slices.Sort(took)
		p.P50, p.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	return p, nil
}

// Own is the processor time of this process, user and kernel.
func Own() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
