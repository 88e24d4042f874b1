package hsm

import (
	"bytes"
	"io"
	"regexp"
)

// crashWord passes on what a child prints, and of what the Go runtime prints at a crash the
// first line alone: in its stacks and registers is what was worked on. GOTRACEBACK does not
// do that: at a fatal signal the runtime prints both whatever it says (runtime.gotraceback).
type crashWord struct {
	to   io.Writer
	head []byte // of the line that is being printed
	over bool
}

// crashLine is how the runtime's word begins.
var crashLine = regexp.MustCompile(`^(SIG[A-Z]{3,4}: |fatal error: |panic: )`)

// Write takes everything: nothing here is a reason for the child to wait or to end.
func (c *crashWord) Write(p []byte) (int, error) {
	const enough = 16 // to tell by
	for rest := p; len(rest) > 0 && !c.over; {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		c.head = append(c.head, line[:min(len(line), enough-min(enough, len(c.head)))]...)
		if whole {
			line = rest[:len(line)+1]
			c.over, c.head = crashLine.Match(c.head), c.head[:0]
		}
		_, _ = c.to.Write(line)
		rest = more
	}
	return len(p), nil
}
