package path

import (
	"fmt"
	"strings"
)

// Markdown gives the tables of docs/decisions.md.
func Markdown() string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("### Rules, in the order in which they are applied\n")
	line("| Rule | Guide | What it keeps |")
	line("|---|---|---|")
	for _, r := range rules {
		line("| `%s` | %s | %s |", r.Name, r.Section, r.Sentence)
	}
	line("\n### Cases, with the default thresholds\n")
	line("| Rule | Given | Path | Still required |")
	line("|---|---|---|---|")
	for _, c := range cases {
		line("| `%s` | %s | %s | %s |", c.Rule, c.Given, c.Path, requiredText(c.Required))
	}
	line("\n### Risk score\n")
	line("| Factor | Not known | Known |")
	line("|---|---|---|")
	for _, f := range factors {
		line("| %s | %d | %d |", f.name, f.unknown, f.bad)
	}
	line("\n### Kept elsewhere\n")
	line("| Guide | Sentence | Where |")
	line("|---|---|---|")
	for _, e := range KeptElsewhere() {
		line("| %s | %s | %s |", e.Section, e.Sentence, e.Kept)
	}
	return b.String()
}

func requiredText(all []Requirement) string {
	if len(all) == 0 {
		return "-"
	}
	var texts []string
	for _, r := range all {
		var steps []string
		for _, s := range r.AnyOf {
			steps = append(steps, string(s))
		}
		texts = append(texts, fmt.Sprintf("`%s`: %s", r.Rule, strings.Join(steps, " or ")))
	}
	return strings.Join(texts, "; ")
}
