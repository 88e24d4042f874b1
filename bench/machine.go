package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine describes the machine, and how busy it was before: figures from one that has
// other work say little.
func Machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := ""
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if one, _, ok := strings.Cut(string(b), " "); ok {
			load = ", load average " + one + " at the start"
		}
	}
	return fmt.Sprintf("%d x %s, %s%s", runtime.NumCPU(), model, runtime.Version(), load)
}
