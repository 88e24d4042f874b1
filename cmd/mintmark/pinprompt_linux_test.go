package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shows reports whether a terminal shows what is typed.
func shows(t *testing.T, tty *os.File) bool {
	t.Helper()
	was, err := changeTerminal(tty, func(*unix.Termios) {})
	if err != nil {
		t.Fatal(err)
	}
	return was.Lflag&unix.ECHO != 0
}

// A PIN is read without being shown, and whoever interrupts the question has a terminal that
// shows again what is typed. Of a line that is too long nothing is left for the next reader.
func TestPINPromptLeavesTheTerminalAsItWas(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	screen, tty := pseudoTerminal(t)
	typed := func(line string) {
		t.Helper()
		if _, err := screen.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	typed(strings.Repeat("7", 600))
	if line, err := readUnseen(ctx, tty); err == nil {
		t.Errorf("of a line that is too long it read %q", line)
	}
	typed("123456")
	if line, err := readUnseen(ctx, tty); err != nil || string(line) != "123456\n" {
		t.Errorf("read %q, %v", line, err)
	}
	if !shows(t, tty) {
		t.Error("after the PIN the terminal shows nothing")
	}
	interrupt()
	if _, err := readUnseen(ctx, tty); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is interrupted: %v", err)
	}
	if !shows(t, tty) {
		t.Error("after an interrupt the terminal shows nothing")
	}
}
