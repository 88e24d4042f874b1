// Package actors holds who plays in the end-to-end tests beside the service under test:
// processes that are started, stopped and killed, callers with keys and tokens of their own,
// Apple's push service and a payment network. Packages integration and integration/cluster
// both give their plays with them.
//
//	server := actors.Start(t, exec.Command(mintmark, "serve", "--config", path))
//	server.Await(t, 20*time.Second, func() bool { … })
//	app := actors.NewParty(t, "app", "mint.example")
//	answer, err := actors.Call{Method: "POST", URL: url, Token: app.Token(nil)}.By(client)
//	server.Kill() // kill -9
package actors

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Buffer is what a process writes while others read it.
type Buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Write adds to it.
func (l *Buffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all of it.
func (l *Buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// LastLines are the last n lines of a text.
func LastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// Process is a program in a process of its own.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr *Buffer       // empty where the command had its own
	Exited         chan struct{} // closed when the process has ended

	t   testing.TB
	err error // how it ended; read after Exited
}

// Start starts a command, which is stopped when the test ends. What the race detector says
// in it fails the test.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, Stdout: &Buffer{}, Stderr: &Buffer{}, Exited: make(chan struct{}), t: t}
	if cmd.Stdout == nil {
		cmd.Stdout = p.Stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.Exited)
	}()
	t.Cleanup(func() {
		was := p.state()
		p.Stop()
		if t.Failed() {
			t.Logf("process %d %s; what its log complains of, and its end:\n%s...\n%s", cmd.Process.Pid, was, LastLines(p.Complaints(), 10), LastLines(p.Stderr.String(), 6))
		}
		if strings.Contains(p.Stderr.String(), "DATA RACE") {
			t.Errorf("the race detector found something:\n%s", p.Stderr)
		}
	})
	return p
}

// state says whether the process runs, or how it ended.
func (p *Process) state() string {
	select {
	case <-p.Exited:
		return fmt.Sprintf("had ended (%v)", p.Cmd.ProcessState)
	default:
		return "was running"
	}
}

// Complaints are the lines of the log above the level of information.
func (p *Process) Complaints() string {
	var b strings.Builder
	for line := range strings.Lines(p.Stderr.String()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Await waits until the process is ready, and fails the test that waits, which may be a part of
// the one that started it, if the process ends before or takes longer.
func (p *Process) Await(t testing.TB, within time.Duration, ready func() bool) {
	t.Helper()
	limit := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.Exited:
			t.Fatalf("the process ended: %v\n%s", p.err, p.Stderr)
		case <-limit:
			t.Fatalf("the process is not ready after %v\n%s", within, p.Stderr)
		case <-tick.C:
		}
	}
}

// Err is how the process ended; it waits for that.
func (p *Process) Err() error {
	<-p.Exited
	return p.err
}

// Signal sends a signal to the process, if it still runs.
func (p *Process) Signal(s syscall.Signal) { _ = p.Cmd.Process.Signal(s) }

// stopWithin is longer than any process of ours takes to stop: to answer what is under way, to
// put its stop on record, and to close.
const stopWithin = 90 * time.Second

// Stop asks the process to end, and waits for it.
func (p *Process) Stop() {
	select {
	case <-p.Exited:
		return
	default:
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited:
		if p.err != nil {
			p.t.Errorf("the process stopped with %v\n%s", p.err, p.Stderr)
		}
	case <-time.After(stopWithin):
		p.t.Error("the process does not stop")
		p.Kill()
	}
}

// Kill is kill -9.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Exited
}
