package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/hsm"
)

// childOf gives the process that a process has started for a member (Linux).
func childOf(t *testing.T, parent int, member string) (pid int, ok bool) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		args := strings.Split(string(line), "\x00")
		if err != nil || len(args) < 3 || args[1] != hsm.MemberCommand || args[2] != member {
			continue // it has ended, or is another one
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		_, after, found := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(after); err == nil && found && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid, true
		}
	}
	return 0, false
}

// ended is the log's text at the end of a member's process.
const ended = "process of HSM member has ended"
