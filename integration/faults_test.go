//go:build faults

package integration

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

// The goals, with 50 keys on the token.
const (
	sessionGoal = 200 * time.Millisecond
	deviceGoal  = 6 * time.Second
	refusalGoal = 50 * time.Millisecond
)

// field is a development server behind a fault module, under load, and an operator with
// hands on its token.
type field struct {
	t      *testing.T
	dir    string
	module *faultmodule.Module
	token  *softhsm.Token
	tav    material // the imported key that signs activation data

	isolation hsm.Isolation

	server   atomic.Pointer[server]
	load     *load
	restarts int
}

// newField makes the directory: the development keys, with an imported TAV key in place
// of the generated one, and so many keys on the token in all.
func newField(t *testing.T, keys int, where hsm.Isolation) *field {
	t.Helper()
	f := &field{t: t, isolation: where, dir: t.TempDir(), tav: newMaterial("imported-tav", hsm.TAVSigning), module: faultmodule.New(t, module(t))}
	f.serve(t).stop()
	token, err := softhsm.Create(filepath.Join(f.dir, "softhsm"), "mintmark-dev")
	if err != nil {
		t.Fatal(err)
	}
	f.token = token
	operate(t, token, func(o *operator) {
		o.importKey(f.tav)
		o.fill(keys - len(hsm.Purposes()) - 1)
	})
	path := filepath.Join(f.dir, "keyring.yaml")
	ring, err := hsm.LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ring.Keys {
		if ring.Keys[i].Purpose == hsm.TAVSigning {
			ring.Keys[i].State = hsm.Next
		}
	}
	ring.Keys = append(ring.Keys, f.tav.pinned("dev"))
	if err := ring.Save(path); err != nil {
		t.Fatal(err)
	}
	return f
}

// serve starts the server on the field's directory.
func (f *field) serve(t *testing.T) *server {
	t.Helper()
	env := append([]string{"MINTMARK_HSM_ISOLATION=" + string(f.isolation)}, unsigned...)
	s := start(t, f.dir, []string{"--module", f.module.Path}, env)
	f.server.Store(s)
	return s
}

// where is where the server is at the moment.
func (f *field) where() (url, token string) {
	i := f.server.Load().info
	return i.BaseURL, i.Clients.Issuer.Token
}

// inject puts a rule in force, waits, and takes it back.
func (f *field) inject(r faultmodule.Rule, lasts time.Duration) time.Time {
	rule := f.module.Inject(r)
	<-time.After(lasts)
	rule.Clear()
	return time.Now()
}

// spend puts a rule in force for its number of calls, and waits until these were made.
func (f *field) spend(r faultmodule.Rule) time.Time {
	f.t.Helper()
	rule := f.module.Inject(r)
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for rule.Fired() < uint64(max(1, r.Times)) {
		if time.Now().After(deadline) {
			f.t.Fatalf("the rule acted upon %d calls of %d", rule.Fired(), r.Times)
		}
		<-tick.C
	}
	return time.Now()
}

// fault is one row of the table. inject does it, ends it, and says when it was over.
type fault struct {
	name   string
	goal   time.Duration
	inject func(f *field) time.Time
}

// at gives a fault that is over as soon as it has been.
func at(do func(m *faultmodule.Module)) func(*field) time.Time {
	return func(f *field) time.Time {
		do(f.module)
		return time.Now()
	}
}

var faults = []fault{
	{"sessions dropped", sessionGoal, at((*faultmodule.Module).DropSessions)},
	{"logged out", sessionGoal, at((*faultmodule.Module).Logout)},
	{"CRYPTOKI_NOT_INITIALIZED", deviceGoal, at((*faultmodule.Module).Uninitialize)},
	{"DEVICE_ERROR once", deviceGoal, func(f *field) time.Time {
		return f.spend(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_DEVICE_ERROR})
	}},
	{"DEVICE_ERROR on everything, 10 s", deviceGoal, func(f *field) time.Time {
		return f.inject(faultmodule.Rule{RV: pkcs11.CKR_DEVICE_ERROR, Times: faultmodule.Forever}, 10*time.Second)
	}},
	{"SESSION_HANDLE_INVALID x 20 on C_Sign", sessionGoal, func(f *field) time.Time {
		return f.spend(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_SESSION_HANDLE_INVALID, Times: 20})
	}},
	{"GENERAL_ERROR x 20 on C_Sign", deviceGoal, func(f *field) time.Time {
		return f.spend(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_GENERAL_ERROR, Times: 20})
	}},
	{"GENERAL_ERROR on everything, 5 s", deviceGoal, func(f *field) time.Time {
		return f.inject(faultmodule.Rule{RV: pkcs11.CKR_GENERAL_ERROR, Times: faultmodule.Forever}, 5*time.Second)
	}},
	{"GENERAL_ERROR x 20 on C_Decrypt", sessionGoal, func(f *field) time.Time {
		return f.spend(faultmodule.Rule{Function: "C_Decrypt", RV: pkcs11.CKR_GENERAL_ERROR, Times: 20})
	}},
	{"key deleted, 3 s, and imported again", deviceGoal, func(f *field) time.Time {
		operate(f.t, f.token, func(o *operator) { o.deleteKey(f.tav.entry) })
		<-time.After(3 * time.Second)
		operate(f.t, f.token, func(o *operator) { o.importKey(f.tav) })
		return time.Now()
	}},
	{"key replaced under its CKA_ID, noticed, and put back", deviceGoal, func(f *field) time.Time {
		other := f.tav
		other.rsa = freshRSA()
		operate(f.t, f.token, func(o *operator) { o.deleteKey(f.tav.entry); o.importKey(other) })
		// Between the two the server may have seen that the key is missing.
		eventually(f.t, 2*patience, func() error {
			if !strings.Contains(f.server.Load().stderr.String(), string(hsm.KeyLost)) {
				return errors.New("the log does not say that the key differs from its pin")
			}
			return nil
		})
		operate(f.t, f.token, func(o *operator) { o.deleteKey(f.tav.entry); o.importKey(f.tav) })
		return time.Now()
	}},
	{"token removed, 5 s, and back", deviceGoal, func(f *field) time.Time {
		tokens := filepath.Join(f.token.Dir, "tokens")
		if err := os.Rename(tokens, tokens+"-away"); err != nil {
			f.t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		_ = os.RemoveAll(tokens)
		if err := os.Rename(tokens+"-away", tokens); err != nil {
			f.t.Fatal(err)
		}
		return time.Now()
	}},
	{"C_Sign hangs 5 s", sessionGoal, func(f *field) time.Time {
		return f.inject(faultmodule.Rule{Function: "C_Sign", Hang: true, Times: faultmodule.Forever}, 5*time.Second)
	}},
	{"C_Sign hangs for ever", deviceGoal, func(f *field) time.Time {
		rule := f.module.Hang("C_Sign", faultmodule.Forever)
		s := f.server.Load()
		if f.isolation == hsm.ProcessIsolation {
			f.childEnds(1)
			rule.Clear()
			return time.Now()
		}
		select {
		case <-s.exited:
		case <-time.After(2 * patience):
			f.t.Error("the process does not end")
			s.kill()
		}
		if status := s.cmd.ProcessState.ExitCode(); status != 4 {
			f.t.Errorf("the process ended with status %d, want 4", status)
		}
		rule.Clear()
		ended := time.Now()
		f.restarts++
		f.serve(f.t) // as a supervisor does
		return ended
	}},
}

// crashes are faults that a service survives whose modules have processes of their own.
var crashes = []fault{
	{"SIGSEGV in C_Sign", deviceGoal, func(f *field) time.Time {
		ended := f.spend(faultmodule.Rule{Function: "C_Sign", Crash: true})
		f.childEnds(1)
		return ended
	}},
	{"SIGSEGV in C_DeriveKey x 3", deviceGoal, func(f *field) time.Time {
		ended := f.spend(faultmodule.Rule{Function: "C_DeriveKey", Crash: true, Times: 3})
		f.childEnds(2) // two of them may have met in one process
		return ended
	}},
	{"kill -9 of the member's process", deviceGoal, func(f *field) time.Time {
		pid, ok := childOf(f.t, f.server.Load().cmd.Process.Pid, "dev")
		if !ok || syscall.Kill(pid, syscall.SIGKILL) != nil {
			f.t.Fatal("the service has no child")
		}
		ended := time.Now()
		f.childEnds(1)
		return ended
	}},
}

// childEnds waits until so many processes of the member have ended.
func (f *field) childEnds(times int) {
	f.t.Helper()
	eventually(f.t, patience, func() error {
		if n := strings.Count(f.server.Load().stderr.String(), ended); n < times {
			return fmt.Errorf("%d processes of the member have ended", n)
		}
		return nil
	})
}

// Each fault alone, under load: nothing wrong, nothing without a record, nobody without
// an answer, and the service is back by itself.
func TestFaults(t *testing.T) {
	table := &table{}
	t.Cleanup(func() { table.print(t) })
	t.Run("50 keys", func(t *testing.T) { table.measure(t, newField(t, 50, hsm.NoIsolation), 50, faults) })
	t.Run("50 keys, isolated", func(t *testing.T) {
		table.measure(t, newField(t, 50, hsm.ProcessIsolation), 50, slices.Concat(faults, crashes))
	})
	t.Run("1000 keys", func(t *testing.T) {
		few := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
			return !slices.Contains([]string{"sessions dropped", "logged out", "DEVICE_ERROR once", "CRYPTOKI_NOT_INITIALIZED"}, f.name)
		})
		table.measure(t, newField(t, 1000, hsm.NoIsolation), 1000, few)
	})
}

// recoverWithin is when a service that is not back counts as lost.
const recoverWithin = 90 * time.Second

// measure has the faults one after the other, each on a server of its own.
func (tb *table) measure(t *testing.T, f *field, keys int, all []fault) {
	for _, what := range all {
		t.Run(what.name, func(t *testing.T) {
			f.t, f.restarts = t, 0
			s := f.serve(t)
			f.load = newLoad(s, f.where)
			if !f.load.served(5*clients, time.Now(), patience) {
				t.Fatal("the load does not run")
			}
			before := strings.Count(s.stderr.String(), "\n")
			began := time.Now()
			ended := what.inject(f)
			back := f.load.served(5*clients, ended, recoverWithin)
			if !back {
				t.Errorf("not back %v after the fault's end", recoverWithin)
			}
			f.module.Clear()
			row := row{fault: what.name, isolation: f.isolation, keys: keys, goal: what.goal, lasted: ended.Sub(began), restarts: f.restarts}
			log := s.stderr.String()
			row.measure(f.load.end(), began, ended, downTimes(t, log))
			row.judge(newJudge(t, s), f.load.all, t)
			row.stateLines = strings.Count(log, stateChange)
			row.lines = strings.Count(log, "\n") - before
			if n := f.module.Totals().FinalizedInFlight; n != 0 {
				t.Errorf("C_Finalize was called %d times under a running call", n)
			}
			row.check(t)
			tb.rows = append(tb.rows, row)
			t.Log(row)
		})
	}
}

// stateChange is the log's text at a change of state.
const stateChange = "HSM member changes state"

// span is a time between two moments.
type span struct{ from, to time.Time }

// downTimes reads from the log when the member was known to be down.
func downTimes(t *testing.T, log string) []span {
	t.Helper()
	var all []span
	var down time.Time
	for line := range strings.Lines(log) {
		if !strings.Contains(line, stateChange) {
			continue
		}
		stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		when, err := time.Parse(time.RFC3339, stamp)
		if err != nil {
			t.Fatalf("log line without time: %s", line)
		}
		switch ready := strings.Contains(line, "to=ready"); {
		case ready && !down.IsZero():
			all = append(all, span{down, when})
			down = time.Time{}
		case !ready && down.IsZero():
			down = when
		}
	}
	if !down.IsZero() {
		all = append(all, span{down, time.Now()})
	}
	return all
}

// row is what one fault did.
type row struct {
	fault          string
	isolation      hsm.Isolation
	keys           int
	goal, lasted   time.Duration
	served         int
	wrong          int
	unrecorded     int
	unanswered     int         // sent, and no HTTP answer
	closed         []string    // what these met instead
	notAccepted    int         // nobody listened: between two processes
	others         map[int]int // answers other than 200, by status
	slowestRefusal time.Duration
	first          time.Duration // from the fault's end to the first success of a request that began later
	last           time.Duration // from the fault's end to the last answer other than 200
	restarts       int
	stateLines     int
	lines          int
}

func (r *row) measure(all []exchange, began, ended time.Time, down []span) {
	r.others, r.first = map[int]int{}, -1
	for _, e := range all {
		switch {
		case e.refused():
			r.notAccepted++
		case e.err != nil:
			r.unanswered++
			r.closed = append(r.closed, fmt.Sprintf("%v after %v", e.err, e.took.Round(time.Millisecond)))
		case e.status == http.StatusOK:
			r.served++
			if took := e.ended().Sub(ended); e.began.After(ended) && (r.first < 0 || took < r.first) {
				r.first = took
			}
			continue
		default:
			r.others[e.status]++
			if slices.ContainsFunc(down, func(s span) bool { return e.began.After(s.from.Add(time.Millisecond)) && e.ended().Before(s.to) }) {
				r.slowestRefusal = max(r.slowestRefusal, e.took)
			}
		}
		r.last = max(r.last, e.ended().Sub(ended))
	}
}

func (r *row) judge(j judge, all []exchange, t *testing.T) {
	for _, e := range all {
		if e.err != nil || e.status != http.StatusOK {
			continue
		}
		missing, err := j.right(e)
		if err != nil {
			r.wrong++
			t.Errorf("wrong output: %v", err)
		}
		r.unrecorded += missing
	}
}

// check fails the test where a promise is broken; goals of time are only reported.
func (r *row) check(t *testing.T) {
	wantRestarts := 0
	if strings.Contains(r.fault, "for ever") && r.isolation == hsm.NoIsolation {
		wantRestarts = 1
	}
	if r.wrong != 0 || r.unrecorded != 0 || r.unanswered > clients*r.restarts || r.restarts != wantRestarts {
		t.Errorf("%d wrong, %d without record, %d unanswered, %d restarts", r.wrong, r.unrecorded, r.unanswered, r.restarts)
	}
	// A process that ends closes idle connections, on one of which a request may be on its
	// way that it never reads: HTTP/1.1 has no word for that. One that it took is answered.
	for _, what := range r.closed {
		t.Logf("without answer: %s", what)
	}
	for status := range r.others {
		if status != http.StatusServiceUnavailable {
			t.Errorf("%d requests were answered %d", r.others[status], status)
		}
	}
}

// over marks a figure that misses its goal.
func over(d, goal time.Duration) string {
	text := fmt.Sprintf("%d ms", d.Milliseconds())
	if d < 0 {
		return "never **!**"
	}
	if d > goal {
		text += " **!**"
	}
	return text
}

// String is the row in Markdown.
func (r row) String() string {
	var others []string
	for _, status := range slices.Sorted(maps.Keys(r.others)) {
		others = append(others, fmt.Sprintf("%d: %d", status, r.others[status]))
	}
	if r.notAccepted > 0 {
		others = append(others, fmt.Sprintf("no listener: %d", r.notAccepted))
	}
	return fmt.Sprintf("| %s | %s | %d | %.1f s | %d | %d | %d | %d | %s | %s | %s (goal %d) | %d ms | %d | %d/%d |",
		r.fault, r.isolation, r.keys, r.lasted.Seconds(), r.served, r.wrong, r.unrecorded, r.unanswered,
		cmp.Or(strings.Join(others, ", "), "0"), over(r.slowestRefusal, refusalGoal),
		over(r.first, r.goal), r.goal.Milliseconds(), max(0, r.last.Milliseconds()), r.restarts, r.stateLines, r.lines)
}

// table is what docs keep.
type table struct{ rows []row }

func (tb *table) print(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMeasured on %s, %d clients.\n\n", time.Now().UTC().Format(time.DateOnly), clients)
	b.WriteString("| fault | isolation | keys | lasted | served | wrong | without record | unanswered | other answers | slowest refusal while down | first success after its end | last other answer after its end | restarts | log lines (state/all) |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range tb.rows {
		fmt.Fprintln(&b, r)
	}
	t.Log(b.String())
}
