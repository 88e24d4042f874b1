package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/internal/secret"
)

// promptPIN asks for a PIN on the terminal, without showing it, and gives the path of a file
// that holds it: in memory, of this process alone, until remove. A PIN is never an argument
// or a variable of the environment, which others can read.
func promptPIN(to io.Writer, member string) (path string, remove func(), err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", nil, fmt.Errorf("ask for the PIN: there is no terminal: %w", err)
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	fmt.Fprintf(to, "PIN of %s: ", member)
	line, err := readUnseen(tty)
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

// readUnseen reads a line of a terminal that does not show it.
func readUnseen(tty *os.File) ([]byte, error) {
	fd := int(tty.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *was
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }()
	line := make([]byte, 512) // the terminal gives one line at a time
	n, err := tty.Read(line)
	if err != nil || n == 0 || line[n-1] != '\n' {
		secret.Wipe(line)
		return nil, errors.Join(err, errors.New("no line of at most 511 bytes was given"))
	}
	return line[:n], nil
}
