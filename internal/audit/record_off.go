//go:build benchbare

package audit

import (
	"os"
	"strings"
)

// records can be turned off in a build for measuring what it costs: the results of
// operations that consume nothing are then thrown away. Command mintmark refuses to serve
// with such a build in production, and to be given a version.
var records = !strings.Contains(os.Getenv("MINTMARK_BENCH_OFF"), "record")
