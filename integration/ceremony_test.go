package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// The worked example of docs/ceremony.md does what it says.
func TestCeremonyExample(t *testing.T) {
	t.Parallel()
	_, text, ok := strings.Cut(readFile(t, filepath.Join("..", "docs", "ceremony.md")), "<!-- run: ceremony -->")
	text, _, ended := strings.Cut(text, exampleEnds)
	draft := yamlBlock.FindStringSubmatch(text)
	if !ok || !ended || draft == nil {
		t.Fatal("the example is not there")
	}
	s := newSite(t)
	s.write("draft.yaml", draft[1])
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(mintmark, filepath.Join(bin, "mintmark")); err != nil {
		t.Fatal(err)
	}
	runCommands(t, commandsOf(t, text), s.dir, "PATH="+bin+":"+os.Getenv("PATH"))
}
