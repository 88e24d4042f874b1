package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the generated pages of docs")

// docsFolder is where the documentation stands.
const docsFolder = "../../docs"

// generated are the pages that are made from what they describe.
var generated = map[string]func(*testing.T) string{
	"commands.md":      commandsPage,
	"configuration.md": configurationPage,
	"metrics.md":       metricsPage,
}

// The pages that are generated say what the program is now; go generate writes them.
func TestGeneratedPagesAreCurrent(t *testing.T) {
	for name, generate := range generated {
		t.Run(name, func(t *testing.T) {
			path, want := filepath.Join(docsFolder, name), generate(t)
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("%s is not current; run go generate ./cmd/mintmark (-want +got):\n%s", path, diff)
			}
		})
	}
}

// The help shows every command under a title, and names none that is not there.
func TestEveryCommandIsOnAShelf(t *testing.T) {
	root := newCommand()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	var there []string
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		there = append(there, c.Name())
		if c.GroupID == "" {
			t.Errorf("mintmark %s is in none of shelves", c.Name())
		}
	}
	for _, s := range shelves {
		for _, name := range s.names {
			if !slices.Contains(there, name) {
				t.Errorf("shelves has %s, which is no command", name)
			}
		}
	}
}

const generatedNote = "<!-- generated: go generate ./cmd/mintmark -->\n"

// commandsPage has every command with its flags.
func commandsPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# Commands\n\n" + generatedNote + `
What ` + "`mintmark COMMAND --help`" + ` says, for every command. Results go to standard output; logs,
errors and progress to standard error, progress only where that is a terminal. Nothing is
coloured. ` + "`mintmark completion SHELL`" + ` prints completion for bash, zsh, fish or powershell.

| exit status | when |
|---|---|
| 0 | well |
| 1 | failure |
| 2 | usage: a flag, an argument, a file named in one |
| 3 | configuration |
| 4 | HSM |
| 5 | storage |
| 6 | refused PIN: a command that cannot go on without the token; serve stays up, unready |
| 130 | interrupted (SIGINT, Ctrl-C) while it was stopping, and ended at once as by ` + "`kill -9`" + `; a second SIGTERM does not |
`)
	eachCommand(newCommand(), func(c *cobra.Command) {
		if c.HasParent() {
			describeCommand(&b, c)
		}
	})
	return b.String()
}

// eachCommand visits the commands that people see, those above before those below.
func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	if c.Hidden {
		return
	}
	visit(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, visit)
	}
}

func describeCommand(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n", c.CommandPath(), c.Short)
	if c.HasSubCommands() && c.Args != nil && !c.HasLocalFlags() {
		return // a group
	}
	fmt.Fprintf(b, "\n    %s\n", strings.TrimSuffix(c.UseLine(), " [flags]"))
	if long := strings.TrimSpace(strings.TrimPrefix(c.Long, c.Short+".")); long != "" {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", long)
	}
	first := true
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if first {
			b.WriteString("\n| flag | default | |\n|---|---|---|\n")
			first = false
		}
		what, usage := pflag.UnquoteUsage(f)
		name := strings.TrimSpace("--" + f.Name + " " + what)
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, defaultOf(f), strings.ReplaceAll(usage, "|", `\|`))
	})
}

// defaultOf is a flag's default, where there is something to say.
func defaultOf(f *pflag.Flag) string {
	if slices.Contains([]string{"", "false", "[]"}, f.DefValue) {
		return ""
	}
	return "`" + f.DefValue + "`"
}
