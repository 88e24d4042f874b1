package report

import (
	_ "embed"
	"html/template"
	"regexp"
	"strings"
	"time"
)

//go:embed report.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"rfc3339": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"class": func(v Verdict) string {
		switch v {
		case Pass:
			return "pass"
		case Fail:
			return "fail"
		case NotSupported:
			return "none"
		default:
			return "note"
		}
	},
	"count": func(lines []Line, v Verdict) int {
		n := 0
		for _, l := range lines {
			if l.Verdict == v {
				n++
			}
		}
		return n
	},
}).Parse(pageText))

var emptyLines = regexp.MustCompile(`\n\s*\n`)

// HTML gives the report as a page that needs nothing from anywhere and prints. Its last element
// is plaintext, which nothing ends: a browser shows the note's signature, which follows, as the
// end of the page, and takes nothing that somebody puts behind the signed text for markup. That
// the element is obsolete matters less than that every browser knows it (HTML Living Standard,
// 13.2.5.5).
func (r Report) HTML() (string, error) {
	var b strings.Builder
	if err := page.Execute(&b, r); err != nil {
		return "", err
	}
	return emptyLines.ReplaceAllString(b.String(), "\n"), nil // the note's text ends at the first one
}
