package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// RawLoop is the loop of package raw in a process of its own: `mintmark bench raw`.
type RawLoop struct {
	Program string   // mintmark
	Args    []string // behind bench raw: the token, the work, its keys
	Env     []string // added to this process's
}

// Measure is a Subject's.
func (l RawLoop) Measure(ctx context.Context, clients int, d time.Duration) (Point, error) {
	args := append([]string{"bench", "raw", "--threads", strconv.Itoa(clients), "--seconds", strconv.FormatFloat(d.Seconds(), 'f', -1, 64)}, l.Args...)
	cmd := exec.CommandContext(ctx, l.Program, args...)
	cmd.Env = append(os.Environ(), l.Env...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return Point{}, fmt.Errorf("raw loop: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	var p Point
	return p, json.Unmarshal(out, &p)
}
