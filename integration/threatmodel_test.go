package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// room is one section of the threat model: packages, and rows of a letter and what holds.
type room struct {
	title string
	rows  [][]string
}

var codeSpans = regexp.MustCompile("`([^`]+)`")

// roomsOf reads the sections that have a table by STRIDE, and the residual risks.
func roomsOf(t *testing.T, text string) (rooms []room, residual []string) {
	t.Helper()
	for _, section := range strings.Split(text, "\n## ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		r := room{title: title}
		for line := range strings.Lines(rest) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			switch {
			case len(cells) == 4 && regexp.MustCompile(`^[STRIDE](, [STRIDE])*$`).MatchString(cells[0]):
				r.rows = append(r.rows, cells)
			case title == "Residual risks" && regexp.MustCompile(`^R\d+$`).MatchString(cells[0]):
				residual = append(residual, cells[0])
			}
		}
		if r.rows != nil {
			rooms = append(rooms, r)
		}
	}
	return rooms, residual
}

// Every package stands in a room of the threat model; every room is looked at from all six
// sides; and what is said to hold is a test that there is, or a risk that is admitted.
func TestThreatModelIsOfWhatThereIs(t *testing.T) {
	rooms, residual := roomsOf(t, readFile(t, filepath.Join("..", "docs", "threat-model.md")))
	tests, named := testNames(t), map[string]bool{}
	var titles strings.Builder
	for _, r := range rooms {
		titles.WriteString(r.title)
		seen := ""
		for _, row := range r.rows {
			seen += row[0]
			var held []string
			for _, m := range codeSpans.FindAllStringSubmatch(row[3], -1) {
				held = append(held, m[1])
				if !tests[m[1]] {
					t.Errorf("%s, %s: there is no %s", r.title, row[1], m[1])
				}
			}
			if risk := regexp.MustCompile(`\bR\d+\b`).FindString(row[3]); risk != "" && slices.Contains(residual, risk) {
				named[risk] = true
			} else if held == nil {
				t.Errorf("%s, %s: neither a test nor a risk of the list", r.title, row[1])
			}
		}
		for _, letter := range "STRIDE" {
			if !strings.ContainsRune(seen, letter) {
				t.Errorf("%s is not looked at for %c", r.title, letter)
			}
		}
	}
	for name := range mayImport {
		if !strings.Contains(titles.String(), "`"+name+"`") {
			t.Errorf("%s stands in no room of the threat model", name)
		}
	}
	for _, risk := range residual {
		if !named[risk] {
			t.Errorf("%s is the risk of no row", risk)
		}
	}
}

// testNames are the tests of the whole tree.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	all, defined := map[string]bool{}, regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range defined.FindAllSubmatch(b, -1) {
			all[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
