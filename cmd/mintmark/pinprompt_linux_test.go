package main

import (
	"context"
	"errors"
	"os"
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
// shows again what is typed.
func TestPINPromptLeavesTheTerminalAsItWas(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	screen, tty := pseudoTerminal(t)
	if _, err := screen.WriteString("123456\n"); err != nil {
		t.Fatal(err)
	}
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
