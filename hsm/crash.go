package hsm

import (
	"bytes"
	"io"
)

// untilCrash passes lines on, up to the one that begins the message of a crash; that one is
// the last.
type untilCrash struct {
	to   io.Writer
	line []byte // what has come of the current line
	over bool
}

// crashes are what the Go runtime's messages begin with.
var crashes = [][]byte{[]byte("SIG"), []byte("fatal error: "), []byte("panic: "), []byte("runtime: ")}

// maxLine bounds what is kept of a line that does not end.
const maxLine = 4 << 10

// Write always takes all of b: a log that cannot be written stops nobody.
func (u *untilCrash) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && !u.over {
		part, rest, ended := bytes.Cut(b, []byte("\n"))
		b = rest
		u.line = append(u.line, part...)
		if !ended && len(u.line) < maxLine {
			break
		}
		for _, c := range crashes {
			u.over = u.over || bytes.HasPrefix(u.line, c)
		}
		_, _ = u.to.Write(append(u.line, '\n'))
		u.line = u.line[:0]
	}
	return n, nil
}
