package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// errNotItsUser is wrapped where root would write among the files of a service that runs as
// another user.
var errNotItsUser = errors.New("root does not write there: what it makes, that service cannot open")

// asItsUser refuses root in a folder that belongs to somebody else. A lock, a list of refused
// PINs or a database that root left there would keep the service from its next login or start.
// Giving the files away instead would have root follow what that user has put in their place.
func asItsUser(folder string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) { // whoever opens a file in it says what is wrong
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	name := strconv.FormatUint(uint64(owner.Uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Errorf("%s is of the user %s: %w", folder, name, errNotItsUser)
}
