//go:build benchbare

package hsm

import (
	"os"
	"strings"
)

// verifies can be turned off in a build for measuring what it costs. Command mintmark
// refuses to serve with such a build in production, and to be given a version.
var verifies = !strings.Contains(os.Getenv("MINTMARK_BENCH_OFF"), "verify")
