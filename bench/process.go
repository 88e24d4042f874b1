package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc/PID/stat: USER_HZ, which is 100 on every Linux that Go
// runs on (proc(5), sysconf(_SC_CLK_TCK)).
const clockTick = time.Second / 100

// Process is another process of this machine, by its number. Linux alone tells.
type Process int

// CPU is its processor time, user and kernel (proc(5), /proc/PID/stat, 14 and 15).
func (p Process) CPU() (time.Duration, error) {
	fields, err := p.stat()
	if err != nil {
		return 0, err
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	kernel, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+kernel) * clockTick, errors.Join(err1, err2)
}

// stat are the fields of /proc/PID/stat from the third on; the name before may hold blanks.
func (p Process) stat() ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return nil, errors.New("/proc/PID/stat is cut short")
	}
	return fields, nil
}

// Family is a process and its children: a server, and its members' own processes.
type Family []Process

// Family is it and the children that it has now.
func (p Process) Family() (Family, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own := Family{p}
	parent := strconv.Itoa(int(p))
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // no process
		}
		if fields, err := Process(pid).stat(); err == nil && fields[1] == parent { // one that has ended meanwhile is nobody's
			own = append(own, Process(pid))
		}
	}
	return own, nil
}

// CPU is the processor time of all of them. One that has ended since is an error.
func (f Family) CPU() (sum time.Duration, err error) {
	for _, p := range f {
		d, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// RSS is the memory that it has resident, in bytes (proc(5), VmRSS).
func (p Process) RSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kB << 10, err
		}
	}
	return 0, errors.New("/proc/PID/status names no VmRSS")
}
