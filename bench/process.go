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
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third on; the name before may hold blanks
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is cut short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	kernel, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+kernel) * clockTick, errors.Join(err1, err2)
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
