package porttest

import (
	"errors"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// reserve binds a socket and does not listen: the kernel then gives the port to nobody who
// leaves the choice to it. With SO_REUSEADDR on both sockets, which a listener of package net
// has too, a second one may be bound and listen as long as the first does not.
func reserve() (string, func() error, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	port, err := bindAny(fd)
	if err != nil {
		return "", nil, errors.Join(err, unix.Close(fd))
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), func() error { return unix.Close(fd) }, nil
}

func bindAny(fd int) (port int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return bound.(*unix.SockaddrInet4).Port, nil
}
