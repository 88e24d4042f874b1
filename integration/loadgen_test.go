package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// loadRun is what loadgen writes with --json, as another program reads it.
type loadRun struct {
	Sent       int
	Operations []loadRow
	Total      loadRow
}

type loadRow struct {
	Operation string
	OK        int
	Errors    map[string]int
	Latency   struct{ P50Ms, MaxMs float64 }
}

// buildLoadgen builds the load generator once.
var buildLoadgen = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(mintmark), "loadgen")
	build := exec.Command("go", "build", fmt.Sprintf("-race=%t", raceDetector), "-o", path, "../cmd/loadgen")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build loadgen: %w\n%s", err, out)
	}
	return path, nil
})

// loadgen runs it to its end and gives what it wrote, and its exit status.
func loadgen(t *testing.T, args ...string) (run loadRun, out, log string, status int) {
	t.Helper()
	program, err := buildLoadgen()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "run.json")
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(program, append(args, "--json", file)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &run); err != nil {
			t.Fatal(err)
		}
	}
	return run, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// loads are all the operations of loadgen.
var loads = []string{
	"merchant", "checkjwt", "proximity", "card", "wallet-put", "wallet-search",
	"pass-put", "pass-issue", "pass-download", "register", "list", "jwks",
}

// Every operation of the load generator is one that the server does, and what it counts as
// done is what the server has on record.
func TestLoadIsDoneAndOnRecord(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil, nil)
	const each = 4
	run, out, log, status := loadgen(t, "--dev", s.dir, "--rate", "16", "--duration", fmt.Sprintf("%ds", each*len(loads)/16),
		"--mix", strings.Join(loads, "=1,")+"=1", "--max-errors", fmt.Sprint(each*len(loads)))
	if status != 0 || run.Sent != each*len(loads) || len(run.Operations) != len(loads) {
		t.Fatalf("status %d, %+v\n%s%s", status, run, out, log)
	}
	for _, o := range run.Operations {
		// A disk that stands still for a moment is answered 503: counted, and nothing else.
		if o.OK == 0 || o.OK+o.Errors["503"] != each || !strings.Contains(out, "| "+o.Operation+" | ") {
			t.Errorf("%+v of %d\n%s", o, each, out)
		}
		if o.Latency.P50Ms <= 0 || o.Latency.MaxMs < o.Latency.P50Ms {
			t.Errorf("times of %s: %+v", o.Operation, o.Latency)
		}
		recorded, ok := map[string]string{
			"merchant": "merchant.sign-token", "proximity": "merchant.sign-proximity", "card": "push-provisioning.sign-card",
		}[o.Operation]
		if !ok {
			continue
		}
		done := s.count(`SELECT COUNT(*) FROM audit_entries e WHERE kind IN ('operation', 'result') AND body LIKE '%"done"%'
			AND EXISTS (SELECT 1 FROM audit_entries b WHERE b.ticket = e.ticket AND b.body LIKE '%' || ?1 || '%')`, recorded)
		if done != o.OK {
			t.Errorf("%s: %d done by loadgen's count, %d by the log", o.Operation, o.OK, done)
		}
	}
}

// What a server refuses is counted by status, and ends with status 1; a load that is none,
// with status 2.
func TestLoadThatIsRefusedFails(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil, nil)
	var info map[string]any
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(s.dir, "dev.json"))), &info); err != nil {
		t.Fatal(err)
	}
	clients := info["clients"].(map[string]any)
	clients["issuer"].(map[string]any)["keyFile"] = s.info.Clients.Merchant.KeyFile // not the issuer's
	b, err := json.Marshal(map[string]any{"baseUrl": s.info.BaseURL, "clients": clients})
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "target.json")
	if err := os.WriteFile(target, b, 0o600); err != nil {
		t.Fatal(err)
	}
	run, _, log, status := loadgen(t, "--target", target, "--rate", "10", "--duration", "1s", "--mix", "merchant=1,jwks=1")
	if status != 1 || run.Total.OK != 5 || run.Total.Errors["401"] != 5 || !strings.Contains(log, "5 errors, 0 are allowed") {
		t.Errorf("status %d, %+v\n%s", status, run.Total, log)
	}
	if strings.Contains(log, "eyJ") {
		t.Errorf("a token is in what it says:\n%s", log)
	}
	for what, args := range map[string][]string{
		"nobody to send to":             {"--mix", "jwks=1"},
		"two to send to":                {"--dev", s.dir, "--target", target},
		"an operation that there isn't": {"--target", target, "--mix", "everything=1"},
		"no rate":                       {"--target", target, "--rate", "0"},
		"nothing to send":               {"--target", target, "--rate", "0.1", "--duration", "1s"},
		"an argument":                   {"--target", target, "jwks"},
	} {
		if _, _, log, status := loadgen(t, args...); status != 2 {
			t.Errorf("%s: status %d: %s", what, status, log)
		}
	}
	if _, _, log, status := loadgen(t, "--target", target, "--mix", "card=1"); status != 1 || !strings.Contains(log, "names no card") {
		t.Errorf("a target without cards: status %d: %s", status, log)
	}
}
