//go:build manpages

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A build with the tag manpages writes the manual pages into the folder that it is given, and
// does nothing else: one page for mintmark and one for each of its commands, with theirs.
func init() {
	if err := writeManPages(newCommand(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mintmark:", err)
		os.Exit(exitFailure)
	}
	os.Exit(0)
}

func writeManPages(root *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("name the folder for the manual pages")
	}
	root.InitDefaultCompletionCmd()
	pages := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			pages = append(pages, c)
		}
	}
	for _, c := range pages {
		if err := writeManPage(c, pages, filepath.Join(args[0], manName(c)+".1")); err != nil {
			return err
		}
	}
	return nil
}

// manName is what a command's page is called: mintmark-keys.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// roff writes for man (groff_man(7)). Errors are Flush's.
type roff struct{ *bufio.Writer }

// line writes one line of text: what begins like a request, or is a character of roff's own,
// stands for itself.
func (r roff) line(text string) {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	fmt.Fprintln(r, text)
}

func writeManPage(c *cobra.Command, pages []*cobra.Command, path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := roff{bufio.NewWriter(f)}
	fmt.Fprintf(r, ".TH %q 1 \"\" %q \"User Commands\"\n.SH NAME\n", strings.ToUpper(manName(c)), "mintmark "+version)
	r.line(manName(c) + " - " + lowerFirst(c.Short))
	r.command(c, ".SH", c.Parent() != nil)
	fmt.Fprintln(r, ".SH EXIT STATUS")
	r.line("0 well, 1 failure, 2 usage, 3 configuration, 4 HSM, 5 storage, 6 refused PIN, 130 interrupted again while it was stopping")
	fmt.Fprintln(r, ".SH SEE ALSO")
	var others []string
	for _, p := range pages {
		if p != c {
			others = append(others, manName(p)+"(1)")
		}
	}
	r.line(strings.Join(others, ", "))
	return r.Flush()
}

// command writes a command's synopsis, text, flags and, if deep, those under it.
func (r roff) command(c *cobra.Command, heading string, deep bool) {
	if heading == ".SH" {
		fmt.Fprintln(r, ".SH SYNOPSIS")
	}
	fmt.Fprintln(r, ".nf")
	r.line(c.UseLine())
	fmt.Fprintln(r, ".fi")
	if heading == ".SH" {
		fmt.Fprintln(r, ".SH DESCRIPTION")
	}
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	r.paragraphs(text)
	if heading == ".SH" && c.HasAvailableLocalFlags() {
		fmt.Fprintln(r, ".SH OPTIONS")
	}
	c.LocalFlags().VisitAll(r.flag)
	if heading == ".SH" && c.HasAvailableSubCommands() {
		fmt.Fprintln(r, ".SH COMMANDS")
	}
	for _, sub := range c.Commands() {
		switch {
		case !sub.IsAvailableCommand():
		case deep:
			fmt.Fprint(r, ".SS ")
			r.line(sub.CommandPath())
			r.command(sub, ".SS", true)
		default:
			fmt.Fprintln(r, ".TP")
			r.line(sub.Name())
			r.line(sub.Short)
		}
	}
}

// paragraphs keeps the lines of examples, which are indented, as they are.
func (r roff) paragraphs(text string) {
	for _, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		literal := strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t")
		fmt.Fprintln(r, ".PP")
		if literal {
			fmt.Fprintln(r, ".nf")
		}
		for _, line := range strings.Split(paragraph, "\n") {
			r.line(line)
		}
		if literal {
			fmt.Fprintln(r, ".fi")
		}
	}
}

func (r roff) flag(f *pflag.Flag) {
	if f.Hidden {
		return
	}
	name, usage := pflag.UnquoteUsage(f)
	text := "--" + f.Name
	if f.Shorthand != "" {
		text = "-" + f.Shorthand + ", " + text
	}
	if name != "" {
		text += " " + name
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
		usage += " (default " + f.DefValue + ")"
	}
	fmt.Fprintln(r, ".TP")
	r.line(text)
	r.line(usage)
}

// lowerFirst is a sentence as it goes on after a dash; a word in capitals stays.
func lowerFirst(s string) string {
	if len(s) > 1 && strings.ToUpper(s[:2]) == s[:2] {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
