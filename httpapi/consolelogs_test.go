package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/audit"
)

// consoleLogs are the logs of a database: number 0, and perhaps another.
type consoleLogs struct {
	*fakeLog
	all   []audit.LogInfo
	other *fakeLog
}

// besideAnother has a log of 60 entries stand beside one, by a name.
func besideAnother(t *testing.T, log *fakeLog, name string) consoleLogs {
	return consoleLogs{log, []audit.LogInfo{{}, {Number: 1, Name: name, Idle: true}}, logOf(t, 60)}
}

func (l consoleLogs) Logs(context.Context) ([]audit.LogInfo, error) { return l.all, l.err }

func (l consoleLogs) LogAt(number int) audit.Source {
	if number == 0 {
		return l.fakeLog
	}
	return l.other
}

func (l consoleLogs) LastOf(_ context.Context, number int) (audit.Checkpoint, bool, error) {
	k, ok := l.LogAt(number).(*fakeLog).Latest()
	return k, ok, l.err
}

// Of a database with several logs each can be looked at, and what stands in one leads on within
// it. Without a name it is the process's own.
func TestConsoleShowsEveryLogOfTheDatabase(t *testing.T) {
	logs := besideAnother(t, hostileLog(), "mint-a")
	proof, err := audit.Prove(context.Background(), logs.other, 3)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := consoleOf(t, open, func(cfg *ConsoleConfig) { cfg.Logs = logs })
	theOther := []string{
		`<option value="mint-a" selected>mint-a</option>`, "the log has 60", `href="/console/log/59?log=mint-a"`, `href="/console/checkpoint?log=mint-a"`,
		`href="/console/log?before=10&amp;log=mint-a"`,
	}
	for path, wants := range map[string][]string{
		"/console/log":            {`<option value="0" selected>0, of this process</option>`, `<option value="mint-a">`, "the log has 120", `href="/console/log/119"`, `href="/console/checkpoint"`},
		"/console/log?log=0":      {`<option value="0" selected>`, "the log has 120", `href="/console/log/119"`},
		"/console/log?log=mint-a": theOther,
		"/console/log?log=1":      theOther,
		"/console/log/3":          {`href="/console/log/2"`, "0, of this process"},
		"/console/log/3?log=1": {
			"<dd>mint-a</dd>", `href="/console/log/2?log=mint-a"`, `href="/console/log/4?log=mint-a"`, `href="/console/log/3/proof?log=mint-a"`, `href="/console/log/3/line?log=mint-a"`,
		},
		"/console/log/3/proof?log=mint-a": {proof},
		"/console/log/3/line?log=mint-a":  {`"tenant":"b\u003cnk"`},
		"/console/checkpoint?log=mint-a":  {logs.other.checkpoints[0].Note},
		"/console/":                       {"Logs of the database", "this process", "nobody at the moment", `href="/console/log?log=mint-a"`, `<td class="number">60</td><td class="number">60</td>`},
	} {
		got := a.serve(at(http.MethodGet, path, ""))
		for _, want := range wants {
			if got.status != http.StatusOK || !strings.Contains(got.body, want) {
				t.Errorf("%s: %d, and not %s", path, got.status, want)
			}
		}
	}
	for _, path := range []string{"/console/log?log=mint-b", "/console/log/3?log=2", "/console/log/60?log=mint-a", "/console/log/3/proof?log=mint-b", "/console/checkpoint?log=mint-b"} {
		if got := a.serve(at(http.MethodGet, path, "")); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := a.serve(at(http.MethodGet, "/console/log/3/proof?log=mint-a", "")); got.header.Get("Content-Disposition") != `attachment; filename="log-1-entry-3.tlog-proof"` {
		t.Errorf("it is kept as %s", got.header.Get("Content-Disposition"))
	}
	logs.all = logs.all[:1]
	alone, _ := consoleOf(t, open, func(cfg *ConsoleConfig) { cfg.Logs = logs })
	for _, path := range []string{"/console/", "/console/log", "/console/log/3"} {
		if got := alone.serve(at(http.MethodGet, path, "")); got.status != http.StatusOK || strings.Contains(got.body, "of this process") || strings.Contains(got.body, `name="log"`) {
			t.Errorf("of a log that is alone, %s: %d", path, got.status)
		}
	}
}
