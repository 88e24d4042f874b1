package integration

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// The examples do their whole journeys, as they stand, against one development server.
func TestExamples(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil, nil)
	for _, example := range []struct {
		command []string
		said    string // that it came to its end
	}{
		{[]string{"sh", "../examples/curl/journey.sh"}, `(?s)ephemeralPublicKey B[A-Za-z0-9+/]{86}=.*holds: eyJ.*jwtId [0-9a-f-]{36}\n.*\d{4,} bytes\n$`},
		{[]string{"go", "run", "../examples/go"}, `(?s)is sealed: \d{3} bytes.*is refused.*merchant JWT, until 20.*proximity token, [0-9a-f-]{36}\n.*version \d+, \d{4,} bytes\n$`},
		{[]string{"node", "../examples/node/journey.mjs"}, `(?s)ending in 5100\n.*\d{3} bytes of encryptedData\n.*of dev-mint\n.*[0-9a-f-]{36}, until 20.*\d{4,} bytes, application/vnd.apple.pkpass\n$`},
	} {
		cmd := exec.Command(example.command[0], append(example.command[1:], s.dir)...)
		cmd.Env = os.Environ()
		out, err := cmd.CombinedOutput()
		if err != nil || !regexp.MustCompile(example.said).Match(out) {
			t.Errorf("%v: %v:\n%s", example.command, err, out)
		}
	}
}
