package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// meter shows how far a long command is: one line of a terminal, written over and gone when
// the command is done. To a file, a pipe or a terminal that cannot write over (TERM=dumb) it
// says nothing. It uses no colour and no escape sequence, so that NO_COLOR has nothing to
// turn off.
type meter struct {
	to    io.Writer // nil: nobody looks
	shown int       // characters on the line
	last  time.Time
}

// meterEvery is how often the line is written at most.
const meterEvery = 100 * time.Millisecond

// meterTo is a meter on w, which is a command's standard error.
func meterTo(w io.Writer) *meter {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return &meter{}
	}
	// Not any character device: /dev/null is one.
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return &meter{}
	}
	return &meter{to: f}
}

// step says what is begun now, at once.
func (m *meter) step(format string, a ...any) {
	m.last = time.Time{}
	m.show(format, a...)
}

// show says how far it is, unless it did a moment ago.
func (m *meter) show(format string, a ...any) {
	now := time.Now()
	if m.to == nil || now.Sub(m.last) < meterEvery {
		return
	}
	m.last = now
	m.write(fmt.Sprintf(format, a...))
}

// clear takes the line away: before a line that is to stay, and at the end.
func (m *meter) clear() {
	if m.to == nil || m.shown == 0 {
		return
	}
	m.write("")
	_, _ = io.WriteString(m.to, "\r")
}

// write puts text over what the line had.
func (m *meter) write(text string) {
	n := len([]rune(text))
	_, _ = fmt.Fprintf(m.to, "\r%s%s", text, strings.Repeat(" ", max(0, m.shown-n)))
	m.shown = n
}

// of is the meter as verification takes it: entries done, of how many.
func (m *meter) of(done, all uint64) {
	m.show("%d of %d entries (%d %%)", done, all, 100*done/max(all, 1))
}

// lineCounter passes on what is written to it, and shows how many lines that was.
type lineCounter struct {
	io.Writer
	meter *meter
	lines int
}

func (c *lineCounter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.lines += strings.Count(string(p[:n]), "\n")
	c.meter.show("%d lines", c.lines)
	return n, err
}
