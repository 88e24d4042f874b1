package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteComparison sets two runs side by side, in markdown: the rows that both have. What a
// machine was like at another time is in neither; the ratio to the raw loop of the same run
// suffers least from it.
func WriteComparison(w io.Writer, old, now Report) error {
	var b strings.Builder
	for i, r := range []Report{old, now} {
		fmt.Fprintf(&b, "%s: %s, %s, on %s\n\n", []string{"old", "new"}[i], r.At.UTC().Format(time.RFC3339), r.What, r.Machine)
	}
	b.WriteString("| work | clients | /s old | new | | p99 ms old | new | | CPU ms old | new | | of raw old | new |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, n := range now.Rows {
		o, ok := old.Find(n.Subject, n.Clients)
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "| %s | %d | %.0f | %.0f | %s | %.2f | %.2f | %s | %.3f | %.3f | %s | %.2f | %.2f |\n", n.Subject, n.Clients,
			o.PerSecond, n.PerSecond, change(o.PerSecond, n.PerSecond), o.P99, n.P99, change(o.P99, n.P99), o.CPU, n.CPU, change(o.CPU, n.CPU), o.ToRaw, n.ToRaw)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// change is how much more b is than a.
func change(a, b float64) string {
	if a == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100*(b/a-1))
}
