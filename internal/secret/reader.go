package secret

import (
	"fmt"
	"os"
)

// OneReader refuses a file of secrets that others than one user, and root, may read or write:
// by its mode, or by the access list with which systemd (254 and later) lends a service a
// credential of root's. There the mode's middle digit is the list's mask and no group's right.
func OneReader(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	perm := st.Mode().Perm()
	if perm&0o077 == 0 || lentToUs(f, st) {
		return nil
	}
	return fmt.Errorf("%s has mode %04o; chmod it to 0400 or 0600", f.Name(), perm)
}
