package porttest

import (
	"errors"
	"net"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A reserved port is refused to whoever connects, and to whoever would share it with nobody; a
// server gets it, and gets it again after it has ended.
func TestReservedPortIsForTheServerThatNamesIt(t *testing.T) {
	address, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", address); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens, and %v answers: %v", c, err)
	}
	for range 2 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := bindAlone(t, address); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("taken by another: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// bindAlone binds a socket that shares its address with nobody, as the kernel does for one that
// takes any port.
func bindAlone(t *testing.T, address string) error {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}
