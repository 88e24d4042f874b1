package pgtest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Pause stops the server with all its processes (SIGSTOP; Linux): connections stay open, and
// nothing answers, as when its machine hangs.
func (s *Server) Pause() error { return s.signalAll(syscall.SIGSTOP) }

// Continue has a paused server go on.
func (s *Server) Continue() error { return s.signalAll(syscall.SIGCONT) }

// signalAll signals the server's first process, which then makes no more, and those that it
// has made, each of which leads a process group of its own.
func (s *Server) signalAll(with syscall.Signal) error {
	errs := []error{syscall.Kill(s.pid, with)}
	if with == syscall.SIGSTOP {
		s.awaitStopped()
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parent(pid) != s.pid {
			continue
		}
		if err := syscall.Kill(pid, with); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// awaitStopped waits until the server's first process stands still, or has ended: until then it
// may be making another.
func (s *Server) awaitStopped() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for state, _ := status(s.pid); state != "" && !strings.ContainsAny(state, "TtZX"); state, _ = status(s.pid) {
		<-tick.C
	}
}

// parent is the process that made another; 0 if that has ended.
func parent(pid int) int {
	_, n := status(pid)
	return n
}

// status is the state of a process and the process that made it; nothing if it has ended.
func status(pid int) (state string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, after, _ := strings.Cut(string(stat), ") ") // of the name, which may hold anything else
	fields := slices.Collect(strings.FieldsSeq(after))
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}
