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
// with blocks fenced as sh. They are one shell session. Each command must succeed, and the
// output of one that a line of the form
//
//	# -> REGEXP
//
// follows must match it. Other comments, and what stands between the blocks, are for the
// reader.
var (
	exampleBegins = regexp.MustCompile(`(?m)^<!-- run: (\S+) -->$`)
	exampleEnds   = "\n<!-- end -->\n"
	shellBlock    = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")
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
		t.Run(name, func(t *testing.T) { runExample(t, commands) })
	}
	if !found["merchant"] {
		t.Error("the README has no example of the merchant calls: <!-- run: merchant -->")
	}
}

// commandsOf takes an example apart. A command may go on over several lines.
func commandsOf(t *testing.T, text string) []command {
	t.Helper()
	var all []command
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		pending := ""
		for line := range strings.Lines(block[1]) {
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

// separator ends a command's output; the exit status follows.
const separator = "\x1e"

// runExample runs the commands in one shell, in a folder as the reader's: bin/mintmark, and
// the development server's data in .mintmark. BASE is set to the address that the server has
// here.
func runExample(t *testing.T, commands []command) {
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
