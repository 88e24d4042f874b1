//go:build bench

package integration

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/bench/raw"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/softhsm"
)

func init() { raceDetector = false } // it makes the server three times slower

// The subjects.
const (
	rawRSA      = "raw RSA-2048"
	rawP256     = "raw P-256"
	rawCard     = "raw sealed card"
	floorBare   = "floor: RS256, no record, no verify"
	floorWhole  = "floor: RS256"
	floorES256  = "floor: ES256"
	floorCard   = "floor: signed card"
	floorFar    = "floor: RS256, network HSM"
	rs256       = "RS256 merchant JWT"
	rs256Bare   = "RS256, no record, no verify"
	rs256Many   = "RS256, 1 000 keys on the token"
	es256       = "ES256 proximity token"
	signedCard  = "signed card"
	rawNetwork2 = "raw RSA-2048, network HSM, 2 calls"
	rawNetwork3 = "raw RSA-2048, network HSM, 3 calls"
	network     = "RS256, network HSM"
)

// The simulated network HSM.
const (
	networkSessions = 4
	networkDelay    = time.Millisecond
)

// What mintmark does, held against what the token does, in one run on one token. The figures
// are printed and written as JSON (BENCH_JSON); nothing is asserted of them.
func TestBench(t *testing.T) {
	r := newBenchRig(t)
	whole := r.serve(variant{store: r.ownStore()})
	idle := r.rss(whole)
	passes := r.newPasses(whole, 500)
	bare := benchBinary(t)
	off := func(what string) *server {
		return r.serve(variant{binary: bare, roles: "[merchant]", env: []string{"MINTMARK_BENCH_OFF=" + what}})
	}
	isolated := r.serve(variant{roles: "[merchant]", env: []string{"MINTMARK_HSM_ISOLATION=process"}})
	floor, bareFloor := r.floor(r.dev.info.HSM.Module, nil), r.floor(r.dev.info.HSM.Module, map[string]any{"Record": ""})
	many, far, spy := r.manyKeys(t, 1000), r.far(), r.spied()
	subjects := []bench.Subject{
		r.rawLoop(rawRSA, r.dev.info.HSM.Module, "--work", "rsa", "--rsa-id", r.id(hsm.MerchantJWT)),
		r.rs256(floorBare, rawRSA, bareFloor),
		r.rs256(floorWhole, rawRSA, floor),
		r.rs256(rs256, rawRSA, whole),
		r.rs256("RS256, PostgreSQL", rawRSA, r.onPostgres(t)),
		r.rs256("RS256, module in a process of its own", rawRSA, isolated),
		r.rs256("RS256, no record", rawRSA, off("record")),
		r.rs256(rs256Bare, rawRSA, off("record,verify")),
		r.rs256(rs256Many, rawRSA, many),
		r.rawLoop(rawP256, r.dev.info.HSM.Module, "--work", "p256", "--p256-id", r.id(hsm.ProximityToken)),
		r.es256(floorES256, rawP256, floor),
		r.es256(es256, rawP256, whole),
		r.rawLoop(rawCard, r.dev.info.HSM.Module, "--work", "card", "--rsa-id", r.id(hsm.TAVSigning), "--hmac-id", r.id(hsm.CardIndex), "--aes-id", r.id(hsm.CardVault)),
		r.card(floorCard, rawCard, floor),
		r.card(signedCard, rawCard, whole),
		r.checkjwt("checkjwt", whole),
		passes.cold("pass, signed anew", rawRSA),
		passes.warm("pass, downloaded again"),
		passes.register("device registers"),
		passes.list("device lists"),
	}
	subjects = append(subjects, far...)
	report := r.measure(t, subjects)
	report.Facts = append(report.Facts,
		bench.Fact{What: "memory (RSS), idle", Value: idle, Unit: "MiB"},
		r.allocations(t, whole),
	)
	report.Facts = append(report.Facts, r.memoryUnderLoad(t, whole), spy.signature(t), spy.card(t))
	report.Goals = goals(report)
	if err := report.WriteMarkdown(os.Stdout); err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("BENCH_JSON"); path != "" {
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(report.WriteJSON(f), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// measure measures for BENCH_SECONDS together.
func (r *benchRig) measure(t *testing.T, subjects []bench.Subject) bench.Report {
	t.Helper()
	total := 500.0
	if text := os.Getenv("BENCH_SECONDS"); text != "" {
		var err error
		if total, err = strconv.ParseFloat(text, 64); err != nil || total <= 0 {
			t.Fatalf("BENCH_SECONDS is %q", text)
		}
	}
	plan := bench.Plan{Clients: []int{1, 8, 32}, Rounds: 5}
	plan.Each = time.Duration(total / float64(plan.Rounds*plan.Points(subjects)) * float64(time.Second))
	report := bench.Report{At: time.Now(), What: "SoftHSM, clients on the same machine", Machine: bench.Machine(), Seconds: plan.Each.Seconds(), Rounds: plan.Rounds}
	var err error
	report.Rows, err = bench.Run(subjects, plan, func(round int) { t.Logf("round %d of %d", round+1, plan.Rounds) })
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// benchBinary is the build that can leave out record and verification.
func benchBinary(t *testing.T, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mintmark")
	args := slices.Concat([]string{"build", "-tags", "benchbare", "-o", path}, flags, []string{"../cmd/mintmark"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// A build that can leave out record and verification runs under no version, and without one
// it takes no configuration of production, whatever it is asked to do.
func TestBareBuildIsNoRelease(t *testing.T) {
	bare := benchBinary(t, "-ldflags", "-X main.version=v1.0.0")
	if out, err := exec.Command(bare, "version").CombinedOutput(); err == nil || !strings.Contains(string(out), "no release") {
		t.Errorf("a version with the tag runs: %v\n%s", err, out)
	}
	bare = benchBinary(t)
	s := newSite(t)
	s.write("mintmark.yaml", `environment: production
roles: [merchant]
hsm: {members: [{name: hsm-a, module: none.so, tokenLabel: cards, pinFile: none}]}
keyring: keyring.yaml
audit: {log: bank.example/mintmark, anchors: [{syslog: "tls://log.example:6514"}]}
store: {sqlite: mintmark.db}
merchant: {audFingerprints: [`+fingerprint+`]}
`)
	s.write("keyring.yaml", "environment: production\n")
	for _, args := range [][]string{{"config", "check"}, {"serve"}, {"doctor"}, {"keys", "list"}, {"audit", "report"}} {
		cmd := exec.Command(bare, append(args, "--config", "mintmark.yaml")...)
		cmd.Dir = s.dir
		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "not for production") {
			t.Errorf("%v in production: %v\n%s", args, err, out)
		}
	}
	if _, log, _ := s.run("config", "check", "--config", "mintmark.yaml"); !strings.Contains(log, "needs an active key") {
		t.Errorf("another build has another reason: %s", log)
	}
}

// onPostgres is a server on a durable PostgreSQL of its own.
func (r *benchRig) onPostgres(t *testing.T) *server {
	t.Helper()
	_, file := durablePostgres(t)
	return r.serve(variant{roles: "[merchant]", store: "  postgres: {dsnFile: " + strconv.Quote(file) + "}\n"})
}

// manyKeys is a server on a copy of the token that holds n keys more, which no keyring lists.
func (r *benchRig) manyKeys(t *testing.T, n int) *server {
	t.Helper()
	from := filepath.Dir(r.dev.info.HSM.Softhsm2Conf)
	dir, err := os.MkdirTemp("/dev/shm", "mintmark-bench-") // key pairs are made ten times faster there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	copied := filepath.Join(dir, "softhsm")
	if err := errors.Join(os.CopyFS(copied, os.DirFS(from)), os.Remove(filepath.Join(copied, "softhsm2.conf")),
		os.Chmod(filepath.Join(copied, "pin"), 0o600)); err != nil {
		t.Fatal(err)
	}
	token, err := softhsm.Create(copied, r.dev.info.HSM.TokenLabel)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", token.ConfigFile)
	pin, err := secret.ReadPINFile(token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := raw.Open(token.Module, token.Label, pin)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("mintmark-bench-%d", i)
		if err := loop.Generate(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := loop.Close(); err != nil {
		t.Fatal(err)
	}
	return r.serve(variant{roles: "[merchant]", replace: map[string]string{r.dev.info.HSM.Softhsm2Conf: token.ConfigFile}})
}

// far is the simulated network HSM: each call of a module before the token takes a
// millisecond more, and there are four sessions; raw with as many calls as C needs, and with
// as many as the binding makes.
func (r *benchRig) far() []bench.Subject {
	r.t.Helper()
	module := faultmodule.New(r.t, r.dev.info.HSM.Module)
	s := r.serve(variant{roles: "[merchant]", replace: map[string]string{
		r.dev.info.HSM.Module: module.Path, "    - name: dev\n": fmt.Sprintf("    - name: dev\n      rsaConcurrency: %d\n      ecConcurrency: 1\n", networkSessions),
	}})
	least := r.floor(module.Path, map[string]any{"Sessions": networkSessions, "Lengths": true})
	for _, f := range []string{"C_SignInit", "C_Sign"} {
		module.Delay(f, networkDelay, faultmodule.Forever)
	}
	id := r.id(hsm.MerchantJWT)
	two := r.rawLoop(rawNetwork2, module.Path, "--work", "rsa", "--rsa-id", id)
	three := r.rawLoop(rawNetwork3, module.Path, "--work", "rsa", "--rsa-id", id, "--lengths")
	two.Clients, three.Clients = []int{networkSessions}, []int{networkSessions}
	floor, ours := r.rs256(floorFar, "", least), r.rs256(network, "", s)
	floor.Clients, ours.Clients = []int{8, 32}, []int{8, 32}
	return []bench.Subject{two, three, floor, ours}
}

// spied is a server with a module before the token that counts its calls.
type spied struct {
	r   *benchRig
	s   *server
	spy *faultmodule.Module
}

func (r *benchRig) spied() spied {
	r.t.Helper()
	spy := faultmodule.New(r.t, r.dev.info.HSM.Module)
	s := start(r.t, r.t.TempDir(), []string{"--module", spy.Path}, unsigned)
	return spied{r, s, spy}
}

// calls is how many calls of PKCS#11 one request makes, after one that opened what has to be.
func (s spied) calls(t *testing.T, what string, do func() answer) bench.Fact {
	t.Helper()
	if err := do().want(200); err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, count := range countCalls(t, s.spy, func() { do() }) {
		n += count
	}
	return bench.Fact{What: "PKCS#11 calls, " + what, Value: float64(n), Unit: "an operation"}
}

func (s spied) signature(t *testing.T) bench.Fact {
	return s.calls(t, rs256, func() answer {
		return s.s.send("/v1/merchant-tokens", s.s.issuer().token(nil), request{"sub": "u", "usr": "u", "aud": "a"})
	})
}

func (s spied) card(t *testing.T) bench.Fact {
	return s.calls(t, signedCard, func() answer { return s.s.mustPost(s.s.newRequest()) })
}

// rss is a server's memory in MiB.
func (r *benchRig) rss(s *server) float64 {
	r.t.Helper()
	n, err := bench.Process(s.cmd.Process.Pid).RSS()
	if err != nil {
		r.t.Fatal(err)
	}
	return float64(n) / (1 << 20)
}

// memoryUnderLoad is the memory right after a measurement with 32 clients.
func (r *benchRig) memoryUnderLoad(t *testing.T, s *server) bench.Fact {
	t.Helper()
	if _, err := r.rs256("", "", s).Measure(32, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	return bench.Fact{What: "memory (RSS), 32 clients", Value: r.rss(s), Unit: "MiB"}
}

// allocations is how many objects a request takes from the heap, of all that the process
// allocates meanwhile.
func (r *benchRig) allocations(t *testing.T, s *server) bench.Fact {
	t.Helper()
	before := s.counter("go_memstats_mallocs_total")
	p, err := r.rs256("", "", s).Measure(8, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	after := s.counter("go_memstats_mallocs_total")
	return bench.Fact{What: "allocations, " + rs256, Value: math.Round(float64(after-before) / float64(p.Operations)), Unit: "a request"}
}

// goals holds a run against what was set out to be reached.
func goals(r bench.Report) []bench.Goal {
	at := func(subject string, clients int) bench.Row {
		row, _ := r.Find(subject, clients)
		return row
	}
	fact := func(what string) float64 {
		for _, f := range r.Facts {
			if f.What == what {
				return f.Value
			}
		}
		return math.NaN()
	}
	atMost := func(work, unit string, got, most float64) bench.Goal {
		return bench.Goal{Work: work, Goal: fmt.Sprintf("<= %.4g %s", most, unit), Got: fmt.Sprintf("%.3g", got), Met: got <= most}
	}
	atLeast := func(work string, got, least float64) bench.Goal {
		return bench.Goal{Work: work, Goal: fmt.Sprintf(">= %.2f", least), Got: fmt.Sprintf("%.2f", got), Met: got >= least}
	}
	const most = 32
	tail := func(r bench.Row) float64 { return r.P99 / 1000 * r.PerSecond / most }
	own := at(rs256, most)
	bare, whole := at(floorBare, 8), at(floorWhole, 8)
	// A signature holds a session for its calls, each with its delay, and the token's time.
	held := 3*networkDelay.Seconds() + at(rawRSA, 1).P50/1000
	reachable := networkSessions / held
	return []bench.Goal{
		atMost("RS256: server CPU over raw, 8 clients", "ms", at(rs256, 8).OverRaw, 0.25),
		atMost("the same without record and verification", "ms", at(rs256Bare, 8).OverRaw, 0.10),
		atLeast("RS256: throughput of the raw loop's on what the clients leave, 8 clients", at(rs256, 8).ToLeft, 0.80),
		atMost("RS256: p99 at 32 clients, 1.5 x 32 / throughput", "ms", own.P99, 1.5*most/own.PerSecond*1000),
		atMost("the same, that of the least service's", "x 32 / throughput", tail(own), tail(at(floorWhole, most))),
		atMost("the same, of the least service's that verifies and commits, 8 clients", "x", at(rs256, 8).CPU/whole.CPU, 1.25),
		atMost("without record and verification, of the least service's, 8 clients", "x", at(rs256Bare, 8).CPU/bare.CPU, 1.25),
		atLeast("RS256: throughput of the least service's that verifies and commits, 8 clients", at(rs256, 8).PerSecond/whole.PerSecond, 0.80),
		atMost("ES256: server CPU over raw, 8 clients", "ms", at(es256, 8).OverRaw, 0.25),
		atMost("the same over the least service's, 8 clients", "ms", at(es256, 8).CPU-at(floorES256, 8).CPU, 0.25),
		atLeast("signed card: throughput of the raw sequence's, 8 clients", at(signedCard, 8).ToRaw, 0.75),
		atLeast("the same, of the least service's, 8 clients", at(signedCard, 8).PerSecond/at(floorCard, 8).PerSecond, 0.75),
		atLeast("1 000 keys on the token: throughput of that with few (5 % is noise), 8 clients", at(rs256Many, 8).PerSecond/at(rs256, 8).PerSecond, 0.95),
		atMost("PKCS#11 calls of a signature", "", fact("PKCS#11 calls, "+rs256), 3),
		atMost("PKCS#11 calls of a signed card: seal 9, digest 5, card 4, signature 3", "", fact("PKCS#11 calls, "+signedCard), 21),
		atMost("memory (RSS) idle", "MiB", fact("memory (RSS), idle"), 60),
		atMost("memory (RSS) at 32 clients", "MiB", fact("memory (RSS), 32 clients"), 120),
		atLeast("network HSM, 32 clients: throughput of 4 sessions / (3 calls x 1 ms + token time)", at(network, most).PerSecond/reachable, 0.90),
		atLeast("the same, of the raw loop with 3 calls in 4 threads", at(network, most).PerSecond/at(rawNetwork3, networkSessions).PerSecond, 0.90),
		atLeast("the same, of the least service's", at(network, most).PerSecond/at(floorFar, most).PerSecond, 0.90),
	}
}
