package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pseudoTerminal gives both sides of a terminal.
func pseudoTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// terminal gives a terminal, and what has been written to it when it is closed.
func terminal(t *testing.T) (tty *os.File, shown func() string) {
	t.Helper()
	screen, tty := pseudoTerminal(t)
	return tty, func() string {
		const end = "~" // which nothing here writes: a read may give a part
		if _, err := tty.WriteString(end); err != nil {
			t.Error(err)
		}
		text, err := bufio.NewReader(screen).ReadString(end[0])
		if err := errors.Join(err, tty.Close()); err != nil {
			t.Error(err)
		}
		return strings.TrimSuffix(text, end)
	}
}

// What a terminal shows of a command's progress is one line, written over and gone at the
// end, in characters alone, whatever NO_COLOR says.
func TestProgressIsOneLineOfATerminal(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		t.Setenv("TERM", "xterm-256color")
		t.Setenv("NO_COLOR", noColor)
		tty, shown := terminal(t)
		m := meterTo(tty)
		m.step("making keys")
		m.step("at work")
		m.last = time.Now().Add(time.Hour)
		m.show("not yet: a moment has not passed")
		m.clear()
		m.clear()
		if got, want := shown(), "\rmaking keys\rat work    \r       \r"; got != want {
			t.Errorf("NO_COLOR=%q shows %q, want %q", noColor, got, want)
		}
	}
}

// Whoever is no terminal, or one that cannot write over a line, is told nothing.
func TestProgressIsForTerminalsAlone(t *testing.T) {
	silent := func(m *meter) bool {
		m.step("making keys")
		m.of(1, 2)
		m.clear()
		return m.to == nil
	}
	var buffer bytes.Buffer
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	read, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if !silent(meterTo(&buffer)) || !silent(meterTo(null)) || !silent(meterTo(pipe)) || buffer.Len() != 0 {
		t.Error("a file, a pipe or a buffer was told")
	}
	t.Setenv("TERM", "dumb")
	tty, _ := terminal(t)
	if !silent(meterTo(tty)) {
		t.Error("a dumb terminal was told")
	}
	for _, f := range []*os.File{null, read, pipe, tty} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What an export writes is what it is given, and counted on the way.
func TestExportedLinesAreCounted(t *testing.T) {
	t.Setenv("TERM", "xterm")
	tty, shown := terminal(t)
	var file strings.Builder
	c := &lineCounter{Writer: &file, meter: meterTo(tty)}
	if _, err := c.Write([]byte("{}\n{}\n{")); err != nil {
		t.Fatal(err)
	}
	if file.String() != "{}\n{}\n{" || shown() != "\r2 lines" {
		t.Errorf("wrote %q", file.String())
	}
}
