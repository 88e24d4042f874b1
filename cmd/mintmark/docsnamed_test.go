package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/config"
)

// The tests of this file hold the way back of the generated pages: what any page names, be it
// a command, a flag, a key of the configuration, a variable, a metric, a right or a problem,
// exists. Of problems docs/problems.md is the page of reference, which httpapi's
// TestEveryProblemIsDescribedAndDocumented holds against the code, both ways.

// page is one page of the documentation.
type page struct {
	name, text string
	spans      []string // `code`, on one line
	blocks     []string // indented or fenced, without the indentation
}

var (
	codeSpan  = regexp.MustCompile("`[^`]+`")
	fence     = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$")
	indented  = regexp.MustCompile(`(?m)(?:^ {4,}\S.*\n(?:[ \t]*\n)?)+`)
	afterList = regexp.MustCompile(`(?m)^( *)(?:[-*]|\d+\.) `)
)

// pages are all pages that people read.
func pages(t *testing.T) (all []page) {
	t.Helper()
	names := []string{"../../README.md", "../../SECURITY.md"}
	err := filepath.WalkDir(docsFolder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, newPage(strings.TrimPrefix(name, "../../"), string(b)))
	}
	return all
}

func newPage(name, text string) page {
	p := page{name: name, text: text}
	for _, f := range fence.FindAllStringSubmatch(text, -1) {
		p.blocks = append(p.blocks, unindented(f[1]))
	}
	rest := fence.ReplaceAllString(text, "\n")
	if !afterList.MatchString(rest) || strings.Contains(rest, "\n\n    ") {
		for _, block := range indented.FindAllString(rest, -1) {
			p.blocks = append(p.blocks, unindented(block))
		}
	}
	for _, s := range codeSpan.FindAllString(rest, -1) {
		p.spans = append(p.spans, strings.Join(strings.Fields(strings.Trim(s, "`")), " "))
	}
	return p
}

// unindented takes away what all lines begin with.
func unindented(text string) string {
	least := -1
	for line := range strings.Lines(text) {
		if blank := len(line) - len(strings.TrimLeft(line, " ")); strings.TrimSpace(line) != "" && (least < 0 || blank < least) {
			least = blank
		}
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(line[min(max(least, 0), len(line)-len(strings.TrimLeft(line, " "))):])
	}
	return b.String()
}

// paragraphs are the blocks, parted where a blank line is followed by one that is not indented.
func (p page) paragraphs() (all []string) {
	for _, block := range p.blocks {
		for i, part := range strings.SplitAfter(block, "\n\n") {
			if i > 0 && strings.HasPrefix(part, " ") {
				all[len(all)-1] += part
				continue
			}
			all = append(all, part)
		}
	}
	return all
}

// noCommands are spans that begin as a command does and are none.
var noCommands = []string{"mintmark audit entry v1"}

// Commands and flags that a page names are there.
func TestCommandsInTheDocsExist(t *testing.T) {
	root := newCommand()
	root.InitDefaultCompletionCmd()
	called := regexp.MustCompile(`(?m)(?:^|[$(/ ])mintmark ([a-z].*)$`)
	checked := 0
	for _, p := range pages(t) {
		for _, s := range p.spans {
			if rest, ok := strings.CutPrefix(s, "mintmark "); ok && !slices.Contains(noCommands, s) {
				checked++
				checkCommand(t, p.name, root, rest)
			}
			if strings.HasPrefix(s, "--") {
				checked++
				checkFlag(t, p.name, root, s)
			}
		}
		for _, block := range p.blocks {
			for _, m := range called.FindAllStringSubmatch(strings.ReplaceAll(block, "\\\n", " "), -1) {
				if startsCommand(root, m[1]) {
					checked++
					checkCommand(t, p.name, root, m[1])
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d commands and flags were found in the pages", checked)
	}
}

// startsCommand tells a command from a sentence: blocks hold prose too.
func startsCommand(root *cobra.Command, text string) bool {
	first, _, _ := strings.Cut(text, " ")
	first, _, _ = strings.Cut(first, "|")
	return slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == first })
}

// checkCommand holds what stands after mintmark against the commands: names down to one that
// has none below it, alternatives with | between them, and flags.
func checkCommand(t *testing.T, at string, c *cobra.Command, text string) {
	t.Helper()
	line := text
	for _, end := range []string{" #", " >", " <", " | ", ";", " && ", ")", "`", "  "} {
		line, _, _ = strings.Cut(line, end)
	}
	naming := true
	for word := range strings.FieldsSeq(strings.Trim(line, `"`)) {
		switch {
		case strings.HasPrefix(word, "-"):
			naming = false
			if name, _, _ := strings.Cut(strings.TrimRight(word, ",.…"), "="); !hasFlag(c, name) {
				t.Errorf("%s: mintmark %s: %s has no flag %s", at, text, c.CommandPath(), name)
			}
		case word == strings.ToUpper(word): // COMMAND, …: what the reader puts in
			naming = false
		case naming && c.HasAvailableSubCommands():
			word, ended := strings.CutSuffix(strings.TrimSuffix(word, "."), ",")
			var next *cobra.Command
			for name := range strings.SplitSeq(word, "|") {
				i := slices.IndexFunc(c.Commands(), func(s *cobra.Command) bool { return s.Name() == name })
				if i < 0 {
					t.Errorf("%s: mintmark %s: %s has no command %s", at, text, c.CommandPath(), name)
					return
				}
				next = c.Commands()[i]
			}
			if ended || strings.Contains(word, "|") {
				naming = false
				continue
			}
			c = next
		}
	}
}

func hasFlag(c *cobra.Command, name string) bool {
	c.InitDefaultHelpFlag()
	if long, ok := strings.CutPrefix(name, "--"); ok {
		return c.Flags().Lookup(long) != nil
	}
	short := strings.TrimPrefix(name, "-")
	return short == "" || c.Flags().ShorthandLookup(short[:1]) != nil
}

// checkFlag holds a flag that is named by itself against those of every command.
func checkFlag(t *testing.T, at string, root *cobra.Command, text string) {
	t.Helper()
	name, _, _ := strings.Cut(text, " ")
	name, _, _ = strings.Cut(name, "=")
	found := false
	eachCommand(root, func(c *cobra.Command) { found = found || hasFlag(c, strings.TrimRight(name, ",.")) })
	if !found && !slices.Contains(loadgenFlags(t), name) {
		t.Errorf("%s names the flag %s, which no command has", at, name)
	}
}

// loadgenFlags are the flags of cmd/loadgen, which is a program of its own.
func loadgenFlags(t *testing.T) (all []string) {
	t.Helper()
	source, err := os.ReadFile("../loadgen/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`f\.\w+Var\(&\S+, "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, "--"+m[1])
	}
	return all
}

// configPaths are all keys, as hsm.members.name: lists without their brackets.
func configPaths(section reflect.Type, at string) (all []string) {
	for _, k := range configKeys(section, at) {
		path := strings.ReplaceAll(k.path, "[]", "")
		all = append(all, path)
		if k.inner != nil {
			all = append(all, configPaths(k.inner, path+".")...)
		}
	}
	return all
}

// noKeys are spans that look like keys and are files, names of Go, or operations of the log.
var noKeys = regexp.MustCompile(`\.(md|go|yaml|yml|json|jsonl|pem|crt|db|txt|sh|html|cdx)$|^hsm\.module$|^console\.view$`)

// Keys of the configuration that a page names exist, and so do the variables that set them. A
// key may be named from a section on: passcodes.perHour.
func TestKeysInTheDocsExist(t *testing.T) {
	paths := configPaths(reflect.TypeFor[config.Config](), "")
	sections := map[string]bool{}
	for _, path := range paths {
		parts := strings.Split(path, ".")
		for _, s := range parts[:len(parts)-1] {
			sections[s] = true
		}
	}
	dotted := regexp.MustCompile(`^[a-z][A-Za-z]*(\[\])?(\.[a-z][A-Za-z0-9]*(\[\])?)+$`)
	variable := regexp.MustCompile(`\bMINTMARK_[A-Z_]+[A-Z]\b`)
	checked := 0
	for _, p := range pages(t) {
		for _, s := range p.spans {
			first, _, _ := strings.Cut(s, ".")
			if !dotted.MatchString(s) || !sections[strings.TrimSuffix(first, "[]")] || noKeys.MatchString(s) {
				continue
			}
			checked++
			key := strings.ReplaceAll(s, "[]", "")
			if !slices.ContainsFunc(paths, func(path string) bool { return path == key || strings.HasSuffix(path, "."+key) }) {
				t.Errorf("%s names the key %s, which the configuration does not have", p.name, s)
			}
		}
		for _, v := range variable.FindAllString(p.text, -1) {
			checked++
			if !strings.HasPrefix(v, "MINTMARK_TEST_") && !slices.Contains(config.Variables(), v) {
				t.Errorf("%s names the variable %s, which sets nothing", p.name, v)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d keys and variables were found in the pages", checked)
	}
}

// Examples of the configuration are of keys that there are, and grant rights that there are.
func TestExamplesOfTheConfigurationAreStrictlyRead(t *testing.T) {
	begins := regexp.MustCompile(`^([a-z][A-Za-z]*):(?: |\n)`)
	top := configKeys(reflect.TypeFor[config.Config](), "")
	read := 0
	for _, p := range pages(t) {
		for _, block := range p.paragraphs() {
			m := begins.FindStringSubmatch(block)
			if m == nil || !slices.ContainsFunc(top, func(k configKey) bool { return strings.TrimSuffix(k.path, "[]") == m[1] }) {
				continue
			}
			read++
			var c config.Config
			if err := yaml.UnmarshalWithOptions([]byte(block), &c, yaml.Strict()); err != nil {
				t.Errorf("%s has an example that is not read: %v", p.name, err)
			}
			for _, client := range c.Clients {
				for _, g := range client.Rights {
					if _, err := access.ParseRight(g.Right); err != nil {
						t.Errorf("%s grants what there is not: %v", p.name, err)
					}
				}
			}
		}
	}
	if read < 5 {
		t.Errorf("only %d examples of the configuration were found", read)
	}
}

// Metrics that a page, an alert or a dashboard names are on the page of metrics.
func TestMetricsInTheDocsExist(t *testing.T) {
	defined := definedMetrics(t)
	named := regexp.MustCompile(`\bmintmark_[a-z_]+[a-z]\b`)
	texts := pages(t)
	err := filepath.WalkDir("../../deploy", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		texts = append(texts, page{name: path, text: string(b)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range texts {
		for _, name := range named.FindAllString(p.text, -1) {
			_, ok := defined[name]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && !ok {
					ok = defined[base].kind == "histogram"
				}
			}
			if !ok {
				t.Errorf("%s names the metric %s, which there is not", p.name, name)
			}
		}
	}
}

// The page about callers has every right and no other; so has every table of rights.
func TestRightsInTheDocsAreThose(t *testing.T) {
	var all []string
	for _, r := range access.Rights() {
		all = append(all, string(r))
	}
	tables := 0
	for _, p := range pages(t) {
		shown := firstColumn(p.text, "right")
		if len(shown) > 0 {
			tables++
		}
		for _, name := range shown {
			if !slices.Contains(all, name) {
				t.Errorf("%s has the right %s, which there is not", p.name, name)
			}
		}
		for _, name := range all {
			if p.name == "docs/clients.md" && !slices.Contains(shown, name) {
				t.Errorf("%s lacks the right %s", p.name, name)
			}
		}
	}
	if tables == 0 {
		t.Error("no page has a table of rights")
	}
}

// Problems that a page names are on the page of problems.
func TestProblemsInTheDocsExist(t *testing.T) {
	problems := regexp.MustCompile(`urn:mintmark:problem:([a-z-]*[a-z])`)
	var known []string
	for _, p := range pages(t) {
		if p.name == "docs/problems.md" {
			known = firstColumn(p.text, "type")
		}
	}
	named := 0
	for _, p := range pages(t) {
		for _, m := range problems.FindAllStringSubmatch(p.text, -1) {
			if named++; !slices.Contains(known, m[1]) {
				t.Errorf("%s names the problem %s, which there is not", p.name, m[1])
			}
		}
	}
	if len(known) < 30 || named < 3 {
		t.Errorf("%d problems are known, %d are named", len(known), named)
	}
}

// firstColumn gives the code in the first column of the tables whose first heading it is.
func firstColumn(text, heading string) (all []string) {
	in := false
	for line := range strings.Lines(text) {
		cell, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|")
		switch {
		case !ok || !strings.HasPrefix(strings.TrimSpace(line), "|"):
			in = false
		case strings.TrimSpace(cell) == heading:
			in = true
		case in:
			for _, span := range codeSpan.FindAllString(cell, -1) {
				all = append(all, strings.Trim(span, "`"))
			}
		}
	}
	return all
}

// Links of the pages lead to files that there are.
func TestLinksOfTheDocsLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if _, err := os.Stat(filepath.Join("../..", filepath.Dir(p.name), m[1])); err != nil {
				t.Errorf("%s has a link to %s: %v", p.name, m[1], err)
			}
		}
	}
}

// Every page is in the index, with what it is and for whom; pages of folders by their folder.
func TestEveryPageIsInTheIndex(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(docsFolder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(docsFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "README.md" && !strings.Contains(string(index), "| ["+e.Name()+"](") {
			t.Errorf("the index lacks %s", e.Name())
		}
	}
}
