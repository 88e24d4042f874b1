package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A README's example is text between these two lines:
//
//	<!-- run: NAME -->
//	<!-- end -->
//
// with blocks fenced as sh or console. They are one shell session. Each command must succeed,
// and in sh the output of one that a line of the form
//
//	# -> REGEXP
//
// follows must match it. In console a command stands behind a dollar sign, and its output as
// it is below it, in which … stands for any text, or alone on a line for any lines. Other
// comments, and what stands between the blocks, are for the reader.
//
// A block that follows <!-- shown: dev --> is what the development server says.
var (
	exampleBegins = regexp.MustCompile(`(?m)^<!-- run: (\S+) -->$`)
	exampleEnds   = "\n<!-- end -->\n"
	shellBlock    = regexp.MustCompile("(?ms)^ *```(sh|console)\n(.*?)^ *```$")
	shownBlock    = regexp.MustCompile("(?ms)^<!-- shown: dev -->\n```text\n(.*?)^```$")
)

// command is one command of an example.
type command struct {
	text   string
	output *regexp.Regexp // nil if any will do
}

// The README's examples do what it says, against the development server that it starts.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	readme := readFile(t, filepath.Join("..", "README.md"))
	begins := exampleBegins.FindAllStringSubmatchIndex(readme, -1)
	found := map[string]bool{}
	for _, at := range begins {
		name := readme[at[2]:at[3]]
		text, _, ok := strings.Cut(readme[at[1]:], exampleEnds)
		if !ok {
			t.Fatalf("the example %s has no end", name)
		}
		commands := commandsOf(t, text)
		if len(commands) == 0 {
			t.Fatalf("the example %s has no commands", name)
		}
		found[name] = true
		t.Run(name, func(t *testing.T) {
			s := runExample(t, commands)
			if name == "first" {
				checkShown(t, readme, s)
			}
		})
	}
	for _, name := range []string{"first", "merchant"} {
		if !found[name] {
			t.Errorf("the README has no example <!-- run: %s -->", name)
		}
	}
}

// commandsOf takes an example apart. A command may go on over several lines.
func commandsOf(t *testing.T, text string) []command {
	t.Helper()
	var all []command
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		if block[1] == "console" {
			all = append(all, shownCommands(t, block[2])...)
			continue
		}
		pending := ""
		for line := range strings.Lines(block[2]) {
			line = strings.TrimRight(line, "\n")
			trimmed := strings.TrimSpace(line)
			pattern, isOutput := strings.CutPrefix(trimmed, "# -> ")
			switch {
			case pending != "":
				pending += "\n" + line
			case isOutput && len(all) > 0 && all[len(all)-1].output == nil:
				re, err := regexp.Compile(pattern)
				if err != nil {
					t.Fatalf("# -> %s: %v", pattern, err)
				}
				all[len(all)-1].output = re
				continue
			case isOutput:
				t.Fatalf("# -> %s follows no command", pattern)
			case trimmed == "" || strings.HasPrefix(trimmed, "#"):
				continue
			default:
				pending = line
			}
			if !strings.HasSuffix(pending, `\`) && exec.Command("sh", "-n", "-c", pending).Run() == nil {
				all = append(all, command{text: pending})
				pending = ""
			}
		}
		if pending != "" {
			t.Fatalf("a command has no end:\n%s", pending)
		}
	}
	return all
}

// shownCommands takes a block of commands and their output apart.
func shownCommands(t *testing.T, block string) (all []command) {
	t.Helper()
	for i, part := range strings.Split("\n"+block, "\n$ ") {
		if i == 0 {
			if strings.TrimSpace(part) != "" {
				t.Fatalf("output of no command: %s", part)
			}
			continue
		}
		text, output, _ := strings.Cut(part, "\n")
		c := command{text: text}
		if strings.TrimSpace(output) != "" {
			c.output = literally(output)
		}
		all = append(all, c)
	}
	return all
}

// literally matches a text as it stands, but for … in it, and for blanks around it.
func literally(text string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		if line == "…\n" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return regexp.MustCompile(`^` + strings.TrimSuffix(b.String(), "\n") + `\s*$`)
}

// What a newcomer is shown of the first start is what the server says, at the addresses and in
// the folder that it has there.
func checkShown(t *testing.T, readme string, s *server) {
	t.Helper()
	m := shownBlock.FindStringSubmatch(readme)
	if m == nil {
		t.Fatal("the README does not show what the server says: <!-- shown: dev -->")
	}
	said := strings.NewReplacer(s.info.BaseURL, "http://127.0.0.1:8080", s.info.AdminURL, "http://127.0.0.1:9090", s.dir, "/home/you/mintmark/.mintmark").Replace(s.stdout.String())
	if !literally(m[1]).MatchString(strings.TrimSpace(said) + "\n") {
		t.Errorf("the README shows\n%s\nand the server says\n%s", m[1], said)
	}
}

// separator ends a command's output; the exit status follows.
const separator = "\x1e"

// runExample runs the commands in one shell, in a folder as the reader's: bin/mintmark, and
// the development server's data in .mintmark. BASE is set to the address that the server has
// here.
func runExample(t *testing.T, commands []command) *server {
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(mintmark, filepath.Join(bin, "mintmark")); err != nil {
		t.Fatal(err)
	}
	s := start(t, filepath.Join(dir, ".mintmark"), nil, nil)
	runCommands(t, commands, dir, "PATH="+bin+":"+os.Getenv("PATH"), "BASE="+s.info.BaseURL)
	return s
}

// runCommands runs the commands in one shell in a folder, with env added to the environment.
func runCommands(t *testing.T, commands []command, dir string, env ...string) {
	t.Helper()
	var script strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\nprintf '"+`\036%%s\036`+"' $?\n", c.text)
	}
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(script.String())
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("sh: %v\n%s", err, &stderr)
	}
	parts := strings.Split(string(out), separator)
	if len(parts) != 2*len(commands)+1 {
		t.Fatalf("%d of %d commands ended\n%s\n%s", len(parts)/2, len(commands), out, &stderr)
	}
	for i, c := range commands {
		status, _ := strconv.Atoi(parts[2*i+1])
		if status != 0 {
			t.Errorf("status %d from\n%s\n%s", status, c.text, &stderr)
		}
		if c.output != nil && !c.output.MatchString(strings.TrimSpace(parts[2*i])) {
			t.Errorf("the output of\n%s\nis\n%s\nand does not match %s", c.text, parts[2*i], c.output)
		}
	}
}
