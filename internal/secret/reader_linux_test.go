package secret

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// acl is an access list of tag, rights and id each.
func acl(entries ...[3]uint32) []byte {
	list := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	return list
}

// What systemd 257 puts on a credential of the user 996, and what differs from it.
func TestAnAccessListMayLendAFileToOneReader(t *testing.T) {
	const user, nobody = 996, 0xffffffff
	owner, mask := [3]uint32{aclOwner, aclRead, nobody}, [3]uint32{aclMask, aclRead, nobody}
	ours := [3]uint32{aclUser, aclRead, user}
	group, other := [3]uint32{aclGroup, 0, nobody}, [3]uint32{aclOther, 0, nobody}
	for name, tt := range map[string]struct {
		list []byte
		want bool
	}{
		"lent to us":              {acl(owner, ours, group, mask, other), true},
		"to somebody else":        {acl(owner, [3]uint32{aclUser, aclRead, 997}, group, mask, other), false},
		"to us and another":       {acl(owner, ours, [3]uint32{aclUser, aclRead, 997}, group, mask, other), false},
		"to write, too":           {acl(owner, [3]uint32{aclUser, 6, user}, group, mask, other), false},
		"to its group, too":       {acl(owner, ours, [3]uint32{aclGroup, aclRead, nobody}, mask, other), false},
		"to another group, too":   {acl(owner, ours, group, [3]uint32{0x08, aclRead, 5}, mask, other), false},
		"to everybody, too":       {acl(owner, ours, group, mask, [3]uint32{aclOther, aclRead, nobody}), false},
		"to nobody":               {acl(owner, group, other), false},
		"nothing":                 {nil, false},
		"a version of the future": {append([]byte{3, 0, 0, 0}, acl(ours)[4:]...), false},
		"cut off":                 {acl(owner, ours)[:15], false},
	} {
		if got := onlyReads(tt.list, user); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A PIN file of mode 0440 is refused, unless the group's right is such a list's mask.
func TestLentPINFileIsRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can lend a file")
	}
	path := filepath.Join(t.TempDir(), "pin")
	if err := errors.Join(os.WriteFile(path, []byte("1234"), 0o600), os.Chmod(path, 0o440)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPINFile(path); !errors.Is(err, ErrPINFile) {
		t.Errorf("readable by a group: %v", err)
	}
	const nobody = 0xffffffff
	lent := acl([3]uint32{aclOwner, aclRead, nobody}, [3]uint32{aclUser, aclRead, 0}, [3]uint32{aclGroup, 0, nobody}, [3]uint32{aclMask, aclRead, nobody}, [3]uint32{aclOther, 0, nobody})
	if err := unix.Setxattr(path, "system.posix_acl_access", lent, 0); err != nil {
		t.Skip("this file system has no access lists:", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o440 {
		t.Errorf("the mode is %v", st.Mode())
	}
	pin, err := ReadPINFile(path)
	if err != nil {
		t.Errorf("lent to this user: %v", err)
	}
	pin.Wipe()
}
