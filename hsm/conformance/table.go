package conformance

import (
	"fmt"
	"io"
	"strings"
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

// Markdown writes several reports as one table: a capability a line, a module a column,
// and under it the notes of what is not there.
func Markdown(out io.Writer, names []string, reports []Report) {
	var rows []string
	cells := map[string]map[int]Result{}
	for i, r := range reports {
		for _, c := range r.Results {
			if cells[c.Capability] == nil {
				cells[c.Capability] = map[int]Result{}
				rows = append(rows, c.Capability)
			}
			cells[c.Capability][i] = c
		}
	}
	fmt.Fprintf(out, "| capability | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, row := range rows {
		fmt.Fprintf(out, "| %s |", row)
		for i := range reports {
			fmt.Fprintf(out, " %s |", cells[row][i].Outcome)
		}
		fmt.Fprintln(out)
	}
	for i, r := range reports {
		fmt.Fprintf(out, "\n%s (%s):\n\n", names[i], r.Date)
		for _, c := range r.Results {
			if c.Note != "" {
				fmt.Fprintf(out, "- %s: %s: %s\n", c.Capability, c.Outcome, c.Note)
			}
		}
	}
}
