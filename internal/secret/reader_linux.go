package secret

import (
	"encoding/binary"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lentToUs reports whether root owns the file, and its access list has this process's user read
// it and nobody else.
func lentToUs(f *os.File, st os.FileInfo) bool {
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 {
		return false
	}
	list := make([]byte, 256) // far more entries than such a list has
	n, err := unix.Fgetxattr(int(f.Fd()), "system.posix_acl_access", list)
	return err == nil && onlyReads(list[:n], uint32(os.Geteuid()))
}

// The entries of an access list, as linux/posix_acl.h and posix_acl_xattr.h have them: a version
// of four bytes, then tag, rights and id of two, two and four, little-endian.
const (
	aclVersion = 2
	aclOwner   = 0x01
	aclUser    = 0x02
	aclGroup   = 0x04 // the file's own
	aclMask    = 0x10
	aclOther   = 0x20
	aclRead    = 4
)

// onlyReads reports whether a list allows the owner whatever it likes, this user to read, and
// nobody else anything.
func onlyReads(list []byte, user uint32) bool {
	if len(list) < 4 || len(list)%8 != 4 || binary.LittleEndian.Uint32(list) != aclVersion {
		return false
	}
	lent := false
	for e := list[4:]; len(e) > 0; e = e[8:] {
		tag, rights, id := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:])
		switch {
		case tag == aclOwner, tag == aclMask:
		case tag == aclUser && id == user && rights == aclRead:
			lent = true
		case (tag == aclGroup || tag == aclOther) && rights == 0:
		default:
			return false
		}
	}
	return lent
}
