package bench_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/bench"
)

// measured is a subject that gives these points one after the other.
func measured(name, raw string, points ...bench.Point) bench.Subject {
	return bench.Subject{Name: name, Raw: raw, Clients: []int{8}, Measure: func(int, time.Duration) (bench.Point, error) {
		p := points[0]
		points = points[1:]
		return p, nil
	}}
}

// point is one second's work.
func point(operations uint64, cpu, client time.Duration) bench.Point {
	return bench.Point{Operations: operations, Took: time.Second, P50: time.Millisecond, P99: 2 * time.Millisecond, CPU: cpu, ClientCPU: client}
}

func TestRunTakesMediansAndHoldsThemAgainstTheRawSubject(t *testing.T) {
	rows, err := bench.Run([]bench.Subject{
		measured("raw", "", point(1000, time.Second, 0), point(100, time.Second, 0), point(2000, time.Second, 0)),
		measured("ours", "raw", point(500, time.Second, 0), point(500, time.Second, 0), point(1, time.Second, 0)),
	}, bench.Plan{Rounds: 3, Each: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []bench.Row{
		{Subject: "raw", Clients: 8, PerSecond: 1000, P50: 1, P99: 2, CPU: 1},
		{Subject: "ours", Clients: 8, PerSecond: 500, P50: 1, P99: 2, CPU: 2, Raw: "raw", ToRaw: 0.5, ToLeft: 0.5, OverRaw: 1},
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
}

// A measurement in which something failed, or nothing was done, is none.
func TestNoFiguresOfFailures(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		subject bench.Subject
		want    string
	}{
		"an operation fails": {bench.Subject{Name: "x", Measure: func(n int, d time.Duration) (bench.Point, error) {
			done := 0
			return bench.Loop(n, d, bench.Own, func(int) error {
				if done++; done > 3 {
					return broken
				}
				return nil
			})
		}}, "broken"},
		"nothing is done": {measured("x", "", bench.Point{Took: time.Second}), "nothing was done"},
		"no such process": {bench.Subject{Name: "x", Measure: func(n int, d time.Duration) (bench.Point, error) {
			return bench.Loop(n, d, bench.Family{0}.CPU, func(int) error { return nil })
		}}, "no such file"},
	} {
		tc.subject.Clients = []int{1}
		if rows, err := bench.Run([]bench.Subject{tc.subject}, bench.Plan{Rounds: 1, Each: time.Minute}, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v", name, rows, err)
		}
	}
}

// Who is told to come back has not been served, and is counted.
func TestRefusalsAreCounted(t *testing.T) {
	n := 0
	p, err := bench.Loop(1, 50*time.Millisecond, bench.Own, func(int) error {
		if n++; n%2 == 0 {
			return bench.ErrRefused
		}
		return nil
	})
	if err != nil || int(p.Operations) != (n+1)/2 || int(p.Refused) != n/2 {
		t.Errorf("%d done, %d refused of %d, %v", p.Operations, p.Refused, n, err)
	}
}

// What /proc says of a process is what getrusage does, to its clock's tick and what comes
// between the two.
func TestProcessTellsItsTimeAndMemory(t *testing.T) {
	self := bench.Process(os.Getpid())
	before, err := self.CPU()
	if err != nil {
		t.Fatal(err)
	}
	own, err := bench.Own()
	if err != nil {
		t.Fatal(err)
	}
	after, err := self.CPU()
	if err != nil {
		t.Fatal(err)
	}
	const ticks = 30 * time.Millisecond // user and kernel are rounded each
	if own < before-ticks || own > after+ticks {
		t.Errorf("own time is %v, and /proc says %v to %v", own, before, after)
	}
	if rss, err := self.RSS(); err != nil || rss < 1<<20 {
		t.Errorf("%d bytes resident, %v", rss, err)
	}
}

// A server's children work for it.
func TestFamilyIsAProcessAndItsChildren(t *testing.T) {
	alone, err := bench.Process(os.Getpid()).Family()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo; cat")
	in, err1 := child.StdinPipe()
	out, err2 := child.StdoutPipe()
	if err := errors.Join(err1, err2, child.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has worked
		t.Fatal(err)
	}
	both, err := bench.Process(os.Getpid()).Family()
	if err != nil || len(both) != len(alone)+1 || !slices.Contains(both, bench.Process(child.Process.Pid)) {
		t.Fatalf("%v, with its child %v, %v", alone, both, err)
	}
	own, err2 := alone.CPU() // first: it grows meanwhile
	sum, err1 := both.CPU()
	if err1 != nil || err2 != nil || sum <= own {
		t.Errorf("%v together, %v alone, %v, %v", sum, own, err1, err2)
	}
}

func TestRunsAreReadBackAndCompared(t *testing.T) {
	old := bench.Report{What: "old build", Machine: "m", Rows: []bench.Row{{Subject: "RS256", Clients: 8, PerSecond: 1000, P99: 4, CPU: 1, ToRaw: 0.5}, {Subject: "gone", Clients: 8}}}
	var file bytes.Buffer
	if err := old.WriteJSON(&file); err != nil {
		t.Fatal(err)
	}
	read, err := bench.ReadJSON(&file)
	if err != nil {
		t.Fatal(err)
	}
	now := old
	now.Rows = []bench.Row{{Subject: "RS256", Clients: 8, PerSecond: 1500, P99: 2, CPU: 0.9, ToRaw: 0.75}, {Subject: "new", Clients: 8}}
	var out strings.Builder
	if err := bench.WriteComparison(&out, read, now); err != nil {
		t.Fatal(err)
	}
	const want = "| RS256 | 8 | 1000 | 1500 | +50.0 % | 4.00 | 2.00 | -50.0 % | 1.000 | 0.900 | -10.0 % | 0.50 | 0.75 |\n"
	if !strings.HasSuffix(out.String(), "---|\n"+want) {
		t.Errorf("compared:\n%s", out.String())
	}
}
