package conformance

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Print writes what was found out, one capability a line.
func (r Report) Print(out io.Writer) {
	fmt.Fprintf(out, "member %s, %s\n", r.Member, r.Module)
	if r.Library != "" {
		fmt.Fprintf(out, "%s; token %s\n", r.Library, r.Token)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range r.Results {
		need := ""
		if c.Needed {
			need = "needed"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Outcome, c.Capability, need, c.Note)
	}
	_ = w.Flush() // what cannot be printed was not asked for
	for _, label := range r.Left {
		fmt.Fprintf(out, "left on the token: %s\n", label)
	}
	if r.Error != "" {
		fmt.Fprintf(out, "ended early: %s\n", r.Error)
	}
}
