package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/internal/secret"
)

// promptPIN asks for a PIN on the terminal, without showing it, and gives the path of a file
// that holds it: in memory, of this process alone, until remove. A PIN is never an argument
// or a variable of the environment, which others can read. It asks until ctx ends.
func promptPIN(ctx context.Context, to io.Writer, member string) (path string, remove func(), err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", nil, fmt.Errorf("ask for the PIN: there is no terminal: %w", err)
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	fmt.Fprintf(to, "PIN of %s: ", member)
	line, err := readUnseen(ctx, tty)
	fmt.Fprintln(to)
	defer secret.Wipe(line)
	if err != nil {
		return "", nil, fmt.Errorf("ask for the PIN: %w", err)
	}
	fd, err := unix.MemfdCreate("pin", unix.MFD_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("keep the PIN: %w", err)
	}
	file := os.NewFile(uintptr(fd), "pin")
	if _, err := file.Write(line); err != nil {
		return "", nil, errors.Join(err, file.Close())
	}
	if err := file.Chmod(0o600); err != nil {
		return "", nil, errors.Join(err, file.Close())
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() { _ = file.Close() }, nil
}

// readUnseen reads a line of a terminal that does not show it, until ctx ends. However it
// returns, the terminal is as it was; with an error nothing is left there of what was typed,
// which the shell would show.
func readUnseen(ctx context.Context, tty *os.File) (_ []byte, err error) {
	was, err := changeTerminal(tty, func(t *unix.Termios) {
		t.Lflag &^= unix.ECHO
		t.Lflag |= unix.ICANON | unix.ISIG
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			forget(tty)
		}
		_, _ = changeTerminal(tty, func(t *unix.Termios) { *t = was })
	}()
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Now()) })
	defer stop()
	line := make([]byte, 512) // the terminal gives one line at a time
	n, err := tty.Read(line)
	if ctx.Err() != nil {
		secret.Wipe(line)
		return nil, ctx.Err()
	}
	if err != nil || n == 0 || line[n-1] != '\n' {
		secret.Wipe(line)
		return nil, errors.Join(err, errors.New("no line of at most 511 bytes was given"))
	}
	return line[:n], nil
}

// forget drops what was typed on a terminal and not read.
func forget(tty *os.File) {
	if raw, err := tty.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH) })
	}
}

// changeTerminal changes a terminal's settings and gives those before. It leaves it one that
// deadlines count for, which Fd would not.
func changeTerminal(tty *os.File, change func(*unix.Termios)) (was unix.Termios, err error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return was, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var t *unix.Termios
		if t, failed = unix.IoctlGetTermios(int(fd), unix.TCGETS); failed != nil {
			return
		}
		was = *t
		change(t)
		failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	return was, errors.Join(err, failed)
}
