//go:build !linux

package porttest

import "net"

// reserve finds a port that is free at the moment.
func reserve() (string, func() error, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() error { return nil }, l.Close()
}
