// Package porttest keeps ports of this machine for tests. A test that starts a server in a
// process of its own often has to name its address before it listens; a port that was merely
// found free may be another test's, or the near end of somebody's connection, by the time the
// server comes to it.
package porttest

import "fmt"

// Reserve gives an address on loopback where nobody listens. Until release is called the port
// is given to nobody who asks for any, and whoever asks for it by its number gets it, as often
// as they want: whoever connects meanwhile is refused. Servers of Go, HAProxy and PostgreSQL can
// have it; one that does not set SO_REUSEADDR cannot.
//
// Only Linux keeps ports so. Elsewhere the address is one that was free.
func Reserve() (address string, release func() error, err error) {
	address, release, err = reserve()
	if err != nil {
		return "", nil, fmt.Errorf("reserve a port: %w", err)
	}
	return address, release, nil
}
